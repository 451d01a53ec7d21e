//! Masks for everything in an image: a grid of clicks on the image and on overlapping crops of it, and the rules by
//! which the best of the resulting masks are kept.

mod config;
mod crops;
mod decoder;
mod disjoint_sets;
#[cfg(test)]
mod fake;
mod generate;
mod generator;
mod join;
mod nms;
mod point_grid;
mod similarity;
mod small_regions;
mod stability;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tiled_tests;
mod tiles;

pub use config::{AreaLimit, GeneratorConfig};
pub use crops::{Crop, crop_boxes, is_cut_by_crop};
pub use generator::MaskGenerator;
pub use join::{TileMasks, join_tiles};
pub use nms::box_nms;
pub use point_grid::{GridPoint, point_grid};
pub use similarity::{feature_similarity, group_by_similarity};
pub use small_regions::{CleanedMask, remove_small_regions};
pub use stability::stability_score;
pub use tiles::{TileConfig, tile_boxes};
