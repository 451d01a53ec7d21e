//! Normalisation of the last dimension.

mod fused;
mod trained;

pub(crate) use fused::layer_norm;
