//! Reading a network's configuration off the shapes of a checkpoint.

use coral_core::{Error, Result};

use super::checkpoint::Checkpoint;
use super::load::lacking;

/// What `read` makes of the shapes of a checkpoint, in which what is wrong is wrong with the file.
pub(crate) fn read_off<C>(checkpoint: &Checkpoint, read: impl FnOnce() -> Result<C>) -> Result<C> {
    read().map_err(|error| match error {
        Error::Weights { .. } => error,
        other => Error::format(checkpoint.path(), None, other.to_string()),
    })
}

/// The sides of a tensor of N dimensions.
pub(crate) fn sides<const N: usize>(checkpoint: &Checkpoint, name: &str) -> Result<[usize; N]> {
    let Some(shape) = checkpoint.shape(name) else {
        return Err(lacking(checkpoint, &[name]));
    };
    match <[usize; N]>::try_from(shape) {
        Ok(sides) if !sides.contains(&0) => Ok(sides),
        _ => Err(Error::input(name, format!("expected {N} dimensions, none of them 0, got shape {shape:?}"))),
    }
}

/// Patches along an image's side, of the rows of the position table `name`.
pub(crate) fn square_grid(name: &str, rows: usize) -> Result<usize> {
    let grid = rows.saturating_sub(1).isqrt();
    if grid == 0 || grid * grid + 1 != rows {
        let reason = format!("expected a row for the class token and a square of others, got {rows} rows");
        return Err(Error::input(name, reason));
    }
    Ok(grid)
}
