//! What training a network needs besides the network: variables, gradients, optimisers, losses and batches.

mod augmentation;
mod average;
mod batches;
mod early_stopping;
mod gradients;
mod in_parts;
mod initial;
mod loss;
mod optimizer;
mod order;
mod parameters;
mod schedule;
mod settings;
mod sources;
mod state;
#[cfg(test)]
mod testing;
mod trained;
mod trainer;
mod update;

pub(crate) use augmentation::check_size;
pub use augmentation::{Augmentation, ChannelShift, ColorJitter, GaussianBlur, RandomCrop};
pub use average::{AverageConfig, ExponentialAverage};
pub use batches::{BatchPlan, LoaderConfig, for_each_batch};
pub use early_stopping::{EarlyStopping, EarlyStoppingConfig};
pub use gradients::Gradients;
pub(crate) use gradients::add_backward;
pub use loss::{
    CrossEntropyConfig, DiceClasses, DiceConfig, DiceScope, FocalConfig, Reduction, SeafeatsLoss, SegmentationLoss,
    bce_with_logits, binary_dice_loss, cross_entropy, dice_loss, focal_cross_entropy, focal_loss, mse, nt_xent,
    seafeats_loss, soft_cross_entropy,
};
pub(crate) use loss::{dice_per_mask, focal_per_mask};
pub use optimizer::{Optimizer, OptimizerConfig};
pub use order::{batch_indices, epoch_order, weighted_order};
pub use parameters::{Fresh, Parameters};
pub use schedule::{CosineConfig, Goal, Interval, PlateauConfig, Schedule, ScheduleConfig, Threshold};
pub(crate) use settings::resume_alike;
pub(crate) use state::STATE_PREFIXES;
pub(crate) use trained::{Settings, Trained};
pub use trainer::{Monitor, Trainer, TrainerConfig};
