//! The whole network: gradients, and agreement of the fused operations with the composed ones.

use candle_core::{DType, Device, Tensor, Var};
use candle_nn::VarBuilder;

use super::SegFormerConfig;
use crate::gradient_check::{assert_variable_gradients, random};
use crate::ops::testing::assert_close;
use crate::{Mode, Parameters, SegFormer};

/// A tiny network with weights far from their initial values, and more than one key in the smallest maps.
fn trainable(dtype: DType) -> (Parameters, SegFormer) {
    let config = SegFormerConfig { sr_ratios: [4, 2, 2, 1], ..super::network(3) };
    let build = |vb: VarBuilder<'_>| SegFormer::new(&config, &vb);
    let (parameters, _) = Parameters::create(1, &Device::Cpu, build).unwrap();
    for (seed, name) in parameters.names().enumerate() {
        let variable = parameters.get(name).unwrap();
        let values = (random(variable.dims(), seed as u64) * 0.4).unwrap();
        let values = match name.rsplit('.').next() {
            Some("running_var") => (values.abs().unwrap() + 0.5).unwrap(),
            Some("num_batches_tracked") => continue,
            _ => values,
        };
        variable.set(&values.to_dtype(variable.dtype()).unwrap()).unwrap();
    }
    parameters.converted(dtype, build).unwrap()
}

#[test]
fn every_weight_has_the_gradient_of_finite_differences() {
    // Neither square nor a multiple of 32, with windows that leave out a margin.
    let pixels = random(&[2, 3, 37, 51], 500);
    let (parameters, network) = trainable(DType::F64);
    let variables = |chosen: &dyn Fn(&str) -> bool| -> Vec<(String, Var)> {
        let chosen = parameters.trainable().filter(|(name, _)| chosen(name));
        chosen.map(|(name, variable)| (name.to_owned(), variable.clone())).collect()
    };
    let mix = random(&[2, 3, 10, 13], 501);
    let loss = |mode| {
        let logits = network.logits(&pixels, mode, None).unwrap();
        (logits * &mix).unwrap().sum_all().unwrap()
    };
    // The tensor library's derivative of GELU is good to six digits.
    assert_variable_gradients(&variables(&|_| true), 2e-5, || loss(Mode::Eval));
    // What is added to all values of a channel, the batch's mean takes away again.
    let last = |name: &str| name.contains("linear_c") || name.ends_with("encoder.layer_norm.3.bias");
    let shifts = |name: &str| last(name) && name.ends_with("bias");
    assert_eq!(variables(&shifts).len(), 5);
    assert_variable_gradients(&variables(&|name| !shifts(name)), 2e-5, || loss(Mode::Train));
}

#[test]
fn inference_takes_other_paths_to_the_same_values() {
    let (parameters, network) = trainable(DType::F32);
    let build = |vb: VarBuilder<'_>| SegFormer::new(network.config(), &vb);
    let fixed = parameters.detached(build).unwrap();
    for shape in [[1, 3, 37, 51], [2, 3, 64, 32], [1, 3, 29, 100]] {
        let pixels = random(&shape, 7).to_dtype(DType::F32).unwrap();
        let [composed, fused] = [&network, &fixed].map(|n| n.logits(&pixels, Mode::Eval, None).unwrap());
        assert!(composed.track_op() && !fused.track_op());
        assert_eq!(fused.dims(), [shape[0], 3, shape[2].div_ceil(4), shape[3].div_ceil(4)]);
        assert_close(&fused, &composed.detach(), 1e-4);
        let maps = |n: &SegFormer| n.stages(&pixels).unwrap().iter().map(Tensor::detach).collect::<Vec<_>>();
        for (stage, (ours, expected)) in maps(&fixed).iter().zip(maps(&network)).enumerate() {
            assert_close(&ours.contiguous().unwrap(), &expected.contiguous().unwrap(), 1e-4);
            let sides = [shape[2], shape[3]].map(|side| side.div_ceil(4 << stage));
            assert_eq!(ours.dims()[2..], sides);
        }
    }
}

#[test]
fn inputs_that_do_not_fit_are_errors() {
    let (parameters, network) = trainable(DType::F32);
    let text = |shape: &[usize]| {
        let pixels = Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
        network.logits(&pixels, Mode::Eval, None).unwrap_err().to_string()
    };
    assert!(text(&[1, 4, 64, 64]).contains("expected Nx3xHxW"));
    assert!(text(&[0, 3, 64, 64]).contains("expected Nx3xHxW"));
    assert!(text(&[1, 3, 12, 64]).contains("64x12 pixels are too few"));
    assert!(text(&[1, 3, 0, 64]).contains("too few"));
    assert!(network.stages(&Tensor::zeros((3, 64, 64), DType::F32, &Device::Cpu).unwrap()).is_err());
    let fixed = parameters.detached(|vb| SegFormer::new(network.config(), &vb)).unwrap();
    let pixels = Tensor::zeros((1, 3, 32, 32), DType::F32, &Device::Cpu).unwrap();
    let error = fixed.logits(&pixels, Mode::Train, None).unwrap_err().to_string();
    assert!(error.contains("build the network from `Parameters`"), "{error}");
}
