use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

use candle_core::{DType, Tensor};
use coral_core::{Error, Result, write_atomically};
use safetensors::Dtype;

use super::checkpoint::FINAL_NAMES;
use super::safetensors::{Entry, expect_extension, write_header};

/// Writes named tensors of f32 or f64 to a `safetensors` file, which appears whole or not at all.
///
/// # Errors
/// [`Error::InvalidParameter`] when the name does not end in `.safetensors`, [`Error::InvalidInput`] for a tensor of
/// another type, [`Error::Io`] when the file cannot be written.
pub(crate) fn write_safetensors(
    path: &Path,
    tensors: &BTreeMap<String, Tensor>,
    about: &BTreeMap<String, String>,
) -> Result<()> {
    expect_extension(path)?;
    let mut typed = Vec::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        let dtype = match tensor.dtype() {
            DType::F32 => Dtype::F32,
            DType::F64 => Dtype::F64,
            other => return Err(Error::input(name, format!("is a tensor of {other:?}; expected F32 or F64"))),
        };
        typed.push((name, tensor, dtype));
    }
    // The widest type first, so that every tensor is aligned.
    typed.sort_by_key(|(_, _, dtype)| Reverse(dtype.bitsize()));
    let mut about = about.clone();
    about.insert(FINAL_NAMES.to_owned(), "true".to_owned());
    write_atomically(path, |out| {
        let entries = typed.iter().map(|(name, tensor, dtype)| Entry {
            name: (*name).clone(),
            dtype: *dtype,
            shape: tensor.dims().to_vec(),
            byte_len: tensor.elem_count() * dtype.bitsize() / 8,
        });
        write_header(out, entries, &about)?;
        typed.iter().try_for_each(|(_, tensor, _)| write_values(out, tensor))
    })
}

fn write_values(out: &mut dyn Write, tensor: &Tensor) -> io::Result<()> {
    let flat = tensor.flatten_all().map_err(io::Error::other)?;
    if flat.dtype() == DType::F64 {
        let values = flat.to_vec1::<f64>().map_err(io::Error::other)?;
        return values.iter().try_for_each(|value| out.write_all(&value.to_le_bytes()));
    }
    let values = flat.to_vec1::<f32>().map_err(io::Error::other)?;
    values.iter().try_for_each(|value| out.write_all(&value.to_le_bytes()))
}
