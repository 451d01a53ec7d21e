//! Segment Anything and CoralSCOP.

mod automatic;

pub use automatic::{
    AreaLimit, CleanedMask, Crop, GeneratorConfig, GridPoint, TileConfig, TileMasks, box_nms, crop_boxes,
    feature_similarity, group_by_similarity, is_cut_by_crop, join_tiles, point_grid, remove_small_regions,
    stability_score, tile_boxes,
};
