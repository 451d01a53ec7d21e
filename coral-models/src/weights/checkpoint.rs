use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use coral_core::{Error, Result};

use super::stored::StoredTensor;

/// A field in the metadata of files whose names are a network's own, whatever they start with.
pub(super) const FINAL_NAMES: &str = "coral_names_are_final";

/// Named tensors in a file, read when they are asked for.
///
/// The file stays mapped into memory as long as the checkpoint lives, so opening
/// a large one is fast; it must not be changed or cut meanwhile.
///
/// # Examples
/// ```
/// use candle_core::{Device, Tensor};
/// use coral_models::Checkpoint;
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("model.safetensors");
/// Tensor::new(&[[1f32, 2., 3.]], &Device::Cpu).unwrap().save_safetensors("head.weight", &path).unwrap();
///
/// let checkpoint = Checkpoint::open(&path)?;
/// assert_eq!(checkpoint.names().collect::<Vec<_>>(), ["head.weight"]);
/// assert_eq!(checkpoint.shape("head.weight"), Some([1, 3].as_slice()));
/// let weight = checkpoint.tensor("head.weight", &Device::Cpu)?;
/// assert_eq!(weight.to_vec2::<f32>().unwrap(), [[1.0, 2.0, 3.0]]);
/// # Ok::<(), coral_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Checkpoint {
    path: PathBuf,
    tensors: BTreeMap<String, StoredTensor>,
    metadata: BTreeMap<String, String>,
}

impl Checkpoint {
    /// Opens a checkpoint; the content tells the format, not the name.
    ///
    /// Accepted are
    /// - `safetensors` files,
    /// - `.pth`, `.pt` and `.bin` files as PyTorch writes them since version 1.6: a state dict, or a
    ///   dict that holds one under a key such as `state_dict` or `model`, or a TorchScript program, whose weights are
    ///   read and whose code is not,
    /// - folders as model hubs have them, with `model.safetensors` or `pytorch_model.bin`, whole or in
    ///   shards with an index, or with the same of `open_clip`.
    ///
    /// When every name starts with `module.`, `model.` or `_orig_mod.`, which training programs
    /// put in front, the names are given without it, unless [`Parameters::save`](crate::Parameters::save) or the like
    /// wrote the file.
    ///
    /// # Errors
    /// [`Error::Io`] when the file cannot be opened; [`Error::Format`] when it is truncated, or
    /// something else than a checkpoint. Both tell where CoralSCOP's authors publish theirs if the name is like it.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let checkpoint = Self::open_as_named(path.as_ref())?;
        match checkpoint.metadata.contains_key(FINAL_NAMES) {
            true => Ok(checkpoint),
            false => Ok(checkpoint.without_wrapper_prefixes()),
        }
    }

    /// [`Checkpoint::open`], but names stay as they are.
    pub(crate) fn open_as_named(path: &Path) -> Result<Self> {
        let (tensors, metadata) = super::open::read(path)?;
        Ok(Self { path: path.to_owned(), tensors, metadata })
    }

    /// The file or folder that was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The tensors' names in alphabetical order.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Whether the checkpoint has a tensor of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// The shape of a tensor, or `None` when there is none of this name.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(StoredTensor::shape)
    }

    /// What a `safetensors` file says about itself, e.g. `format: pt`; empty for other formats.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// Reads a tensor, converted to f32 from whatever number type it is stored in.
    ///
    /// # Errors
    /// [`Error::Format`] when there is no tensor of this name or its type is not a number type
    /// of at least a byte; [`Error::Model`] when the device has no room.
    pub fn tensor(&self, name: &str, device: &Device) -> Result<Tensor> {
        match self.tensors.get(name) {
            Some(stored) => stored.read(device),
            None => Err(Error::format(&self.path, None, format!("holds no tensor `{name}`"))),
        }
    }

    /// Reads a tensor of f32 or f64 in the type that it is stored in.
    pub(crate) fn tensor_as_stored(&self, name: &str, device: &Device) -> Result<Tensor> {
        match self.tensors.get(name) {
            Some(stored) => stored.read_as_stored(device),
            None => Err(Error::format(&self.path, None, format!("holds no tensor `{name}`"))),
        }
    }

    /// The same tensors under other names; those for which `name` gives `None` are left out.
    ///
    /// # Errors
    /// [`Error::Format`] when two tensors would get the same name.
    pub fn rename(self, name: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let Self { path, tensors, metadata } = self;
        let mut renamed = BTreeMap::new();
        for (old, tensor) in tensors {
            let Some(new) = name(&old) else { continue };
            match renamed.entry(new) {
                Entry::Vacant(place) => {
                    place.insert(tensor);
                }
                Entry::Occupied(place) => {
                    let reason = format!("two tensors would be named `{}`, one of them `{old}`", place.key());
                    return Err(Error::format(&path, None, reason));
                }
            }
        }
        Ok(Self { path, tensors: renamed, metadata })
    }

    pub(super) fn tensors(&self) -> &BTreeMap<String, StoredTensor> {
        &self.tensors
    }

    fn without_wrapper_prefixes(mut self) -> Self {
        const WRAPPERS: [&str; 3] = ["module.", "model.", "_orig_mod."];
        let shared = |tensors: &BTreeMap<String, StoredTensor>| {
            WRAPPERS
                .into_iter()
                .find(|prefix| tensors.keys().all(|name| name.len() > prefix.len() && name.starts_with(prefix)))
        };
        // Programs put few wrappers around each other.
        for _ in 0..4 {
            let Some(prefix) = shared(&self.tensors) else { break };
            self.tensors =
                self.tensors.into_iter().map(|(name, tensor)| (name[prefix.len()..].to_owned(), tensor)).collect();
        }
        self
    }
}
