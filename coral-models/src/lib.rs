#![doc = include_str!("../README.md")]

mod sam;
mod tensor;

pub use sam::{
    AreaLimit, CleanedMask, Crop, GeneratorConfig, GridPoint, TileConfig, TileMasks, box_nms, crop_boxes,
    feature_similarity, group_by_similarity, is_cut_by_crop, join_tiles, point_grid, remove_small_regions,
    stability_score, tile_boxes,
};
pub use tensor::{Normalization, images_to_tensor, tensor_to_feature_map, tensor_to_prob_map, tensor_to_rows};

pub use candle_core;
pub use candle_nn;
