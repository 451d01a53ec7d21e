//! Checkpoints: reading `safetensors` and `.pth` files, and building networks from them.

mod checkpoint;
mod load;
mod open;
mod pickle;
mod safetensors;
mod stored;
mod torch;

pub use checkpoint::Checkpoint;
pub use load::load;
