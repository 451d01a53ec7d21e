#![doc = include_str!("../README.md")]

mod lab;
mod multi_level;
mod parallel;
mod point_fill;
mod slic;
mod superpixel_propagator;
mod superpixels;

pub use lab::{lab_color, lab_image};
pub use multi_level::{Fill, MultiLevelConfig, MultiLevelPropagator, multi_level_labels};
pub use slic::{SlicConfig, slic, slic_lab};
pub use superpixel_propagator::{SuperpixelConfig, SuperpixelPropagator, majority_classes, superpixel_labels};
pub use superpixels::{Adjacency, Superpixels};
