//! Training: variables, gradients, optimisers and what goes around them.

mod average;
mod early_stopping;
mod gradients;
mod in_place;
mod initial;
mod optimizer;
mod parameters;
mod schedule;
mod sources;
mod state;
#[cfg(test)]
mod testing;
mod trainer;
mod update;

pub use average::{AverageConfig, ExponentialAverage};
pub use early_stopping::{EarlyStopping, EarlyStoppingConfig};
pub use gradients::Gradients;
pub use optimizer::{Optimizer, OptimizerConfig};
pub use parameters::{Fresh, Parameters};
pub use schedule::{CosineConfig, Goal, Interval, PlateauConfig, Schedule, ScheduleConfig, Threshold};
pub use trainer::{Trainer, TrainerConfig};
