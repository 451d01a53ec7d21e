//! Photographs with one label each: a folder per class.

mod checking;
mod config;
mod folder;
mod listing;
mod repeats;

pub use checking::SkippedPhotograph;
pub use config::{Corrupt, PhotographFolderConfig, Repeated, Resize};
pub use folder::PhotographFolder;
pub use repeats::RepeatedPhotograph;

#[cfg(test)]
mod tests;
