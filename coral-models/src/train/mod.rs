//! Training: variables, gradients, optimisers and what goes around them.

mod initial;
mod parameters;
mod sources;

pub use parameters::{Fresh, Parameters};
