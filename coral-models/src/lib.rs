#![doc = include_str!("../README.md")]

mod clip;
mod layers;
mod ops;
mod resize;
mod sam;
mod tensor;
mod weights;

pub use clip::{
    Clip, ClipActivation, ClipConfig, ClipDense, ClipEncoder, ClipEncoderConfig, ClipImageConfig, ClipPreprocess,
    ClipTextConfig, ClipTokenizer,
};
pub use resize::{
    Interpolation, OpenCvInterpolation, PillowFilter, PlaneResampler, resize_image, resize_image_opencv, resize_plane,
};
pub use sam::{
    AreaLimit, CleanedMask, Crop, DecodedMask, Embedding, EncoderConfig, GeneratorConfig, GridPoint, MaskGenerator,
    Predictor, PredictorConfig, Sam, SamConfig, SemanticConfig, TileConfig, TileMasks, TinyVitConfig, VitConfig,
    box_nms, crop_boxes, feature_similarity, group_by_similarity, is_cut_by_crop, join_tiles, point_grid,
    remove_small_regions, stability_score, tile_boxes,
};
pub use tensor::{Normalization, images_to_tensor, tensor_to_feature_map, tensor_to_prob_map, tensor_to_rows};
pub use weights::{CORALSCOP_WEIGHTS_PAGE, Checkpoint, convert_to_safetensors, load};

pub use candle_core;
pub use candle_nn;
