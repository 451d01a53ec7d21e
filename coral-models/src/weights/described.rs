//! Files of tensors that say what they are, in their metadata.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::Tensor;
use coral_core::{Error, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::checkpoint::Checkpoint;
use super::write::write_safetensors;

/// Writes named tensors, and beside them a description under `key`; the file appears whole or not at all.
///
/// # Errors
/// Those of [`write_safetensors`].
pub(crate) fn write_described(
    path: &Path,
    tensors: &BTreeMap<String, Tensor>,
    (key, description): (&str, &impl Serialize),
) -> Result<()> {
    let description = serde_json::to_string(description).map_err(Error::model)?;
    let about = BTreeMap::from([("format".to_owned(), "pt".to_owned()), (key.to_owned(), description)]);
    write_safetensors(path, tensors, &about)
}

/// Reads the description under `key`; where there is none, the error says so and gives a `hint`.
pub(crate) fn description<T: DeserializeOwned>(checkpoint: &Checkpoint, (key, hint): (&str, &str)) -> Result<T> {
    let wrong = |reason: String| Error::format(checkpoint.path(), None, reason);
    let Some(text) = checkpoint.metadata().get(key) else {
        return Err(wrong(format!("no field `{key}` in its metadata; {hint}")));
    };
    serde_json::from_str(text).map_err(|error| wrong(format!("field `{key}` of its metadata: {error}")))
}
