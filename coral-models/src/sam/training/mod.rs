//! Training of networks of the Segment Anything family.

mod prompts;
mod targets;

pub use prompts::{PromptConfig, PromptRound, correction_point};
pub use targets::low_res_mask;
