//! DINOv2: the encoder, the multi-label head of DinoVdeau, and what trains the head on features that are kept.

mod block;
mod config;
mod detect;
mod encoder;
mod fit;
mod frame_classifier;
mod frame_features;
mod frame_head;
mod head;
mod names;
mod network;
mod preprocess;
#[cfg(test)]
mod tests;

pub use config::{DinoV2Config, DinoV2Mlp, PositionInterpolation};
pub use encoder::{DinoV2Encoder, DinoV2EncoderConfig};
pub use fit::{FrameHeadEpoch, FrameHeadFit, FrameHeadReport, FrameSamples};
pub use frame_classifier::FrameClassifier;
pub use frame_features::FrameFeatures;
pub use frame_head::{FrameHead, FrameHeadInfo};
pub use head::{MultiLabelHead, MultiLabelHeadConfig};
pub use network::{DinoV2, DinoV2Tokens};
pub use preprocess::{InputFilter, InputSize};
