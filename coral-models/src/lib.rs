#![doc = include_str!("../README.md")]

mod resize;
mod tensor;

pub use resize::{
    Interpolation, OpenCvInterpolation, PillowFilter, PlaneResampler, resize_image, resize_image_opencv, resize_plane,
};
pub use tensor::{Normalization, images_to_tensor, tensor_to_feature_map, tensor_to_prob_map, tensor_to_rows};

pub use candle_core;
pub use candle_nn;
