//! Linear layers and perceptrons.

mod layer;
mod perceptron;

pub(super) use layer::column_sums;
pub(crate) use layer::linear;
pub(crate) use perceptron::mlp;
