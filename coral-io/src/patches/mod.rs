//! Patches of photographs as datasets.

mod grid;
mod in_memory;
mod one_hot;
mod unlabeled;

pub use grid::{GridPatch, GridPatches};
pub use in_memory::InMemory;
pub use one_hot::OneHot;
pub use unlabeled::Unlabeled;
