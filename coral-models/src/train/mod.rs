//! What training a network needs besides the network.

mod augmentation;
mod batches;
mod loss;
mod order;

pub use augmentation::{Augmentation, ChannelShift, ColorJitter, GaussianBlur, RandomCrop};
pub use batches::{BatchPlan, LoaderConfig, for_each_batch};
pub use loss::{
    CrossEntropyConfig, DiceClasses, DiceConfig, DiceScope, FocalConfig, Reduction, SeafeatsLoss, bce_with_logits,
    binary_dice_loss, cross_entropy, dice_loss, focal_cross_entropy, focal_loss, mse, nt_xent, seafeats_loss,
    soft_cross_entropy,
};
pub use order::{batch_indices, epoch_order, weighted_order};
