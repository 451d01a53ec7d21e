use std::borrow::Cow;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};
use coral_core::{Error, Result};
use memmap2::Mmap;
use safetensors::Dtype;

/// The element types that can be read.
pub(super) const NUMBERS: &str = "floating-point or integer numbers of 8 to 64 bits";

/// A file whose bytes are read from the page cache when they are asked for.
#[derive(Debug)]
pub(super) struct MappedFile {
    path: PathBuf,
    map: Mmap,
}

impl MappedFile {
    #[allow(unsafe_code)]
    pub(super) fn open(path: &Path) -> Result<Self> {
        let io = |source| Error::io(path, source);
        let file = File::open(path).map_err(io)?;
        if file.metadata().map_err(io)?.len() == 0 {
            return Err(Error::format(
                path,
                None,
                "the file is empty; expected a safetensors file or a .pth checkpoint",
            ));
        }
        // SAFETY: the map is private to this type and read only; `Checkpoint` documents that the
        // file must not be changed or cut while it is open.
        let map = unsafe { Mmap::map(&file) }.map_err(io)?;
        Ok(Self { path: path.to_owned(), map })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.map
    }
}

/// Where a tensor lies in a mapped file; its range was checked when it was made.
#[derive(Debug, Clone)]
pub(super) struct StoredTensor {
    file: Arc<MappedFile>,
    dtype: Dtype,
    shape: Vec<usize>,
    range: Range<usize>,
    /// Steps in elements along each axis, for the rare tensor that was not saved in row-major order.
    strides: Option<Vec<usize>>,
}

impl StoredTensor {
    /// A row-major tensor that starts at byte `start` of the file.
    pub(super) fn new(
        file: &Arc<MappedFile>,
        dtype: Dtype,
        shape: &[usize],
        start: usize,
    ) -> std::result::Result<Self, String> {
        let size = element_size(dtype).ok_or_else(|| format!("has the type {dtype:?}; expected {NUMBERS}"))?;
        let end = count(shape).and_then(|n| n.checked_mul(size)).and_then(|bytes| start.checked_add(bytes));
        match end {
            Some(end) if end <= file.bytes().len() => {
                let (file, shape) = (Arc::clone(file), shape.to_vec());
                Ok(Self { file, dtype, shape, range: start..end, strides: None })
            }
            _ => Err(format!("a {dtype:?} tensor of shape {} does not fit into the file", shape_text(shape))),
        }
    }

    /// A tensor whose elements lie `strides` apart inside `storage`, a range of bytes of the file.
    pub(super) fn strided(
        file: &Arc<MappedFile>,
        dtype: Dtype,
        layout: &StridedLayout,
        storage: Range<usize>,
    ) -> std::result::Result<Self, String> {
        let misfit = || format!("a {dtype:?} tensor of {layout:?} does not fit into its storage of {storage:?}");
        let size = element_size(dtype).ok_or_else(misfit)?;
        let (elements, span) = layout.extent().ok_or_else(misfit)?;
        let start = layout.offset.checked_mul(size).and_then(|at| storage.start.checked_add(at)).ok_or_else(misfit)?;
        let end = span.checked_mul(size).and_then(|bytes| start.checked_add(bytes)).ok_or_else(misfit)?;
        // More elements than the storage holds would be a repeated (expanded) tensor, which no
        // trained weight is, or a damaged file that asks for any amount of memory.
        let held = storage.len() / size;
        if end > storage.end || storage.end > file.bytes().len() || elements > held {
            return Err(misfit());
        }
        let strides = (!layout.is_row_major()).then(|| layout.strides.clone());
        Ok(Self { file: Arc::clone(file), dtype, shape: layout.shape.clone(), range: start..end, strides })
    }

    pub(super) fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Bytes of all elements, without the gaps of a strided tensor.
    pub(super) fn byte_len(&self) -> usize {
        self.shape.iter().product::<usize>() * element_size(self.dtype).unwrap_or_default()
    }

    pub(super) fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The elements in row-major order, as stored (little endian).
    pub(super) fn bytes(&self) -> Cow<'_, [u8]> {
        let bytes = &self.file.bytes()[self.range.clone()];
        match &self.strides {
            None => Cow::Borrowed(bytes),
            Some(strides) => Cow::Owned(gathered(bytes, element_size(self.dtype).unwrap_or(1), &self.shape, strides)),
        }
    }

    /// The tensor, in f64 if it is stored so and otherwise in f32.
    pub(super) fn read_as_stored(&self, device: &Device) -> Result<Tensor> {
        if self.dtype != Dtype::F64 {
            return self.read(device);
        }
        let bytes = self.bytes();
        let (elements, _) = bytes.as_chunks::<8>();
        let values = elements.iter().map(|element| f64::from_le_bytes(*element)).collect::<Vec<_>>();
        Tensor::from_vec(values, self.shape.as_slice(), device).map_err(Error::model)
    }

    /// The tensor in f32.
    pub(super) fn read(&self, device: &Device) -> Result<Tensor> {
        let bytes = self.bytes();
        let values = match self.dtype {
            Dtype::F32 => converted(&bytes, f32::from_le_bytes),
            Dtype::F64 => converted(&bytes, |b| f64::from_le_bytes(b) as f32),
            Dtype::BF16 => converted(&bytes, |b| f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16)),
            Dtype::I8 => converted(&bytes, |b| f32::from(i8::from_le_bytes(b))),
            Dtype::U8 | Dtype::BOOL => converted(&bytes, |[b]: [u8; 1]| f32::from(b)),
            Dtype::I16 => converted(&bytes, |b| f32::from(i16::from_le_bytes(b))),
            Dtype::U16 => converted(&bytes, |b| f32::from(u16::from_le_bytes(b))),
            Dtype::I32 => converted(&bytes, |b| i32::from_le_bytes(b) as f32),
            Dtype::U32 => converted(&bytes, |b| u32::from_le_bytes(b) as f32),
            Dtype::I64 => converted(&bytes, |b| i64::from_le_bytes(b) as f32),
            Dtype::U64 => converted(&bytes, |b| u64::from_le_bytes(b) as f32),
            Dtype::F16 => {
                let half = Tensor::from_raw_buffer(&bytes, DType::F16, &self.shape, &Device::Cpu);
                let full = half.and_then(|half| half.to_dtype(DType::F32)?.to_device(device));
                return full.map_err(Error::model);
            }
            other => {
                let reason = format!("holds a tensor of type {other:?}; expected {NUMBERS}");
                return Err(Error::format(self.file.path(), None, reason));
            }
        };
        Tensor::from_vec(values, self.shape.as_slice(), device).map_err(Error::model)
    }
}

/// How a tensor lies in its storage, in elements.
#[derive(Debug)]
pub(super) struct StridedLayout {
    pub(super) offset: usize,
    pub(super) shape: Vec<usize>,
    pub(super) strides: Vec<usize>,
}

impl StridedLayout {
    /// Number of elements, and of storage elements from the first to the last; `None` when too large to count.
    fn extent(&self) -> Option<(usize, usize)> {
        let elements = count(&self.shape)?;
        if elements == 0 {
            return Some((0, 0));
        }
        let last = self
            .shape
            .iter()
            .zip(&self.strides)
            .try_fold(0usize, |sum, (side, stride)| sum.checked_add((side - 1).checked_mul(*stride)?))?;
        Some((elements, last.checked_add(1)?))
    }

    fn is_row_major(&self) -> bool {
        let mut expected = 1;
        self.shape.iter().zip(&self.strides).rev().all(|(&side, &stride)| {
            let fits = side == 1 || stride == expected;
            expected *= side.max(1);
            fits
        })
    }
}

/// Number of elements; `None` when some of the sides alone are too many to count, as even an empty
/// tensor's strides would be then.
fn count(shape: &[usize]) -> Option<usize> {
    let without_zeros = shape.iter().try_fold(1usize, |product, &side| product.checked_mul(side.max(1)))?;
    Some(if shape.contains(&0) { 0 } else { without_zeros })
}

/// Bytes of one element; `None` for types of less than a byte.
fn element_size(dtype: Dtype) -> Option<usize> {
    let bits = dtype.bitsize();
    bits.is_multiple_of(8).then_some(bits / 8)
}

fn converted<const N: usize>(bytes: &[u8], value: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    let (elements, _) = bytes.as_chunks::<N>();
    elements.iter().map(|element| value(*element)).collect()
}

/// The elements of a strided tensor in row-major order.
fn gathered(bytes: &[u8], size: usize, shape: &[usize], strides: &[usize]) -> Vec<u8> {
    let elements = shape.iter().product::<usize>();
    let mut out = Vec::with_capacity(elements * size);
    let mut index = vec![0; shape.len()];
    for _ in 0..elements {
        let at = index.iter().zip(strides).map(|(i, stride)| i * stride).sum::<usize>() * size;
        out.extend_from_slice(&bytes[at..at + size]);
        for (i, side) in index.iter_mut().zip(shape).rev() {
            *i += 1;
            if *i < *side {
                break;
            }
            *i = 0;
        }
    }
    out
}

/// A shape as errors show it: `3x4`, or `scalar`.
pub(crate) fn shape_text(shape: &[usize]) -> String {
    match shape {
        [] => "scalar".to_owned(),
        sides => sides.iter().map(usize::to_string).collect::<Vec<_>>().join("x"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(offset: usize, shape: &[usize], strides: &[usize]) -> StridedLayout {
        StridedLayout { offset, shape: shape.to_vec(), strides: strides.to_vec() }
    }

    #[test]
    fn strided_elements_come_in_row_major_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bytes");
        std::fs::write(&path, (0u8..30).collect::<Vec<_>>()).unwrap();
        let file = Arc::new(MappedFile::open(&path).unwrap());
        let stored = |layout: &StridedLayout| StoredTensor::strided(&file, Dtype::U8, layout, 4..28);
        let bytes = |layout: &StridedLayout| stored(layout).unwrap().bytes().into_owned();
        assert_eq!(bytes(&layout(2, &[2, 3], &[3, 1])), [6, 7, 8, 9, 10, 11]);
        assert_eq!(bytes(&layout(2, &[3, 2], &[1, 3])), [6, 9, 7, 10, 8, 11]);
        assert_eq!(bytes(&layout(0, &[2, 2], &[12, 5])), [4, 9, 16, 21]);
        assert_eq!(bytes(&layout(23, &[], &[])), [27]);
        assert_eq!(bytes(&layout(0, &[3, 0], &[1, 1])), [0u8; 0]);
    }

    #[test]
    fn layouts_outside_of_the_storage_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bytes");
        std::fs::write(&path, [0; 32]).unwrap();
        let file = Arc::new(MappedFile::open(&path).unwrap());
        let big = usize::MAX / 2;
        for misfit in [
            layout(0, &[9], &[1]),
            layout(1, &[8], &[1]),
            layout(0, &[2, 2], &[7, 1]),
            layout(0, &[100], &[0]),
            layout(0, &[big, big], &[0, 0]),
            layout(0, &[0, big, big], &[1, 1, 1]),
            layout(big, &[1], &[1]),
            layout(0, &[2], &[big]),
        ] {
            assert!(StoredTensor::strided(&file, Dtype::I8, &misfit, 8..16).is_err(), "{misfit:?}");
        }
        assert!(StoredTensor::strided(&file, Dtype::I8, &layout(0, &[4], &[1]), 30..40).is_err());
        assert!(StoredTensor::new(&file, Dtype::F32, &[0, big, big], 0).is_err());
        assert!(StoredTensor::new(&file, Dtype::F32, &[2, 4], 1).is_err());
        assert!(StoredTensor::new(&file, Dtype::F32, &[2, 4], 0).is_ok());
    }
}
