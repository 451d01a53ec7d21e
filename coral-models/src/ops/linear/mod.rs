//! Linear layers and perceptrons.

mod layer;
mod perceptron;

pub(crate) use layer::linear;
pub(crate) use perceptron::mlp;
