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

pub use class_maps::ClassMaps;
pub use config::{SamFitConfig, SamPart, SamTrainerConfig};
pub use embedded::{EmbeddedImage, EmbeddedImages};
pub use loss::SamLoss;
pub use prompts::{PromptConfig, PromptRound, correction_point};
pub use targets::low_res_mask;
pub use trainer::{SamEpoch, SamTrainer};
pub use tuned_head::TunedHead;
