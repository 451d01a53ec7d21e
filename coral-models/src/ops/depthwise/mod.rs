//! Convolutions of every channel by itself.

mod layer;
mod trained;

pub(crate) use layer::Depthwise;
pub(super) use layer::Kernel;
