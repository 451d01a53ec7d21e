//! Photographs with one label each: a folder per class.

mod checking;
mod config;
mod deep_seagrass;
mod folder;
mod listing;
mod repeats;

pub use checking::SkippedPhotograph;
pub use config::{Corrupt, PhotographFolderConfig, Repeated, Resize};
pub use deep_seagrass::deep_seagrass_classes;
pub use folder::PhotographFolder;
pub use repeats::RepeatedPhotograph;

#[cfg(test)]
mod tests;
