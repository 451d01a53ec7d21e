use std::cmp::Reverse;
use std::io::{self, Write};
use std::path::Path;

use coral_core::{Error, Result, write_atomically};
use safetensors::tensor::{Metadata, TensorInfo};

use super::checkpoint::Checkpoint;

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
    /// [`Error::InvalidParameter`] when the name does not end in `.safetensors`; [`Error::Io`] when
    /// the file cannot be written.
    pub fn save_safetensors(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        if !path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("safetensors")) {
            let reason = format!("{}: expected a name that ends in .safetensors", path.display());
            return Err(Error::parameter("path", reason));
        }
        write_atomically(path, |out| self.write_to(out))
    }

    /// The header's length, the header (JSON, padded to whole words), the tensors.
    fn write_to(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut tensors = self.tensors().iter().collect::<Vec<_>>();
        // The widest type first, so that every tensor is aligned.
        tensors.sort_by_key(|(_, tensor)| Reverse(tensor.dtype().bitsize()));
        let mut end = 0;
        let entries = tensors.iter().map(|(name, tensor)| {
            let start = end;
            end += tensor.byte_len();
            let (dtype, shape) = (tensor.dtype(), tensor.shape().to_vec());
            ((*name).clone(), TensorInfo { dtype, shape, data_offsets: (start, end) })
        });
        let entries = entries.collect();
        let about = (!self.metadata().is_empty()).then(|| self.metadata().clone().into_iter().collect());
        let header = Metadata::new(about, entries).map_err(io::Error::other)?;
        let mut header = serde_json::to_vec(&header)?;
        header.resize(header.len().next_multiple_of(8), b' ');
        out.write_all(&(header.len() as u64).to_le_bytes())?;
        out.write_all(&header)?;
        tensors.iter().try_for_each(|(_, tensor)| out.write_all(&tensor.bytes()))
    }
}
