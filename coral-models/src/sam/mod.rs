mod config;
mod embedding;
mod image_encoder;
mod mask_decoder;
mod model;
mod predictor;
mod preprocess;
mod prompt_encoder;
mod prompt_tokens;
mod semantic_branch;
#[cfg(test)]
mod tests;
mod tiny_vit;
mod two_way_transformer;

pub use config::{EncoderConfig, SamConfig, SemanticConfig, VitConfig};
pub use embedding::Embedding;
pub use model::Sam;
pub use predictor::{DecodedMask, Predictor, PredictorConfig};
pub use tiny_vit::TinyVitConfig;
