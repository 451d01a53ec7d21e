use std::path::{Path, PathBuf};

use ndarray::{ArrayD, IxDyn};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

use crate::{Error, Result};

/// One case of reference values: `case.json` and `io.safetensors` of a folder.
///
/// The folder is `$CORAL_GOLDEN_DIR/NAME` when that variable is set, else the copy
/// committed with the tests. A case that is missing or incomplete is an error, never skipped.
#[derive(Debug)]
pub struct GoldenCase {
    dir: PathBuf,
    json: Value,
    tensors: Vec<u8>,
}

impl GoldenCase {
    /// Opens case `name`; `fixtures` is the folder of the committed copies
    /// (`concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden")`).
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Format`] naming the file that cannot be read.
    pub fn open(fixtures: impl AsRef<Path>, name: &str) -> Result<Self> {
        let root = std::env::var_os("CORAL_GOLDEN_DIR").map_or_else(|| fixtures.as_ref().to_owned(), PathBuf::from);
        let dir = root.join(name);
        let json_path = dir.join("case.json");
        let json = serde_json::from_slice(&read(&json_path)?)
            .map_err(|e| Error::format(&json_path, Some(e.line() as u64), e.to_string()))?;
        let tensors_path = dir.join("io.safetensors");
        let tensors = if tensors_path.exists() { read(&tensors_path)? } else { Vec::new() };
        Ok(Self { dir, json, tensors })
    }

    /// The case's folder, for files of other kinds.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The value at a JSON pointer of `case.json`, e.g. `/config/seed`.
    ///
    /// # Errors
    /// [`Error::Format`] when there is none.
    pub fn value(&self, pointer: &str) -> Result<&Value> {
        self.json.pointer(pointer).ok_or_else(|| self.fault(format!("expected a value at `{pointer}`")))
    }

    /// The number at a JSON pointer.
    ///
    /// # Errors
    /// [`Error::Format`] when there is none.
    pub fn number(&self, pointer: &str) -> Result<f64> {
        self.value(pointer)?.as_f64().ok_or_else(|| self.fault(format!("expected a number at `{pointer}`")))
    }

    /// The names of all tensors that `case.json` lists, sorted.
    ///
    /// # Errors
    /// [`Error::Format`] when there is no list.
    pub fn tensor_names(&self) -> Result<Vec<String>> {
        let list = self.value("/tensors")?.as_object().ok_or_else(|| self.fault("`tensors` is no object"))?;
        let mut names: Vec<_> = list.keys().cloned().collect();
        names.sort();
        Ok(names)
    }

    /// A tensor of 32-bit floats.
    ///
    /// # Errors
    /// [`Error::Format`] when there is none of this name and type.
    pub fn f32(&self, name: &str) -> Result<ArrayD<f32>> {
        self.tensor(name, Dtype::F32, f32::from_le_bytes)
    }

    /// A tensor of 64-bit floats.
    ///
    /// # Errors
    /// [`Error::Format`] when there is none of this name and type.
    pub fn f64(&self, name: &str) -> Result<ArrayD<f64>> {
        self.tensor(name, Dtype::F64, f64::from_le_bytes)
    }

    /// A tensor of 64-bit integers.
    ///
    /// # Errors
    /// [`Error::Format`] when there is none of this name and type.
    pub fn i64(&self, name: &str) -> Result<ArrayD<i64>> {
        self.tensor(name, Dtype::I64, i64::from_le_bytes)
    }

    /// A tensor of bytes.
    ///
    /// # Errors
    /// [`Error::Format`] when there is none of this name and type.
    pub fn u8(&self, name: &str) -> Result<ArrayD<u8>> {
        self.tensor(name, Dtype::U8, u8::from_le_bytes)
    }

    fn tensor<T, const N: usize>(&self, name: &str, dtype: Dtype, decode: fn([u8; N]) -> T) -> Result<ArrayD<T>> {
        let all = SafeTensors::deserialize(&self.tensors).map_err(|e| self.fault(format!("io.safetensors: {e}")))?;
        let view = all.tensor(name).map_err(|e| self.fault(format!("tensor `{name}`: {e}")))?;
        if view.dtype() != dtype {
            return Err(self.fault(format!("tensor `{name}`: expected {dtype:?}, got {:?}", view.dtype())));
        }
        let values = view.data().as_chunks::<N>().0.iter().map(|&bytes| decode(bytes)).collect();
        ArrayD::from_shape_vec(IxDyn(view.shape()), values).map_err(|e| self.fault(format!("tensor `{name}`: {e}")))
    }

    fn fault(&self, reason: impl Into<String>) -> Error {
        Error::format(self.dir.join("case.json"), None, reason)
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|e| Error::io(path, e))
}
