//! Files beside a checkpoint, which tell what no tensor does.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use coral_core::{Error, Result};
use serde_json::Value;

/// A file in a checkpoint's folder.
pub(crate) fn beside(checkpoint: &Path, name: &str) -> PathBuf {
    let folder = if checkpoint.is_dir() { checkpoint } else { checkpoint.parent().unwrap_or(Path::new("")) };
    folder.join(name)
}

/// A JSON file, if it exists.
pub(crate) fn read_json(path: &Path) -> Result<Option<Value>> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io(path, error)),
    };
    serde_json::from_slice(&text).map(Some).map_err(|error| Error::format(path, None, error.to_string()))
}
