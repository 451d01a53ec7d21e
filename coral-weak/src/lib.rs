#![doc = include_str!("../README.md")]

mod lab;
mod parallel;
mod slic;
mod superpixels;

pub use lab::{lab_color, lab_image};
pub use slic::{SlicConfig, slic, slic_lab};
pub use superpixels::{Adjacency, Superpixels};
