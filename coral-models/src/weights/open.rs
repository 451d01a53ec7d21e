//! What a file is, by its first bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use coral_core::{Error, Result};

use super::cause::with_origin;
use super::stored::{MappedFile, StoredTensor};
use super::{safetensors, torch};

/// Tensors by name, and what the file says about itself.
pub(super) type Contents = (BTreeMap<String, StoredTensor>, BTreeMap<String, String>);

/// The files of a model folder, the preferred first.
const FOLDER_FILES: [&str; 6] = [
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.bin",
];

/// Reads a checkpoint's list of tensors, from a file or a folder.
pub(super) fn read(path: &Path) -> Result<Contents> {
    if !path.is_dir() {
        return if is_index(path) { read_shards(path) } else { read_file(path) };
    }
    match FOLDER_FILES.iter().map(|name| path.join(name)).find(|file| file.exists()) {
        Some(file) if is_index(&file) => read_shards(&file),
        Some(file) => read_file(&file),
        None => {
            let reason = format!("the folder holds no checkpoint; expected {}", FOLDER_FILES.join(" or "));
            Err(Error::format(path, None, reason))
        }
    }
}

fn is_index(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(".index.json"))
}

fn read_file(path: &Path) -> Result<Contents> {
    read_any(path).map_err(with_origin)
}

fn read_any(path: &Path) -> Result<Contents> {
    let file = Arc::new(MappedFile::open(path)?);
    let bytes = file.bytes();
    let contents = if safetensors::is_safetensors(bytes) {
        safetensors::read(&file)
    } else if bytes.starts_with(b"PK\x03\x04") {
        torch::read(&file)
    } else {
        Err(what_else(bytes))
    };
    contents.map_err(|reason| Error::format(path, None, reason))
}

/// Reads the files that an index of shards names.
fn read_shards(index: &Path) -> Result<Contents> {
    let text = std::fs::read(index).map_err(|source| Error::io(index, source))?;
    let malformed = |reason: String| Error::format(index, None, reason);
    let json = serde_json::from_slice::<serde_json::Value>(&text).map_err(|error| malformed(error.to_string()))?;
    let map = json.get("weight_map").and_then(|map| map.as_object());
    let map = map.ok_or_else(|| malformed("has no object `weight_map` of tensor names to files".to_owned()))?;
    let mut files = BTreeSet::new();
    for (tensor, file) in map {
        // Only files beside the index: a downloaded index must not name others.
        match file.as_str() {
            Some(file) if !file.contains(['/', '\\']) && file != ".." => files.insert(file),
            _ => {
                return Err(malformed(format!(
                    "weight_map: `{tensor}` is in {file}; expected a file beside the index"
                )));
            }
        };
    }
    let (mut tensors, mut metadata) = (BTreeMap::new(), BTreeMap::new());
    for file in files {
        let (shard, about) = read_file(&index.with_file_name(file))?;
        // Others in it are another shard's, or nobody's.
        let assigned = |name: &str| map.get(name).and_then(|file| file.as_str()) == Some(file);
        tensors.extend(shard.into_iter().filter(|(name, _)| assigned(name)));
        metadata.extend(about);
    }
    match map.keys().find(|name| !tensors.contains_key(*name)) {
        Some(name) => Err(malformed(format!("weight_map names the tensor `{name}`, which its shard does not hold"))),
        None => Ok((tensors, metadata)),
    }
}

/// Why a file that is neither format cannot be read.
fn what_else(bytes: &[u8]) -> String {
    const OLD_TORCH: &[u8] = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19";
    let start = String::from_utf8_lossy(&bytes[..bytes.len().min(256)]).trim_start().to_lowercase();
    let found = if bytes.starts_with(OLD_TORCH) {
        return "a checkpoint of PyTorch before 1.6, which is not supported; convert it in Python: \
                `torch.save(torch.load(path, map_location=\"cpu\"), new_path)`"
            .to_owned();
    } else if start.starts_with("version https://git-lfs") {
        return "a Git LFS pointer, not the checkpoint itself; fetch the file with `git lfs pull` or download it"
            .to_owned();
    } else if start.starts_with("<!doctype") || start.starts_with("<html") || start.starts_with("<?xml") {
        return "a web page, not a checkpoint: the download gave an error or a form; download the file itself"
            .to_owned();
    } else if start.starts_with(['{', '[']) {
        "JSON text"
    } else if bytes[0] == 0x80 && matches!(bytes.get(1), Some(2..=5)) {
        "a Python pickle that PyTorch did not write"
    } else if bytes.starts_with(b"GGUF") {
        "a GGUF file"
    } else if bytes.starts_with(b"\x89HDF") {
        "an HDF5 (Keras) file"
    } else if bytes.starts_with(b"\x1f\x8b") {
        "a gzip archive, to be unpacked first"
    } else if bytes.get(257..262) == Some(b"ustar") {
        "a tar archive, to be unpacked first"
    } else {
        "neither format, or a truncated file"
    };
    format!("{found}; expected a safetensors file or a .pth checkpoint as torch.save writes it")
}
