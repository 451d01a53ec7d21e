//! A made-up lagoon that a drone and a boat survey: [`scene`] says what grows where, [`skin`] how it looks from any
//! height, [`survey`] takes the frames.

mod config;
mod scene;
mod skin;
mod survey;

pub use config::SyntheticLagoonConfig;
pub use scene::SyntheticLagoon;
pub use survey::{LagoonFrame, LagoonSurvey};

#[cfg(test)]
mod tests;
