#![doc = include_str!("../README.md")]

mod agreement;
mod class_mean;
mod colonies;
mod confusion;
mod cover;
mod multi_label;
mod report;
mod sizes;
mod tally;

pub use class_mean::ClassMean;
pub use colonies::{ClassColonies, ColonyConfig, ColonyStatistics, ColonySurvey};
pub use confusion::ConfusionMatrix;
pub use cover::{CoverCounts, CoverError, CoverErrorSummary, cover};
pub use multi_label::{
    ClassThreshold, MultiLabelCounts, MultiLabelScores, SoftTargets, ThresholdConfig, best_thresholds, f1_curve,
};
pub use report::{ClassReport, Report};
pub use sizes::{SizeDistribution, SizeHistogram};
