//! What training a network needs besides the network.

mod loss;

pub use loss::{
    CrossEntropyConfig, Reduction, SeafeatsLoss, bce_with_logits, cross_entropy, mse, nt_xent, seafeats_loss,
    soft_cross_entropy,
};
