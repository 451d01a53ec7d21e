//! Made-up photographs of seagrass meadows, each with one label, and the true class of every pixel.
//!
//! Where the meadow grows comes first ([`layout`]), then its plants ([`plants`], painted onto the reef's canvas), then
//! their colours ([`skin`]); ground, light, water and camera are the reef's.

mod config;
mod dataset;
mod layout;
mod plants;
mod scene;
mod skin;
mod truth;

pub use config::{Seagrass, SyntheticMeadowConfig};
pub use dataset::SyntheticMeadowDataset;
pub use scene::{MeadowScene, SyntheticMeadow};
pub use truth::patch_truth;

#[cfg(test)]
mod tests;
