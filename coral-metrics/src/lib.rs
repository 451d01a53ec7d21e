#![doc = include_str!("../README.md")]

mod agreement;
mod class_mean;
mod confusion;
mod cover;
mod report;
mod tally;

pub use class_mean::ClassMean;
pub use confusion::ConfusionMatrix;
pub use cover::{CoverCounts, CoverError, CoverErrorSummary, cover};
pub use report::{ClassReport, Report};
