mod block;
mod config;
mod detect;
mod encoder;
mod fingerprint;
mod names;
mod network;
mod preprocess;
#[cfg(test)]
mod tests;

pub use config::{DinoV2Config, DinoV2Mlp, PositionInterpolation};
pub use encoder::{DinoV2Encoder, DinoV2EncoderConfig};
pub use network::{DinoV2, DinoV2Tokens};
pub use preprocess::{InputFilter, InputSize};
