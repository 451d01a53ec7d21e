use std::path::Path;

use candle_core::{DType, Device, Tensor};
use coral_core::image::{Rgb, RgbImage};
use coral_core::ndarray::Array2;
use coral_core::{Dataset, Error, NoProgress, PointPrompt, Result, RleMask, SentencePair, Size, TextEncoder};

use super::*;
use crate::sam::config::SamConfig;
use crate::sam::testing;
use crate::{Checkpoint, OptimizerConfig, SamTrainer, SamTrainerConfig, TrainerConfig};

const SIZE: Size = Size { width: 30, height: 20 };
const LEFT: &str = "what is on the left";
const RIGHT: &str = "what is on the right";
const WRECK: &str = "a wreck";

/// Images in memory.
struct Images(Vec<InstructedImage>);

impl Dataset for Images {
    type Item = InstructedImage;

    fn len(&self) -> usize {
        self.0.len()
    }

    fn get(&self, index: usize) -> Result<InstructedImage> {
        Ok(self.0[index].clone())
    }

    fn name(&self, index: usize) -> Result<String> {
        Ok(format!("image {index}"))
    }
}

/// A sentence is a number of its own.
struct OneHot;

impl TextEncoder for OneHot {
    fn encode_texts(&self, texts: &[&str]) -> Result<Array2<f32>> {
        let known = [LEFT, RIGHT, WRECK];
        Ok(Array2::from_shape_fn((texts.len(), 3), |(row, column)| f32::from(known[column] == texts[row])))
    }
}

/// For images of 32 pixels, which are 8×8 tokens.
fn network() -> SamConfig {
    SamConfig { image_size: 32, ..testing::tiny([8, 8], 4, None) }
}

fn config() -> TextPrompterConfig {
    let optimizer = OptimizerConfig::AdamW { betas: [0.9, 0.999], eps: 1e-8, weight_decay: 1e-4 };
    let training = TextFitConfig {
        trainer: TrainerConfig { optimizer, learning_rate: 5e-3, ..TrainerConfig::default() },
        ..TextFitConfig::default()
    };
    TextPrompterConfig::new(network(), TextAdapterConfig { text_dim: 3, hidden: 16, tokens: 2 }, training)
}

/// Two red squares on blue, the left of them in the first image only.
fn photograph(left: bool) -> RgbImage {
    RgbImage::from_fn(SIZE.width, SIZE.height, |x, y| {
        let inside = square(x, y, 4) && left || square(x, y, 18);
        Rgb(if inside { [220, 40, 30] } else { [20, 60, 160] })
    })
}

fn square(x: u32, y: u32, start: u32) -> bool {
    (start..start + 8).contains(&x) && (6..14).contains(&y)
}

fn pair(sentence: &str, start: Option<u32>) -> SentencePair {
    let mask = RleMask::from_fn(SIZE, |x, y| start.is_some_and(|start| square(x, y, start)));
    SentencePair { sentence: sentence.into(), class: 0, mask }
}

fn images(prompter: &TextPrompter) -> Images {
    let embed = |left| prompter.predictor().unwrap().embed(&photograph(left)).unwrap();
    let both = vec![pair(LEFT, Some(4)), pair(RIGHT, Some(18)), pair(WRECK, None)];
    let one = vec![pair(LEFT, None), pair(RIGHT, Some(18)), pair(WRECK, None)];
    Images(vec![
        InstructedImage { embedding: embed(true), pairs: both },
        InstructedImage { embedding: embed(false), pairs: one },
    ])
}

fn sentences() -> SentenceEmbeddings {
    SentenceEmbeddings::new(&OneHot, [LEFT, RIGHT, WRECK]).unwrap()
}

fn prompter(config: TextPrompterConfig) -> TextPrompter {
    TextPrompter::new(config, 3, &Device::Cpu).unwrap()
}

fn train(prompter: &mut TextPrompter, images: &dyn Dataset<Item = InstructedImage>, epochs: std::ops::Range<u64>) {
    for epoch in epochs {
        prompter.fit_epoch(images, &sentences(), (epoch, &NoProgress)).unwrap();
    }
}

fn iou(ours: &Array2<bool>, truth: &RleMask) -> f64 {
    let pairs = || ours.iter().zip(truth.decode()).map(|(&a, b)| (a, b));
    let count = |f: fn((bool, bool)) -> bool| pairs().filter(|&pair| f(pair)).count() as f64;
    count(|(a, b)| a && b) / count(|(a, b)| a || b).max(1.0)
}

#[test]
fn sentences_are_followed_and_what_is_absent_is_empty() {
    let mut prompter = prompter(config());
    let images = images(&prompter);
    train(&mut prompter, &images, 0..400);
    let sentences = sentences();
    for image in 0..2 {
        let InstructedImage { embedding, pairs } = images.get(image).unwrap();
        for pair in pairs {
            let answer = prompter.predict(&embedding, sentences.get(&pair.sentence).unwrap(), &[]).unwrap();
            let what = format!("{} in image {image}: presence {}", pair.sentence, answer.presence);
            assert_eq!(answer.mask.dim(), SIZE.shape());
            assert_eq!(answer.presence > 0.5, pair.is_positive(), "{what}");
            match pair.is_positive() {
                true => assert!(iou(&answer.mask, &pair.mask) > 0.6, "{what}, {}", iou(&answer.mask, &pair.mask)),
                false => assert!(answer.mask.iter().all(|&inside| !inside), "{what}"),
            }
        }
    }
}

#[test]
fn what_is_not_trained_stays() {
    let config =
        TextPrompterConfig { training: TextFitConfig { part: TextPart::Adapter, ..config().training }, ..config() };
    for (config, moving) in [(config, "text_adapter."), (self::config(), "mask_decoder.")] {
        let mut prompter = prompter(config);
        let values = |prompter: &TextPrompter| prompter.trained.trainer.parameters().tensors();
        let images = images(&prompter);
        let list = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let before: Vec<_> = values(&prompter).into_iter().map(|(name, tensor)| (name, list(&tensor))).collect();
        train(&mut prompter, &images, 0..2);
        let after = values(&prompter);
        let moved = |(name, before): &(String, Vec<f32>)| (list(&after[name]) != *before).then(|| name.clone());
        let moved: Vec<_> = before.iter().filter_map(moved).collect();
        assert!(moved.iter().any(|name| name.starts_with(moving)), "{moved:?}");
        let part = prompter.config().training.part;
        assert!(moved.iter().all(|name| part.contains(name)), "{moved:?}");
    }
}

fn at(folder: &Path, name: &str) -> std::path::PathBuf {
    folder.join(name)
}

#[test]
fn files_give_the_same_answers_and_trainings_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let mut whole = prompter(config());
    let images = images(&whole);
    train(&mut whole, &images, 0..2);
    whole.save_training(at(folder.path(), "state.safetensors"), &2u64).unwrap();
    train(&mut whole, &images, 2..4);

    let mut resumed = TextPrompter::new(config(), 77, &Device::Cpu).unwrap();
    assert_eq!(resumed.resume::<u64>(at(folder.path(), "state.safetensors")).unwrap(), 2);
    train(&mut resumed, &images, 2..4);
    let point = PointPrompt { x: 22.5, y: 9.5, foreground: true };
    let answers = |prompter: &TextPrompter| {
        let embedding = images.get(0).unwrap().embedding;
        let answer = |points: &[PointPrompt]| prompter.predict(&embedding, &[0.0, 1.0, 0.0], points).unwrap();
        [answer(&[]), answer(&[point])]
    };
    assert_eq!(answers(&resumed), answers(&whole));
    assert_ne!(answers(&whole)[0], answers(&whole)[1], "points are seen");

    whole.save(at(folder.path(), "model.safetensors")).unwrap();
    let opened = TextPrompter::open(at(folder.path(), "model.safetensors"), &Device::Cpu).unwrap();
    assert_eq!(answers(&opened), answers(&whole));
    let bytes = std::fs::read(at(folder.path(), "model.safetensors")).unwrap();
    std::fs::write(at(folder.path(), "cut.safetensors"), &bytes[..bytes.len() / 2]).unwrap();
    let error = TextPrompter::open(at(folder.path(), "cut.safetensors"), &Device::Cpu).unwrap_err();
    assert!(error.to_string().contains("cut.safetensors"), "{error}");
}

#[test]
fn trainings_start_from_other_networks() {
    let folder = tempfile::tempdir().unwrap();
    let path = at(folder.path(), "sam.safetensors");
    let base = SamTrainerConfig::new(network(), Default::default(), crate::SamFitConfig::pretraining(10));
    SamTrainer::new(base, 5, &Device::Cpu).unwrap().save(&path).unwrap();
    let checkpoint = Checkpoint::open(&path).unwrap();
    let started = TextPrompter::fine_tune(config(), &checkpoint, 1, &Device::Cpu).unwrap();
    let name = "mask_decoder.mask_tokens.weight";
    let list = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let theirs = crate::Sam::open(&path).unwrap();
    assert_eq!(theirs.config().dim, 16);
    let ours = started.trained.trainer.parameters().get(name).unwrap();
    assert_eq!(ours.dtype(), DType::F32);
    let saved = checkpoint.tensor(name, &Device::Cpu).unwrap();
    assert_eq!(list(ours), list(&saved));
}

#[test]
fn bad_input_is_named() {
    let mut prompter = prompter(config());
    let embedding = prompter.predictor().unwrap().embed(&photograph(true)).unwrap();
    let with = |pair: SentencePair| Images(vec![InstructedImage { embedding: embedding.clone(), pairs: vec![pair] }]);
    let mut refuse =
        |pair: SentencePair| prompter.fit_epoch(&with(pair), &sentences(), (0, &NoProgress)).unwrap_err().to_string();
    assert!(refuse(pair("a diver", None)).contains("`a diver` was not encoded"));
    let small = RleMask::from_fn(Size { width: 3, height: 2 }, |_, _| true);
    assert!(refuse(SentencePair { mask: small, ..pair(LEFT, None) }).contains("30x20"));
    let error = prompter.predict(&embedding, &[1.0; 4], &[]).unwrap_err().to_string();
    assert!(error.contains("3 values, got 4"), "{error}");
    let outside = PointPrompt { x: 31.0, y: 3.0, foreground: true };
    assert!(prompter.predict(&embedding, &[1.0; 3], &[outside]).unwrap_err().to_string().contains("outside"));
    let three = SamConfig { semantic: None, ..network() };
    let bad = TextPrompterConfig { network: three, ..config() };
    assert!(matches!(TextPrompter::new(bad, 0, &Device::Cpu), Err(Error::InvalidParameter { .. })));
    let bad = TextPrompterConfig { presence_threshold: f32::NAN, ..config() };
    assert!(TextPrompter::new(bad, 0, &Device::Cpu).unwrap_err().to_string().contains("presence_threshold"));
}
