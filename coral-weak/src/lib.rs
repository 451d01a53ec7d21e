#![doc = include_str!("../README.md")]

mod lab;
mod parallel;
mod superpixels;

pub use lab::{lab_color, lab_image};
pub use superpixels::{Adjacency, Superpixels};
