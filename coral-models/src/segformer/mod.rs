//! SegFormer: a Mix Transformer with a head of linear layers, and what trains it and segments images with it.

mod block;
mod config;
mod detect;
mod encoder;
mod head;
mod model;
mod names;

pub use config::SegFormerConfig;
pub use model::SegFormer;
