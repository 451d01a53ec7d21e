//! Checkpoints: reading `safetensors` and `.pth` files, and building networks from them.

mod cause;
mod checkpoint;
mod convert;
mod described;
mod load;
mod neighbours;
mod open;
mod pickle;
mod safetensors;
mod sam_names;
mod script;
mod shapes;
mod stored;
mod torch;
mod write;

pub use cause::CORALSCOP_WEIGHTS_PAGE;
pub use checkpoint::Checkpoint;
pub use convert::convert_to_safetensors;
pub(crate) use described::{description, write_described};
pub use load::load;
pub(crate) use load::{expect_finite, lacking};
pub(crate) use neighbours::{beside, read_json};
pub(crate) use shapes::{read_off, sides, square_grid};
pub(crate) use stored::shape_text;
pub(crate) use write::write_safetensors;
