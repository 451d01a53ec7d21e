#![doc = include_str!("../README.md")]

mod tensor;
mod weights;

pub use tensor::{Normalization, images_to_tensor, tensor_to_feature_map, tensor_to_prob_map, tensor_to_rows};
pub use weights::{CORALSCOP_WEIGHTS_PAGE, Checkpoint, convert_to_safetensors, load};

pub use candle_core;
pub use candle_nn;
