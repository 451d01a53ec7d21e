//! Sentences as prompts.

mod adapter;
mod config;
mod prompter;
mod sample;
mod sentences;
#[cfg(test)]
mod tests;

pub use config::{TextAdapterConfig, TextFitConfig, TextPart, TextPrompterConfig};
pub use prompter::{TextAnswer, TextPrompter};
pub use sample::InstructedImage;
pub use sentences::SentenceEmbeddings;
