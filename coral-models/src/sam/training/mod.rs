//! Training of networks of the Segment Anything family.

mod backward;
mod class_maps;
mod config;
mod embedded;
mod loss;
mod prompts;
mod rollout;
mod sample;
mod targets;
#[cfg(test)]
mod tests;
mod trainer;
mod tuned_head;

pub(super) use backward::Backward;
pub use class_maps::ClassMaps;
pub(super) use config::fresh_semantics;
pub use config::{SamFitConfig, SamPart, SamTrainerConfig};
pub use embedded::{EmbeddedImage, EmbeddedImages};
pub use loss::SamLoss;
pub(super) use loss::{Shares, Truths};
pub use prompts::{PromptConfig, PromptRound, correction_point};
pub(super) use prompts::{middle, pixel_of};
pub(super) use rollout::{RoundInput, Scene, Wanted};
pub(super) use targets::LowResFrame;
pub use targets::low_res_mask;
pub(super) use trainer::EpochSums;
pub use trainer::{SamEpoch, SamTrainer};
pub use tuned_head::TunedHead;
