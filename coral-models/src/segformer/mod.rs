//! SegFormer: a Mix Transformer with a head of linear layers, and what trains it and segments images with it.

mod block;
mod config;
mod detect;
mod encoder;
mod files;
mod fit;
mod head;
mod model;
mod names;
mod segment;
mod segmenter;
#[cfg(test)]
mod tests;

pub use config::SegFormerConfig;
pub use files::SegFormerPart;
pub use fit::{SegFormerFitConfig, ValidationReport};
pub use model::SegFormer;
pub use segmenter::{SegFormerSegmenter, SegFormerSegmenterConfig};
