mod config;
mod detect;
mod encoder;
#[cfg(test)]
mod gradient_tests;
mod image_tower;
mod model;
mod names;
mod neighbours;
mod preprocess;
#[cfg(test)]
mod tests;
mod text_tower;
mod tokenizer;
mod transformer;

pub use config::{ClipActivation, ClipConfig, ClipImageConfig, ClipTextConfig};
pub use encoder::{ClipEncoder, ClipEncoderConfig};
pub use image_tower::ClipDense;
pub use model::Clip;
pub use preprocess::ClipPreprocess;
pub use tokenizer::ClipTokenizer;
