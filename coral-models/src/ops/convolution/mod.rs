//! Convolutions of N×H×W×C values as matrix products of tiles of gathered neighbourhoods, a thread a tile, and their
//! gradients in the same form.

mod kernels;
mod layer;
mod trained;
mod window;

pub(super) use layer::shifted;
pub(crate) use layer::{Convolution, convolve};
pub(crate) use window::{Geometry, Window};

use super::product::product;
use super::real;
use super::real::Real;
