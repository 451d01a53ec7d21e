//! Masks for everything in an image: a grid of clicks on the image and on overlapping crops of it, and the rules by
//! which the best of the resulting masks are kept.

mod config;
mod crops;
mod disjoint_sets;
mod nms;
mod point_grid;
mod similarity;
mod stability;

pub use config::{AreaLimit, GeneratorConfig};
pub use crops::{Crop, crop_boxes, is_cut_by_crop};
pub use nms::box_nms;
pub use point_grid::{GridPoint, point_grid};
pub use similarity::{feature_similarity, group_by_similarity};
pub use stability::stability_score;
