use candle_core::{Result, Tensor};
use candle_nn::init::{FanInOut, NonLinearity, NormalOrUniform};
use candle_nn::{Init, VarBuilder};

use crate::layers::{BatchNorm, Mode};
use crate::ops::{self, Activation, Convolution, Window};

/// A convolution without bias, batch normalisation, and ReLU where asked for.
#[derive(Debug, Clone)]
pub(super) struct ConvNorm {
    weight: Tensor,
    window: Window,
    norm: BatchNorm,
    rectified: bool,
    /// Both in one, of weights that are not trained.
    folded: Option<Convolution>,
}

/// Channels in and out, side of the kernel, stride.
pub(super) type Shape = [usize; 4];

impl ConvNorm {
    /// Reads the weights called `conv` and `norm`.
    pub(super) fn new(
        [inner, out, side, stride]: Shape,
        names: [&str; 2],
        rectified: bool,
        vb: &VarBuilder,
    ) -> Result<Self> {
        let init =
            Init::Kaiming { dist: NormalOrUniform::Normal, fan: FanInOut::FanOut, non_linearity: NonLinearity::ReLU };
        let weight = vb.pp(names[0]).get_with_hints((out, inner, side, side), "weight", init)?;
        let norm = BatchNorm::new(out, &vb.pp(names[1]))?;
        let window = Window::square(side, stride, side / 2);
        let mut layer = Self { weight, window, norm, rectified, folded: None };
        if layer.is_fixed() {
            layer.folded = Some(layer.fold()?);
        }
        Ok(layer)
    }

    /// N×H×W×in to N×h×w×out.
    pub(super) fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        if let (Mode::Eval, Some(folded)) = (mode, &self.folded) {
            return folded.forward(x);
        }
        let y = ops::convolve(x, &self.weight, self.window)?;
        self.norm.forward(&y, mode, self.rectified)
    }

    /// Whether nothing that is folded can change: the statistics of frozen weights may still follow the batches.
    fn is_fixed(&self) -> bool {
        !self.weight.track_op() && self.norm.is_fixed()
    }

    fn fold(&self) -> Result<Convolution> {
        let [scale, shift] = self.norm.affine()?;
        let weight = self.weight.broadcast_mul(&scale.reshape(((), 1, 1, 1))?)?;
        let convolution = Convolution::new(&weight, Some(shift), self.window.stride)?;
        Ok(if self.rectified { convolution.with_activation(Activation::Relu) } else { convolution })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Parameters;
    use crate::gradient_check::assert_gradients;
    use crate::ops::testing::{assert_close, random};
    use candle_core::{DType, Device};

    const NAMES: [&str; 2] = ["conv", "bn"];

    fn build(shape: Shape) -> impl Fn(VarBuilder<'_>) -> Result<ConvNorm> {
        move |vb| ConvNorm::new(shape, NAMES, true, &vb)
    }

    #[test]
    fn running_statistics_follow_the_batches_as_in_pytorch() {
        let (parameters, layer) = Parameters::create(1, &Device::Cpu, build([1, 1, 1, 1])).unwrap();
        parameters
            .get("conv.weight")
            .unwrap()
            .set(&Tensor::ones((1, 1, 1, 1), DType::F32, &Device::Cpu).unwrap())
            .unwrap();
        let x = Tensor::new(&[1f32, 2.0, 4.0, 9.0], &Device::Cpu).unwrap().reshape((1, 2, 2, 1)).unwrap();
        let value = |name: &str| parameters.get(name).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap()[0];
        // Of 1, 2, 4, 9 the mean is 4 and the unbiased variance 38/3.
        for (batches, mean, variance) in [(1.0, 0.4, 0.9 + 3.8 / 3.0), (2.0, 0.76, 0.81 + 1.9 * 3.8 / 3.0)] {
            layer.forward(&x, Mode::Train).unwrap();
            assert!((value("bn.running_mean") - mean).abs() < 1e-6);
            assert!((value("bn.running_var") - variance as f32).abs() < 1e-6);
            assert_eq!(value("bn.num_batches_tracked"), batches);
        }
        layer.forward(&x, Mode::Eval).unwrap();
        assert_eq!(value("bn.num_batches_tracked"), 2.0);
        let fixed = parameters.detached(build([1, 1, 1, 1])).unwrap();
        assert!(
            fixed.forward(&x, Mode::Train).unwrap_err().to_string().contains("build the network from `Parameters`")
        );
    }

    #[test]
    fn folded_weights_give_the_same() {
        let shape = [3, 5, 3, 2];
        let (parameters, layer) = Parameters::create(1, &Device::Cpu, build(shape)).unwrap();
        let x = random(&[2, 7, 10, 3], 1);
        layer.forward(&random(&[4, 9, 9, 3], 2), Mode::Train).unwrap();
        let folded = parameters.detached(build(shape)).unwrap();
        assert!(folded.folded.is_some() && layer.folded.is_none());
        let expected = layer.forward(&x, Mode::Eval).unwrap();
        assert_close(&folded.forward(&x, Mode::Eval).unwrap(), &expected, 1e-5);
        assert!(expected.flatten_all().unwrap().max(0).unwrap().to_scalar::<f32>().unwrap() > 0.1);
    }

    #[test]
    fn frozen_weights_keep_to_statistics_and_biases_that_move() {
        let shape = [2, 3, 3, 1];
        let x = random(&[2, 6, 5, 2], 1);
        let (mut parameters, _) = Parameters::create(1, &Device::Cpu, build(shape)).unwrap();
        let as_detached = |parameters: &Parameters, layer: &ConvNorm| {
            let detached = parameters.detached(build(shape)).unwrap();
            let expected = detached.forward(&x, Mode::Eval).unwrap();
            assert_close(&layer.forward(&x, Mode::Eval).unwrap(), &expected, 1e-5);
        };
        parameters.freeze(|_| true);
        let layer = parameters.build(build(shape)).unwrap();
        as_detached(&parameters, &layer);
        let before = layer.forward(&x, Mode::Eval).unwrap();
        layer.forward(&random(&[4, 9, 9, 2], 2), Mode::Train).unwrap();
        assert!(
            (layer.forward(&x, Mode::Eval).unwrap() - before)
                .unwrap()
                .abs()
                .unwrap()
                .max_all()
                .unwrap()
                .to_scalar::<f32>()
                .unwrap()
                > 1e-3
        );
        as_detached(&parameters, &layer);
        parameters.unfreeze(|name| name.ends_with("bias"));
        let layer = parameters.build(build(shape)).unwrap();
        parameters.get("bn.bias").unwrap().set(&Tensor::new(&[0.5f32, -0.5, 1.0], &Device::Cpu).unwrap()).unwrap();
        as_detached(&parameters, &layer);
    }

    #[test]
    fn gradients_pass_in_both_modes() {
        let (parameters, _) = Parameters::create(1, &Device::Cpu, build([2, 3, 3, 2])).unwrap();
        let names = ["bn.bias", "bn.weight", "conv.weight"];
        let start: Vec<Tensor> =
            names.iter().map(|n| parameters.get(n).unwrap().to_dtype(DType::F64).unwrap()).collect();
        let x = random(&[2, 5, 4, 2], 3).to_dtype(DType::F64).unwrap();
        let arguments: Vec<&Tensor> = start.iter().chain([&x]).collect();
        for mode in [Mode::Train, Mode::Eval] {
            assert_gradients(&arguments, |v| {
                let (copy, _) = parameters.converted(DType::F64, build([2, 3, 3, 2])).unwrap();
                let mut tensors = copy.tensors().into_iter().collect::<std::collections::HashMap<_, _>>();
                for (name, buffer) in copy.buffers() {
                    tensors.insert(name.to_owned(), buffer.as_tensor().clone());
                }
                names.iter().zip(v).for_each(|(name, value)| drop(tensors.insert((*name).to_owned(), value.clone())));
                let vb = VarBuilder::from_tensors(tensors, DType::F64, &Device::Cpu);
                build([2, 3, 3, 2])(vb)?.forward(&v[3], mode)
            });
        }
    }
}
