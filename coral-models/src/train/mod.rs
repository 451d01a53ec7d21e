//! Training: variables, gradients, optimisers and what goes around them.

mod gradients;
mod in_place;
mod initial;
mod optimizer;
mod parameters;
mod sources;
mod update;

pub use gradients::Gradients;
pub use optimizer::{Optimizer, OptimizerConfig};
pub use parameters::{Fresh, Parameters};
