//! Residual networks, as encoders and as classifiers of patches.

mod config;
mod conv_norm;
mod model;
mod names;
mod patch_network;

pub use config::ResNetConfig;
pub use conv_norm::Mode;
pub use model::ResNet;
pub use patch_network::{HiddenLayer, PatchNetwork, PatchNetworkConfig};
