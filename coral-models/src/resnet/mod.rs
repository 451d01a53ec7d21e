//! Residual networks, as encoders and as classifiers of patches.

mod classifier;
mod classify;
mod config;
mod conv_norm;
mod files;
mod fit;
mod labeled_cells;
mod model;
mod names;
mod patch_network;
mod simclr;
#[cfg(test)]
mod tests;

pub use classifier::{FitConfig, ResNetClassifier, ResNetClassifierConfig};
pub use config::ResNetConfig;
pub use model::ResNet;
pub use patch_network::{Cells, HiddenLayer, PatchNetwork, PatchNetworkConfig};
pub use simclr::{SimClr, SimClrConfig};
