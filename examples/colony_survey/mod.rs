//! What the examples `tune_coralscop` and `text_prompt` are made of.

mod bag_of_words;
mod class_scores;
mod clicks;
mod folder;
mod pictures;
mod pretraining;
mod proposals;
mod synthetic;
mod text;
mod tuning;

pub use bag_of_words::BagOfWords;
pub use class_scores::{Answers, ClassScores};
pub use clicks::Clicks;
pub use folder::{AnnotatedFolder, FolderArguments, Objects};
pub use pictures::class_picture;
pub use pretraining::{pretrain, small_network};
pub use proposals::Proposals;
pub use synthetic::{MIN_AREA, SyntheticSurvey, all_corals, colonies};
pub use text::{DescribedReefs, TextScores, follow_sentences, text_training};
pub use tuning::{Tuned, TuningPlan, tune};

/// Photographs with the masks of their objects.
pub type Images<'a> = &'a dyn coral_core::Dataset<Item = coral_core::AnnotatedImage>;
