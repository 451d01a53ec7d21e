#![doc = include_str!("../README.md")]

mod layers;
mod ops;
mod resize;
mod sam;
mod tensor;
mod weights;

pub use resize::{
    Interpolation, OpenCvInterpolation, PillowFilter, PlaneResampler, resize_image, resize_image_opencv, resize_plane,
};
pub use sam::{
    DecodedMask, Embedding, EncoderConfig, Predictor, PredictorConfig, Sam, SamConfig, SemanticConfig, TinyVitConfig,
    VitConfig,
};
pub use tensor::{Normalization, images_to_tensor, tensor_to_feature_map, tensor_to_prob_map, tensor_to_rows};
pub use weights::{Checkpoint, convert_to_safetensors, load};

pub use candle_core;
pub use candle_nn;
