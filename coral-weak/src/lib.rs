#![doc = include_str!("../README.md")]

mod blur;
mod gaussian_process;
mod lab;
mod largest_class;
mod multi_level;
mod parallel;
mod point_fill;
mod registry;
mod slic;
mod superpixel_propagator;
mod superpixels;

pub use gaussian_process::{GaussianProcessConfig, GaussianProcessPropagator, gaussian_process_labels};
pub use lab::{lab_color, lab_image};
pub use largest_class::{LargestClassPropagator, largest_class_labels};
pub use multi_level::{Fill, MultiLevelConfig, MultiLevelPropagator, multi_level_labels};
pub use registry::{DEFAULT_METHOD, DefaultPropagator, METHODS, Method, propagator};
pub use slic::{SlicConfig, slic, slic_lab};
pub use superpixel_propagator::{SuperpixelConfig, SuperpixelPropagator, majority_classes, superpixel_labels};
pub use superpixels::{Adjacency, Superpixels};
