//! Class maps of rasters that are larger than memory, tile by tile.

mod band;
mod config;
mod driver;
mod image_band;

pub use config::{Fusion, RasterMapConfig};
pub use driver::RasterMapper;
