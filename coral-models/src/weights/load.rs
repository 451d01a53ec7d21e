use std::sync::{Mutex, MutexGuard, PoisonError};

use candle_core::{DType, Device, Shape, Tensor};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder};
use coral_core::{Error, Result};

use super::cause::{Requested, likely_cause};
use super::checkpoint::Checkpoint;
use super::stored::shape_text;

/// Builds a network from a checkpoint and checks that the two fit.
///
/// `build` gets a [`VarBuilder`] of f32 on `device`. A tensor that is missing or has another
/// shape is replaced by zeros, so that one error can name everything that does not fit. Tensors
/// of the checkpoint that the network does not ask for are an error too, unless their name starts
/// with one of `ignore`. A `num_batches_tracked` may be missing (it is 0 then) or left over.
///
/// # Errors
/// [`Error::Weights`] with all names and the likely cause when checkpoint and network do not fit;
/// [`Error::Format`] naming the tensor when a weight is NaN or infinite; [`Error::Model`] when
/// `build` fails for another reason.
///
/// # Examples
/// ```
/// use candle_core::{Device, Module, Tensor};
/// use coral_models::{Checkpoint, load};
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("head.safetensors");
/// # Tensor::ones((2, 3), candle_core::DType::F32, &Device::Cpu).unwrap().save_safetensors("head.weight", &path).unwrap();
/// let checkpoint = Checkpoint::open(&path)?;
/// let head = load(&checkpoint, &Device::Cpu, &[], |vb| candle_nn::linear_no_bias(3, 2, vb.pp("head")))?;
/// let sums = head.forward(&Tensor::new(&[[1f32, 2., 3.]], &Device::Cpu).unwrap()).unwrap();
/// assert_eq!(sums.to_vec2::<f32>().unwrap(), [[6.0, 6.0]]);
///
/// let with_bias = load(&checkpoint, &Device::Cpu, &[], |vb| candle_nn::linear(3, 2, vb.pp("head")));
/// assert!(with_bias.unwrap_err().to_string().ends_with("1 missing (head.bias)"));
/// # Ok::<(), coral_core::Error>(())
/// ```
pub fn load<M>(
    checkpoint: &Checkpoint,
    device: &Device,
    ignore: &[&str],
    build: impl FnOnce(VarBuilder<'_>) -> candle_core::Result<M>,
) -> Result<M> {
    let requests = Mutex::new(Requests::default());
    let reader = Reader { checkpoint, requests: &requests };
    let built = build(VarBuilder::from_backend(Box::new(reader), DType::F32, device.clone()));
    let requests = requests.into_inner().unwrap_or_else(PoisonError::into_inner);
    requests.check(checkpoint, ignore, built.is_ok())?;
    built.map_err(Error::model)
}

/// The error of a checkpoint in which tensors are missing without which not even the network's shape is known.
pub(crate) fn lacking(checkpoint: &Checkpoint, names: &[&str]) -> Error {
    let requested = names.iter().map(|&name| (name.to_owned(), None)).collect();
    let missing: Vec<String> = names.iter().filter(|n| !checkpoint.contains(n)).map(|&n| n.to_owned()).collect();
    let left_over: Vec<String> = checkpoint.names().map(str::to_owned).collect();
    let cause = likely_cause(checkpoint, &requested, &missing, &left_over);
    Error::Weights { path: checkpoint.path().to_owned(), missing, unexpected: vec![], mismatched: vec![], cause }
}

/// What the network asked for.
#[derive(Debug, Default)]
struct Requests {
    /// Names with their shape, where the network told one.
    shapes: Requested,
    /// The first weight that is no number.
    not_finite: Option<String>,
    unreadable: Option<Error>,
    /// Elements of the zeros that stand for tensors that do not fit.
    blank: usize,
}

/// Most elements of such zeros, more than any network has: the shapes of a damaged file would ask for any amount.
const BLANK: usize = 1 << 30;

impl Requests {
    fn check(self, checkpoint: &Checkpoint, ignore: &[&str], built: bool) -> Result<()> {
        // Old files do not count batches; nothing depends on the count.
        let counter = |name: &str| name.ends_with("num_batches_tracked");
        let missing = self.shapes.keys().filter(|name| !checkpoint.contains(name) && !counter(name));
        let missing = missing.cloned().collect::<Vec<_>>();
        let mismatched = self.shapes.iter().filter_map(|(name, expected)| {
            let (expected, actual) = (expected.as_deref()?, checkpoint.shape(name)?);
            let text = || format!("{name}: expected {}, got {}", shape_text(expected), shape_text(actual));
            (expected != actual).then(text)
        });
        let mismatched = mismatched.collect::<Vec<_>>();
        let left_over = checkpoint.names().filter(|name| {
            let ignored = ignore.iter().any(|prefix| name.starts_with(prefix)) || counter(name);
            !ignored && !self.shapes.contains_key(*name)
        });
        let left_over = left_over.map(str::to_owned).collect::<Vec<_>>();
        if !(missing.is_empty() && mismatched.is_empty() && (left_over.is_empty() || !built)) {
            let path = checkpoint.path().to_owned();
            let cause = likely_cause(checkpoint, &self.shapes, &missing, &left_over);
            // A network that gave up has not asked for the rest.
            let unexpected = if built { left_over } else { Vec::new() };
            return Err(Error::Weights { path, missing, unexpected, mismatched, cause });
        }
        match (self.unreadable, self.not_finite) {
            (Some(error), _) => Err(error),
            (None, Some(name)) => Err(Error::format(checkpoint.path(), None, not_finite(&name))),
            (None, None) => Ok(()),
        }
    }
}

/// Gives a network its tensors and notes what it asked for.
struct Reader<'a> {
    checkpoint: &'a Checkpoint,
    requests: &'a Mutex<Requests>,
}

impl Reader<'_> {
    fn requests(&self) -> MutexGuard<'_, Requests> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops a network that asks for more zeros than any network has weights.
    fn make_room(&self, shape: &[usize]) -> candle_core::Result<()> {
        let len = shape.iter().try_fold(1usize, |product, &side| product.checked_mul(side));
        let mut requests = self.requests();
        match len.and_then(|len| requests.blank.checked_add(len)).filter(|&sum| sum <= BLANK) {
            Some(sum) => {
                requests.blank = sum;
                Ok(())
            }
            None => candle_core::bail!("the weights that do not fit have more than {BLANK} elements"),
        }
    }

    /// The tensor on the CPU, or `None` (and a note) when it cannot be read.
    fn read(&self, name: &str) -> Option<Tensor> {
        match self.checkpoint.tensor(name, &Device::Cpu) {
            Ok(tensor) => {
                if !is_finite(&tensor) {
                    self.requests().not_finite.get_or_insert_with(|| name.to_owned());
                }
                Some(tensor)
            }
            Err(error) => {
                self.requests().unreadable.get_or_insert(error);
                None
            }
        }
    }
}

impl SimpleBackend for Reader<'_> {
    fn get(&self, shape: Shape, name: &str, _: Init, dtype: DType, device: &Device) -> candle_core::Result<Tensor> {
        self.requests().shapes.insert(name.to_owned(), Some(shape.dims().to_vec()));
        let fits = self.checkpoint.shape(name) == Some(shape.dims());
        match fits.then(|| self.read(name)).flatten() {
            Some(tensor) => tensor.to_dtype(dtype)?.to_device(device),
            None => {
                self.make_room(shape.dims())?;
                Tensor::zeros(shape, dtype, device)
            }
        }
    }

    fn get_unchecked(&self, name: &str, dtype: DType, device: &Device) -> candle_core::Result<Tensor> {
        self.requests().shapes.entry(name.to_owned()).or_default();
        let tensor = self.checkpoint.contains(name).then(|| self.read(name)).flatten();
        let tensor = tensor.ok_or_else(|| candle_core::Error::CannotFindTensor { path: name.to_owned() })?;
        tensor.to_dtype(dtype)?.to_device(device)
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.checkpoint.contains(name)
    }
}

/// What is wrong with a file that holds such a tensor.
fn not_finite(name: &str) -> String {
    format!("tensor `{name}` holds NaN or infinite weights; expected finite numbers")
}

/// Checks the values of a tensor on the CPU; the error is a reason.
pub(crate) fn expect_finite(tensor: &Tensor, name: &str) -> std::result::Result<(), String> {
    if is_finite(tensor) { Ok(()) } else { Err(not_finite(name)) }
}

fn is_finite(tensor: &Tensor) -> bool {
    let (storage, layout) = tensor.storage_and_layout();
    match (&*storage, layout.contiguous_offsets()) {
        (candle_core::Storage::Cpu(candle_core::CpuStorage::F32(values)), Some((start, end))) => {
            // All exponent bits set means NaN or infinite; without early exit the loop is vectorised.
            values[start..end].iter().fold(true, |finite, value| finite & value.is_finite())
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn saved(folder: &tempfile::TempDir, tensors: &[(&str, Tensor)]) -> Checkpoint {
        let path = folder.path().join("model.safetensors");
        let tensors = tensors.iter().map(|(name, tensor)| (*name, tensor.clone())).collect::<HashMap<_, _>>();
        candle_core::safetensors::save(&tensors, &path).unwrap();
        Checkpoint::open(path).unwrap()
    }

    fn zeros(shape: &[usize]) -> Tensor {
        Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap()
    }

    #[test]
    fn everything_that_does_not_fit_is_listed() {
        let folder = tempfile::tempdir().unwrap();
        let tensors = [
            ("a.weight", zeros(&[2, 3])),
            ("b.weight", zeros(&[3, 2])),
            ("extra.weight", zeros(&[1])),
            ("head.weight", zeros(&[1])),
            ("bn.num_batches_tracked", zeros(&[])),
        ];
        let checkpoint = saved(&folder, &tensors);
        let build = |vb: VarBuilder<'_>| {
            vb.get((2, 3), "a.weight")?;
            vb.get((2, 3), "b.weight")?;
            vb.pp("c").get(4, "weight")?;
            vb.get((), "d")
        };
        match load(&checkpoint, &Device::Cpu, &["head."], build).unwrap_err() {
            Error::Weights { path, missing, unexpected, mismatched, .. } => {
                assert_eq!(path, checkpoint.path());
                assert_eq!(missing, ["c.weight", "d"]);
                assert_eq!(unexpected, ["extra.weight"]);
                assert_eq!(mismatched, ["b.weight: expected 2x3, got 3x2"]);
            }
            other => panic!("{other}"),
        }
    }

    #[test]
    fn absurd_shapes_take_no_memory() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoint = saved(&folder, &[("a", zeros(&[3]))]);
        for shape in [[1 << 20, 1 << 20], [usize::MAX, 3]] {
            let error = load(&checkpoint, &Device::Cpu, &[], |vb| vb.get(&shape[..], "a")).unwrap_err();
            assert!(matches!(&error, Error::Weights { mismatched, .. } if mismatched.len() == 1), "{error}");
        }
    }

    #[test]
    fn weights_that_are_no_numbers_are_named() {
        for value in [f32::NAN, f32::INFINITY] {
            let folder = tempfile::tempdir().unwrap();
            let damaged = Tensor::new(&[1.0, value, 2.0], &Device::Cpu).unwrap();
            let checkpoint = saved(&folder, &[("a", zeros(&[3])), ("b", damaged)]);
            let error = load(&checkpoint, &Device::Cpu, &[], |vb| Ok((vb.get(3, "a")?, vb.get(3, "b")?))).unwrap_err();
            assert!(error.to_string().contains("tensor `b` holds NaN or infinite weights"), "{error}");
            assert!(load(&checkpoint, &Device::Cpu, &["b"], |vb| vb.get(3, "a")).is_ok());
        }
    }

    #[test]
    fn the_error_of_a_network_is_kept_when_the_weights_fit() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoint = saved(&folder, &[("a", zeros(&[3]))]);
        let error = load(&checkpoint, &Device::Cpu, &[], |vb| vb.get(3, "a")?.reshape((2, 2))).unwrap_err();
        assert!(matches!(error, Error::Model { .. }), "{error}");
        // Nothing is unexpected in a network that gave up, but what it missed explains why.
        let stops = |vb: VarBuilder<'_>| vb.get_unchecked("b");
        let error = load(&checkpoint, &Device::Cpu, &[], stops).unwrap_err();
        assert!(
            matches!(&error, Error::Weights { missing, unexpected, .. } if missing == &["b"] && unexpected.is_empty())
        );
    }
}
