//! What tests of the coral crates, and of crates that implement their traits, need.
//!
//! [`GoldenCase`] reads reference values of published programs. The `check_*` functions
//! are the conformance suites: each runs an implementation through the contract of its
//! trait and lists what it violates.

mod classifiers;
mod conformance;
mod golden;
mod segmenters;

pub use classifiers::{
    check_cell_labeler, check_grid_classifier, check_multi_label_classifier, check_patch_classifier,
    check_pseudo_labeler,
};
pub use conformance::{MetricSuite, Violations, check_dataset, check_metric, check_point_propagator};
pub use golden::GoldenCase;
pub use segmenters::check_segmenter;
