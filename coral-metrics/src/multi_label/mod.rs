//! Several labels per sample: scores of decisions, and the thresholds that make them of probabilities.

mod counts;
mod thresholds;

pub use counts::{MultiLabelCounts, MultiLabelScores};
pub use thresholds::{ClassThreshold, SoftTargets, ThresholdConfig, best_thresholds, f1_curve};
