use std::cmp::Reverse;
use std::io::{self, Write};
use std::path::Path;

use coral_core::{Result, write_atomically};

use super::checkpoint::Checkpoint;
use super::safetensors::{Entry, expect_extension, write_header};

/// Rewrites a checkpoint of any format that [`Checkpoint::open`] reads as a `safetensors` file.
///
/// Such a file opens faster, needs no trust in its author, and is what most programs read.
/// Names are those of [`Checkpoint::names`]; numbers keep their type. Tensors pass one at a time,
/// so little memory is needed.
///
/// # Errors
/// As [`Checkpoint::open`] and [`Checkpoint::save_safetensors`].
///
/// # Examples
/// ```no_run
/// coral_models::convert_to_safetensors("vit_b_coralscop.pth", "vit_b_coralscop.safetensors")?;
/// # Ok::<(), coral_core::Error>(())
/// ```
pub fn convert_to_safetensors(source: impl AsRef<Path>, destination: impl AsRef<Path>) -> Result<()> {
    Checkpoint::open(source)?.save_safetensors(destination)
}

impl Checkpoint {
    /// Writes all tensors to a `safetensors` file, which appears whole or not at all.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`](coral_core::Error::InvalidParameter) when the name does not end in `.safetensors`;
    /// [`Error::Io`](coral_core::Error::Io) when the file cannot be written.
    pub fn save_safetensors(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        expect_extension(path)?;
        write_atomically(path, |out| self.write_to(out))
    }

    fn write_to(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut tensors = self.tensors().iter().collect::<Vec<_>>();
        // The widest type first, so that every tensor is aligned.
        tensors.sort_by_key(|(_, tensor)| Reverse(tensor.dtype().bitsize()));
        let entries = tensors.iter().map(|(name, tensor)| Entry {
            name: (*name).clone(),
            dtype: tensor.dtype(),
            shape: tensor.shape().to_vec(),
            byte_len: tensor.byte_len(),
        });
        write_header(out, entries, self.metadata())?;
        tensors.iter().try_for_each(|(_, tensor)| out.write_all(&tensor.bytes()))
    }
}
