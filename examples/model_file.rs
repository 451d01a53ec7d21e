use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use coral_core::{Error, Result};
use serde::Serialize;
use sha2::{Digest, Sha256};

/// A model's file or folder as settings of a run name it: by name and content, so that it may move.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ModelFile {
    file: String,
    sha256: String,
}

impl ModelFile {
    /// Reads a file, or all files of a folder but hidden ones and those in folders within.
    ///
    /// # Errors
    /// [`Error::Io`] naming the file or folder that cannot be read.
    pub fn new(path: &Path) -> Result<Self> {
        let mut hash = Sha256::new();
        if path.is_dir() {
            for file in files(path)? {
                let name = name(&file);
                // The lengths keep names and contents apart.
                hash.update((name.len() as u64).to_le_bytes());
                hash.update(&name);
                let bytes = file.metadata().map_err(|error| Error::io(&file, error))?.len();
                hash.update(bytes.to_le_bytes());
                add(&file, &mut hash)?;
            }
        } else {
            add(path, &mut hash)?;
        }
        let sha256 = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { file: name(path), sha256 })
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The files of a folder, by name.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
    let entries = entries.map_err(|error| Error::io(folder, error))?;
    let paths = entries.into_iter().map(|entry| entry.path());
    let mut files: Vec<_> = paths.filter(|path| path.is_file() && !name(path).starts_with('.')).collect();
    files.sort();
    Ok(files)
}

fn add(path: &Path, hash: &mut Sha256) -> Result<()> {
    let failed = |error| Error::io(path, error);
    let mut file = File::open(path).map_err(failed)?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).map_err(failed)? {
            0 => return Ok(()),
            read => hash.update(&buffer[..read]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_told_by_their_content() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("model.safetensors"), "abc").unwrap();
        let file = ModelFile::new(&at("model.safetensors")).unwrap();
        // The example of the standard FIPS 180-2.
        assert_eq!(file.sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(file.file, "model.safetensors");
        let before = ModelFile::new(folder.path()).unwrap();
        std::fs::write(at(".lock"), "").unwrap();
        assert_eq!(ModelFile::new(folder.path()).unwrap(), before);
        std::fs::write(at("vocab.json"), "{}").unwrap();
        assert_ne!(ModelFile::new(folder.path()).unwrap(), before);
        let error = ModelFile::new(&at("gone")).unwrap_err();
        assert!(matches!(error, Error::Io { .. }), "{error}");
    }
}
