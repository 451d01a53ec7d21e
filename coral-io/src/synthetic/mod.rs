//! Made-up reef photographs with exact labels.
//!
//! Geometry first ([`ground`], [`placement`], [`colony`], painted onto the [`canvas`]), then colour and fine
//! relief ([`ground_skin`], [`skin`]), then light ([`shading`]), then water and camera ([`water`]).

mod canvas;
mod classes;
mod colonies;
mod colony;
mod config;
mod dataset;
mod geometry;
mod ground;
mod ground_skin;
mod lagoon;
mod meadow;
mod noise;
mod placement;
mod reef;
mod shading;
mod skin;
mod taxa;
mod water;

pub use colonies::SyntheticColonies;
pub use config::{GrowthForm, SyntheticReefConfig};
pub use dataset::SyntheticReefDataset;
pub use lagoon::{LagoonFrame, LagoonSurvey, SyntheticLagoon, SyntheticLagoonConfig};
pub use meadow::{MeadowScene, Seagrass, SyntheticMeadow, SyntheticMeadowConfig, SyntheticMeadowDataset, patch_truth};
pub use reef::{SyntheticReef, SyntheticScene};

#[cfg(test)]
mod tests;
