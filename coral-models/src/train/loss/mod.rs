//! Losses: scalars that gradients flow back from, composed of operations whose gradients are right in candle.

mod binary;
mod contrastive;
mod cross_entropy;
mod dice;
mod focal;
mod seafeats;
mod segmentation;
mod softmax;
mod targets;

pub use binary::{bce_with_logits, mse};
pub use contrastive::nt_xent;
pub use cross_entropy::{CrossEntropyConfig, Reduction, cross_entropy, soft_cross_entropy};
pub(crate) use dice::dice_per_mask;
pub use dice::{DiceClasses, DiceConfig, DiceScope, binary_dice_loss, dice_loss};
pub(crate) use focal::focal_per_mask;
pub use focal::{FocalConfig, focal_cross_entropy, focal_loss};
pub use seafeats::{SeafeatsLoss, seafeats_loss};
pub use segmentation::SegmentationLoss;
