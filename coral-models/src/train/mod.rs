//! What training a network needs besides the network.

mod augmentation;
mod batches;
mod loss;

pub use augmentation::{Augmentation, ChannelShift, ColorJitter, GaussianBlur, RandomCrop};
pub use batches::{BatchPlan, LoaderConfig, batch_indices, epoch_order, for_each_batch, weighted_order};
pub use loss::{
    CrossEntropyConfig, DiceClasses, DiceConfig, DiceScope, FocalConfig, Reduction, SeafeatsLoss, bce_with_logits,
    binary_dice_loss, cross_entropy, dice_loss, focal_cross_entropy, focal_loss, mse, nt_xent, seafeats_loss,
    soft_cross_entropy,
};
