//! What the example `seagrass` is made of.

mod color_words;
mod experiment;
mod plan;
mod scores;
mod states;
mod survey;

pub use color_words::ColorWords;
pub use experiment::Experiment;
pub use plan::Plan;
pub use scores::{Method, Scores, score_table, write_maps, write_scores};
pub use states::{Sources, Stage, States, TrainingSettings};
pub use survey::{Survey, folder_survey, synthetic_survey};

#[cfg(test)]
mod tests;
