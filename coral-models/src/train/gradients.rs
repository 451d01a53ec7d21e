use std::collections::BTreeMap;
use std::fmt;

use candle_core::backprop::GradStore;
use candle_core::{DType, Tensor};
use coral_core::{Error, Result};

use super::in_parts::sum_of_squares;
use super::parameters::Parameters;
use crate::ops::Values;
use crate::ops::is_plain;

/// The slope of a loss in every weight that is trained.
///
/// # Examples
/// ```
/// use candle_core::Device;
/// use coral_models::{Gradients, Parameters};
/// let (parameters, weight) = Parameters::create(0, &Device::Cpu, |vb| {
///     vb.get_with_hints(2, "weight", candle_nn::Init::Const(3.0))
/// })?;
/// let loss = weight.sqr().and_then(|squares| squares.sum_all()).unwrap();
/// let mut gradients = Gradients::of(&loss, &parameters)?;
/// assert_eq!(gradients.get("weight")?.to_vec1::<f32>().unwrap(), [6.0, 6.0]);
/// assert_eq!(gradients.norm(), 72f64.sqrt());
/// gradients.clip_norm(1.0)?;
/// assert!((gradients.norm() - 1.0).abs() < 1e-6);
/// # Ok::<(), coral_core::Error>(())
/// ```
pub struct Gradients {
    tensors: BTreeMap<String, Tensor>,
    /// The gradients are the tensors times this: scaling all of them costs nothing.
    factor: f64,
    /// Sum of squares of the tensors.
    squares: f64,
}

impl Gradients {
    /// Goes back from a loss to the weights it came from.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] when the loss is not one number; [`Error::InvalidInput`] when it is NaN or infinite, when
    /// it does not depend on a weight that is to be trained (all such are named) or when a gradient is NaN or infinite
    /// (the first such is named); [`Error::Model`] when an operation on the way has no gradient.
    pub fn of(loss: &Tensor, parameters: &Parameters) -> Result<Self> {
        loss_value(loss)?;
        let mut sum = BTreeMap::new();
        add_backward(&mut sum, loss, parameters)?;
        Self::collected(sum, parameters)
    }

    /// Gradients that were added up by [`add_backward`].
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when a weight that is to be trained has none, or one is NaN or infinite.
    pub(crate) fn collected(tensors: BTreeMap<String, Tensor>, parameters: &Parameters) -> Result<Self> {
        let missing = parameters.trainable().filter(|(name, _)| !tensors.contains_key(*name));
        let missing: Vec<_> = missing.map(|(name, _)| format!("`{name}`")).collect();
        if !missing.is_empty() {
            let reason = format!(
                "does not depend on {}; freeze what is not to be trained, or look for an operation without gradient",
                missing.join(", ")
            );
            return Err(Error::input("loss", reason));
        }
        let squares = total(&tensors)?;
        Ok(Self { tensors, factor: 1.0, squares })
    }

    /// The gradient of a weight, of the weight's shape.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when there is none for this name.
    pub fn get(&self, name: &str) -> Result<Tensor> {
        let tensor = self.tensors.get(name).ok_or_else(|| Error::input(name, "has no gradient"))?;
        scaled(tensor, self.factor)
    }

    /// The names of the weights.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// The Euclidean norm of all gradients together.
    pub fn norm(&self) -> f64 {
        self.squares.sqrt() * self.factor.abs()
    }

    /// Shrinks all gradients alike until their norm is at most `max`, as PyTorch's `clip_grad_norm_` does it; returns the
    /// norm before.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] when `max` is not positive.
    pub fn clip_norm(&mut self, max: f64) -> Result<f64> {
        positive("clip_norm", max)?;
        let norm = self.norm();
        self.factor *= (max / (norm + 1e-6)).min(1.0);
        Ok(norm)
    }

    /// Brings every element into `-max..=max`.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] when `max` is not positive.
    pub fn clip_value(&mut self, max: f64) -> Result<()> {
        positive("clip_value", max)?;
        for tensor in self.tensors.values_mut() {
            *tensor = scaled(tensor, self.factor)?.clamp(-max, max).map_err(Error::model)?;
        }
        (self.factor, self.squares) = (1.0, total(&self.tensors)?);
        Ok(())
    }

    /// Multiplies all gradients.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] when `factor` is not a finite number.
    pub fn scale(&mut self, factor: f64) -> Result<()> {
        if !factor.is_finite() {
            return Err(Error::parameter("factor", format!("{factor} is not a finite number")));
        }
        self.factor *= factor;
        Ok(())
    }

    /// Adds the gradients of another part of a batch.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when they are of other weights, or a sum is infinite; [`Error::Model`] when shapes differ.
    pub fn add(&mut self, other: &Self) -> Result<()> {
        if !self.names().eq(other.names()) {
            return Err(Error::input("gradients", "are of other weights than those to add them to"));
        }
        let sum = |(name, ours): (&String, &Tensor)| {
            let sum = (scaled(ours, self.factor)? + other.get(name)?).map_err(Error::model)?;
            Ok((name.clone(), sum))
        };
        let tensors = self.tensors.iter().map(sum).collect::<Result<_>>()?;
        let squares = total(&tensors)?;
        *self = Self { tensors, factor: 1.0, squares };
        Ok(())
    }

    /// The unscaled tensors, and what to multiply them with.
    pub(super) fn parts(&self) -> (&BTreeMap<String, Tensor>, f64) {
        (&self.tensors, self.factor)
    }
}

impl fmt::Debug for Gradients {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let weights = self.tensors.len();
        out.debug_struct("Gradients").field("weights", &weights).field("norm", &self.norm()).finish()
    }
}

/// Goes back from a part of a loss and adds the slopes to those of the other parts; gives the rest of them, e.g. that of a
/// variable that is no weight.
pub(crate) fn add_backward(
    sum: &mut BTreeMap<String, Tensor>,
    loss: &Tensor,
    parameters: &Parameters,
) -> Result<GradStore> {
    let mut all = loss.backward().map_err(Error::model)?;
    for (name, variable) in parameters.trainable() {
        let Some(gradient) = all.remove(variable) else { continue };
        let gradient = match sum.get(name) {
            Some(former) => former + gradient,
            None => gradient.contiguous(),
        };
        sum.insert(name.to_owned(), gradient.map_err(Error::model)?);
    }
    Ok(all)
}

/// The loss as a number.
pub(super) fn loss_value(loss: &Tensor) -> Result<f64> {
    if loss.elem_count() != 1 {
        return Err(Error::shape("loss", "scalar", format!("{:?}", loss.dims())));
    }
    let value = number(loss)?;
    match value.is_finite() {
        true => Ok(value),
        false => Err(Error::input("loss", format!("is {value}; expected a finite number"))),
    }
}

fn number(tensor: &Tensor) -> Result<f64> {
    let number = tensor.flatten_all().and_then(|t| t.get(0)?.to_dtype(DType::F64)?.to_scalar());
    number.map_err(Error::model)
}

/// The sum of squares over all tensors, which must be numbers.
fn total(tensors: &BTreeMap<String, Tensor>) -> Result<f64> {
    let mut total = 0.0;
    for (name, tensor) in tensors {
        let squares = match is_plain(tensor) {
            true => sum_of_squares(&Values::of(tensor).map_err(Error::model)?),
            false => number(&tensor.sqr().and_then(|squares| squares.sum_all()).map_err(Error::model)?)?,
        };
        if !squares.is_finite() {
            return Err(Error::input(format!("gradient of {name}"), "holds NaN or infinity; expected finite numbers"));
        }
        total += squares;
    }
    Ok(total)
}

fn scaled(tensor: &Tensor, factor: f64) -> Result<Tensor> {
    match factor == 1.0 {
        true => Ok(tensor.clone()),
        false => tensor.affine(factor, 0.0).map_err(Error::model),
    }
}

pub(super) fn positive(name: &str, value: f64) -> Result<()> {
    match value.is_finite() && value > 0.0 {
        true => Ok(()),
        false => Err(Error::parameter(name, format!("{value} is not a positive number"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;
    use candle_nn::{Init, VarBuilder};

    /// a of 1, 2, 3, and b of 4.
    fn weights(dtype: DType) -> (Parameters, (Tensor, Tensor)) {
        let build = |vb: VarBuilder<'_>| Ok((vb.get(3, "a")?, vb.get_with_hints((), "b", Init::Const(4.0))?));
        let (parameters, _) = Parameters::create(0, &Device::Cpu, build).unwrap();
        let a = Tensor::new(&[1f32, 2.0, 3.0], &Device::Cpu).unwrap();
        parameters.get("a").unwrap().set(&a).unwrap();
        parameters.converted(dtype, build).unwrap()
    }

    fn list(gradients: &Gradients, name: &str) -> Vec<f64> {
        let gradient = gradients.get(name).unwrap();
        gradient.flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1().unwrap()
    }

    /// Σ a² · b: slopes 2ab = 8, 16, 24 and Σ a² = 14.
    fn product(a: &Tensor, b: &Tensor) -> Tensor {
        a.sqr().unwrap().sum_all().unwrap().mul(b).unwrap()
    }

    #[test]
    fn slopes_are_found_scaled_and_added() {
        for dtype in [DType::F32, DType::F64] {
            let (parameters, (a, b)) = weights(dtype);
            let mut gradients = Gradients::of(&product(&a, &b), &parameters).unwrap();
            assert_eq!((list(&gradients, "a"), list(&gradients, "b")), (vec![8.0, 16.0, 24.0], vec![14.0]));
            let norm = (64.0f64 + 256.0 + 576.0 + 196.0).sqrt();
            assert!((gradients.norm() - norm).abs() < 1e-9);
            gradients.scale(-0.5).unwrap();
            let other = Gradients::of(&product(&a, &b), &parameters).unwrap();
            gradients.add(&other).unwrap();
            assert_eq!((list(&gradients, "a"), list(&gradients, "b")), (vec![4.0, 8.0, 12.0], vec![7.0]));
            assert!((gradients.norm() - norm / 2.0).abs() < 1e-9);
        }
    }

    #[test]
    fn clipping_keeps_small_gradients() {
        let (parameters, (a, b)) = weights(DType::F32);
        let mut gradients = Gradients::of(&product(&a, &b), &parameters).unwrap();
        let norm = gradients.norm();
        assert_eq!(gradients.clip_norm(100.0).unwrap(), norm);
        assert_eq!(list(&gradients, "a"), [8.0, 16.0, 24.0]);
        assert_eq!(gradients.clip_norm(norm / 4.0).unwrap(), norm);
        list(&gradients, "a").iter().zip([2.0, 4.0, 6.0]).for_each(|(g, e)| assert!((g - e).abs() < 1e-6));
        gradients.clip_value(3.0).unwrap();
        assert_eq!(list(&gradients, "a")[1..], [3.0, 3.0]);
        assert!((gradients.norm() - (4.0f64 + 9.0 + 9.0 + 9.0).sqrt()).abs() < 1e-6);
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(gradients.clip_norm(bad).is_err() && gradients.clip_value(bad).is_err());
        }
        assert!(gradients.scale(f64::NAN).is_err());
    }

    #[test]
    fn weights_without_gradient_are_named() {
        let (mut parameters, (a, b)) = weights(DType::F32);
        let error = Gradients::of(&a.detach().sum_all().unwrap(), &parameters).unwrap_err().to_string();
        assert!(error.contains("does not depend on `a`, `b`"), "{error}");
        let loss = a.sum_all().unwrap();
        let error = Gradients::of(&loss, &parameters).unwrap_err().to_string();
        assert!(error.contains("on `b`;"), "{error}");
        parameters.freeze(|name| name == "b");
        let gradients = Gradients::of(&loss, &parameters).unwrap();
        assert_eq!(gradients.names().collect::<Vec<_>>(), ["a"]);
        parameters.unfreeze(|_| true);
        let mut all = Gradients::of(&product(&a, &b), &parameters).unwrap();
        assert!(all.add(&gradients).unwrap_err().to_string().contains("other weights"));
    }

    #[test]
    fn what_is_no_number_is_named() {
        let (parameters, (a, b)) = weights(DType::F32);
        let error = |loss: &Tensor| Gradients::of(loss, &parameters).unwrap_err().to_string();
        assert!(error(&(product(&a, &b) / 0.0).unwrap()).contains("`loss`: is inf"));
        assert!(error(&product(&a, &b).affine(f64::NAN, 0.0).unwrap()).contains("`loss`: is NaN"));
        assert!(error(&a).contains("loss: expected shape scalar, got [3]"));
        // The square root has a finite value but no slope at 0.
        let root = (&a - 1.0).unwrap().relu().unwrap().sqrt().unwrap().sum_all().unwrap();
        let text = error(&(root + b).unwrap());
        assert!(text.contains("gradient of a"), "{text}");
    }
}
