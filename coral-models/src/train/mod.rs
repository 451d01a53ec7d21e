//! What training a network needs besides the network: variables, gradients, optimisers, losses and batches.

mod augmentation;
mod batches;
mod gradients;
mod in_place;
mod initial;
mod loss;
mod optimizer;
mod parameters;
mod sources;
mod update;

pub use augmentation::{Augmentation, ChannelShift, ColorJitter, GaussianBlur, RandomCrop};
pub use batches::{BatchPlan, LoaderConfig, batch_indices, epoch_order, for_each_batch, weighted_order};
pub use gradients::Gradients;
pub use loss::{
    CrossEntropyConfig, Reduction, SeafeatsLoss, bce_with_logits, cross_entropy, mse, nt_xent, seafeats_loss,
    soft_cross_entropy,
};
pub use optimizer::{Optimizer, OptimizerConfig};
pub use parameters::{Fresh, Parameters};
