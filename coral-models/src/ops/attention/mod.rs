//! Multi-head attention that never holds all scores at once.

mod fused;
mod trained;

pub(crate) use fused::attention;
pub(super) use fused::{HeadBlock, Scratch};
