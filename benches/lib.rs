//! Shared inputs of the benchmarks.

mod sam_inputs;

pub use sam_inputs::{Weights, builder, clicks, photograph, planes, random_weights, rival_sam, sam_weights};
