//! *The point is the mask* as one resumable job: frames of an underwater survey and an orthophoto in, class maps and their
//! scores out.
//!
//! [`SurveyConfig`] is the file that describes a job, [`Survey`] runs it stage by stage ([`Stages`] knows which are done).

mod classify;
mod config;
mod evaluation;
mod frames;
mod lagoon;
mod mapping;
mod plan;
mod rows_file;
mod stages;
mod survey;
mod training;

pub use config::{
    CoarseConfig, EvaluationConfig, NetworkChoice, RefinementConfig, SessionConfig, SurveyConfig, TrainingConfig,
};
pub use evaluation::{MapScore, score_table, write_scores};
pub use lagoon::{LagoonPlan, write_lagoon};
pub use mapping::{Mapping, pixel_square_metres, write_regions};
pub use rows_file::RowsFile;
pub use stages::{Check, Stage, Stages};
pub use survey::{STAGES, Survey};
