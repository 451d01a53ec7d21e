//! Tiny networks on photographs and patches of flat colours.

mod files;
mod grids;
mod patches;
mod simclr;

use coral_core::image::{Rgb, RgbImage};
use coral_core::{Dataset, Error, LabeledPatch, LabeledPhotograph, Result, SeededRng, Size, ndarray::Array1};

use super::classifier::{FitConfig, ResNetClassifier, ResNetClassifierConfig};
use super::config::ResNetConfig;
use super::patch_network::{Cells, HiddenLayer, PatchNetworkConfig};
use crate::candle_core::Device;
use crate::train::{LoaderConfig, TrainerConfig};

const RESNET: ResNetConfig = ResNetConfig { width: 4, blocks: [1, 1, 1, 1], bottleneck: false };

fn config(classes: usize) -> ResNetClassifierConfig {
    let hidden = HiddenLayer { width: 8, rectified: true, dropout: 0.15 };
    let trainer = TrainerConfig { learning_rate: 1e-2, ..TrainerConfig::default() };
    ResNetClassifierConfig {
        network: PatchNetworkConfig { resnet: RESNET, classes, hidden: Some(hidden), cells: Cells::Cut(16) },
        training: FitConfig { trainer, batch: 6, augmentation: None, ..FitConfig::seaclip() },
        ..ResNetClassifierConfig::seaclip(classes)
    }
}

fn with_workers(mut config: ResNetClassifierConfig, workers: usize) -> ResNetClassifierConfig {
    config.training.loader = LoaderConfig { workers, prefetch: 1 };
    config
}

fn classifier(config: ResNetClassifierConfig) -> ResNetClassifier {
    ResNetClassifier::new(config, 3, &Device::Cpu).unwrap()
}

/// A slightly noisy picture in the colour of a class.
fn flat(class: usize, size: Size, seed: u64) -> RgbImage {
    let mut random = SeededRng::new(seed);
    let base = [[40.0, 60.0, 200.0], [200.0, 180.0, 60.0], [60.0, 190.0, 70.0]][class];
    RgbImage::from_fn(size.width, size.height, |_, _| {
        Rgb(base.map(|level: f64| (level + random.range(-9.0, 9.0)) as u8))
    })
}

fn square(side: u32) -> Size {
    Size { width: side, height: side }
}

/// Samples in memory; one may be broken.
struct Samples<T> {
    items: Vec<T>,
    broken: Option<usize>,
}

impl<T> Samples<T> {
    fn new(items: impl IntoIterator<Item = T>) -> Self {
        Self { items: items.into_iter().collect(), broken: None }
    }
}

impl<T: Clone + Send + Sync> Dataset for Samples<T> {
    type Item = T;

    fn len(&self) -> usize {
        self.items.len()
    }

    fn get(&self, index: usize) -> Result<T> {
        match self.broken {
            Some(broken) if broken == index => Err(Error::format("photo.png", None, "cannot be decoded")),
            _ => Ok(self.items[index].clone()),
        }
    }

    fn name(&self, index: usize) -> Result<String> {
        Ok(format!("sample_{index}"))
    }
}

/// `count` patches of 16 pixels, classes in turn.
fn patches(classes: usize, count: usize) -> Samples<LabeledPatch> {
    Samples::new((0..count).map(|index| LabeledPatch {
        image: flat(index % classes, square(16), index as u64),
        target: Array1::from_shape_fn(classes, |class| f32::from(class == index % classes)),
    }))
}

/// `count` photographs, classes in turn.
fn photographs(classes: usize, count: usize, size: Size) -> Samples<LabeledPhotograph> {
    Samples::new((0..count).map(|index| LabeledPhotograph {
        image: flat(index % classes, size, index as u64),
        class: (index % classes) as u8,
    }))
}

/// All weights and statistics, to be compared bit for bit.
fn values(parameters: &crate::Parameters) -> Vec<(String, Vec<f32>)> {
    let flat = |tensor: crate::candle_core::Tensor| tensor.copy().unwrap().flatten_all().unwrap().to_vec1().unwrap();
    parameters.tensors().into_iter().map(|(name, tensor)| (name, flat(tensor))).collect()
}

fn text<T>(result: Result<T>) -> String {
    result.err().expect("expected an error").to_string()
}
