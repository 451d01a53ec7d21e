use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use coral_core::ndarray::{Array2, ArrayD};
use coral_core::testing::GoldenCase;
use coral_models::{
    Checkpoint, DinoV2, Fresh, Mode, MultiLabelHead, MultiLabelHeadConfig, Parameters, bce_with_logits,
};
use coral_models::{FrameHead, Gradients};

use crate::dinov2::{assert_close, config, tensor};
use crate::{TestResult, open};

const PROBABILITIES: f32 = 2e-5;
const GRADIENTS: f64 = 1e-6;
const GRADIENTS_RELATIVE: f64 = 1e-4;

fn checkpoint(case: &GoldenCase) -> coral_core::Result<Checkpoint> {
    Checkpoint::open(case.dir().join("weights.safetensors"))
}

fn rows(tensor: &Tensor) -> Result<Array2<f32>, Box<dyn std::error::Error>> {
    Ok(Array2::from_shape_vec(tensor.dims2()?, tensor.flatten_all()?.to_vec1()?)?)
}

fn assert_rows(what: &str, ours: &Array2<f32>, expected: &ArrayD<f32>) {
    assert_eq!(ours.shape(), expected.shape(), "{what}");
    let largest = ours.iter().zip(expected).map(|(a, e)| (a - e).abs()).fold(0.0, f32::max);
    assert!(largest <= PROBABILITIES, "{what}: {largest}");
}

#[test]
fn encoder_and_head() -> TestResult {
    let case = open("dinov2_multilabel_head");
    let checkpoint = checkpoint(&case)?;
    let network = DinoV2::load(&checkpoint, config(&case, &checkpoint)?, &Device::Cpu)?;
    let pixels = tensor(&case, "pixel_values")?;
    let tokens = network.forward(&pixels)?;
    let patches = tokens.patches.flatten(1, 2)?;
    let sequence = Tensor::cat(&[&tokens.class.unsqueeze(1)?, &patches], 1)?;
    assert_close("sequence_output", &sequence, &case.f32("sequence_output")?, PROBABILITIES);
    let linear_input = Tensor::cat(&[&tokens.class, &patches.mean(1)?], 1)?;
    assert_close("linear_input", &linear_input, &case.f32("linear_input")?, PROBABILITIES);
    let head = FrameHead::load(&checkpoint, MultiLabelHeadConfig::from_checkpoint(&checkpoint)?)?;
    let logits = head.network().logits(&linear_input, Mode::Eval, None)?;
    assert_close("logits", &logits, &case.f32("logits")?, PROBABILITIES);
    assert_rows("probs", &head.probabilities(rows(&linear_input)?.view())?, &case.f32("probs")?);
    Ok(())
}

#[test]
fn head_alone() -> TestResult {
    let case = open("dinov2_multilabel_head");
    let checkpoint = checkpoint(&case)?;
    let config = MultiLabelHeadConfig::from_checkpoint(&checkpoint)?;
    let number = |name: &str| case.number(&format!("/config/{name}")).map(|number| number as usize);
    assert_eq!(MultiLabelHeadConfig::new(2 * number("hidden")?, number("classes")?), config);
    let head = FrameHead::load(&checkpoint, config)?;
    let features = tensor(&case, "head/features")?;
    // The outputs of the normalisations; those of the linear layers before them are compared in `head.rs`.
    for (hidden, layer) in head.network().hidden_features(&features)?.iter().zip([2, 6]) {
        let name = format!("head/classifier.{layer}.out");
        assert_close(&name, hidden, &case.f32(&name)?, PROBABILITIES);
    }
    let logits = head.network().logits(&features, Mode::Eval, None)?;
    for name in ["head/classifier.8.out", "head/logits"] {
        assert_close(name, &logits, &case.f32(name)?, PROBABILITIES);
    }
    assert_rows("head/probs", &head.probabilities(rows(&features)?.view())?, &case.f32("head/probs")?);
    Ok(())
}

/// Gradients and running statistics of a step in training mode with nothing dropped.
#[test]
fn head_in_training() -> TestResult {
    let case = open("dinov2_multilabel_head");
    let checkpoint = checkpoint(&case)?;
    let config = MultiLabelHeadConfig::from_checkpoint(&checkpoint)?;
    let fresh = Fresh { ignore: &["dinov2."], ..Fresh::default() };
    let (parameters, head) =
        Parameters::load_partly(&checkpoint, &Device::Cpu, fresh, |vb| MultiLabelHead::new(config, &vb))?;
    let features = candle_core::Var::from_tensor(&tensor(&case, "head/features")?)?;
    let logits = head.logits(features.as_tensor(), Mode::Train, None)?;
    let of = |name: &str| format!("head/train_nodropout/{name}");
    assert_close("logits", &logits, &case.f32(&of("logits"))?, PROBABILITIES);
    let loss = bce_with_logits(&logits, &tensor(&case, "head/targets")?, None)?;
    assert_close("loss", &loss, &case.f32(&of("bce_loss"))?, PROBABILITIES);
    let mut ours: BTreeMap<String, Tensor> = BTreeMap::new();
    let gradients = Gradients::of(&loss, &parameters)?;
    for (name, _) in parameters.trainable() {
        ours.insert(of(&format!("grad/{name}")), gradients.get(name)?);
    }
    let of_features = loss.backward()?.get(features.as_tensor()).ok_or("no gradient")?.clone();
    ours.insert(of("grad_features"), of_features);
    let names = case.tensor_names()?;
    let expected = names.iter().filter(|name| name.starts_with(&of("grad")));
    assert_eq!(ours.keys().collect::<Vec<_>>(), expected.collect::<Vec<_>>());
    for (name, gradient) in &ours {
        let expected = case.f32(name)?;
        assert_eq!(gradient.dims(), expected.shape(), "{name}");
        for (a, e) in gradient.flatten_all()?.to_vec1::<f32>()?.into_iter().zip(&expected) {
            let (a, e) = (f64::from(a), f64::from(*e));
            assert!((a - e).abs() <= GRADIENTS + GRADIENTS_RELATIVE * e.abs(), "{name}: {a} against {e}");
        }
    }
    for (name, buffer) in parameters.buffers() {
        let stored = of(&format!("buffers/{name}"));
        let ours = buffer.flatten_all()?.to_vec1::<f32>()?;
        if name.ends_with("num_batches_tracked") {
            assert_eq!(vec![ours[0] as i64], case.i64(&stored)?.iter().copied().collect::<Vec<_>>(), "{stored}");
        } else {
            assert_close(&stored, buffer.as_tensor(), &case.f32(&stored)?, PROBABILITIES);
        }
    }
    Ok(())
}
