mod config;
mod image_encoder;
mod mask_decoder;
mod model;
mod prompt_encoder;
mod semantic_branch;
mod two_way_transformer;

pub use config::{EncoderConfig, SamConfig, SemanticConfig, VitConfig};
pub use model::Sam;
