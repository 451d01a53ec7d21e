//! Tiny networks on images of two colours.

mod files;
mod fit;
mod gradients;
mod segment;

use coral_core::image::{Rgb, RgbImage};
use coral_core::{Dataset, Error, LabelMap, LabeledImage, Result, SeededRng, Size};

use super::{SegFormerConfig, SegFormerSegmenter, SegFormerSegmenterConfig};
use crate::candle_core::Device;
use crate::train::{LoaderConfig, Monitor, TrainerConfig};

fn network(classes: usize) -> SegFormerConfig {
    SegFormerConfig {
        hidden_sizes: [4, 8, 12, 16],
        num_attention_heads: [1, 2, 3, 4],
        depths: [1, 1, 2, 1],
        mlp_ratios: [2; 4],
        decoder_hidden_size: 8,
        ..SegFormerConfig::mit_b0(classes)
    }
}

fn config(classes: usize) -> SegFormerSegmenterConfig {
    let mut config = SegFormerSegmenterConfig::new(network(classes));
    config.training.trainer =
        TrainerConfig { learning_rate: 1e-2, monitor: Monitor::TrainingLoss, ..config.training.trainer };
    config.training.batch = 4;
    config.training.loader = LoaderConfig { workers: 0, prefetch: 0 };
    config
}

fn segmenter(config: SegFormerSegmenterConfig) -> SegFormerSegmenter {
    SegFormerSegmenter::new(config, 3, &Device::Cpu).unwrap()
}

fn size(width: u32, height: u32) -> Size {
    Size { width, height }
}

/// Two noisy colours on both sides of a line that `seed` puts somewhere, upright or level.
fn scene(size: Size, seed: u64) -> LabeledImage {
    let mut random = SeededRng::new(seed);
    let (upright, share) = (random.chance(0.5), random.range(0.3, 0.7));
    let labels = LabelMap::from_shape_fn(size.shape(), |(y, x)| {
        let at = if upright { x as f64 / f64::from(size.width) } else { y as f64 / f64::from(size.height) };
        u8::from(at < share)
    });
    let image = RgbImage::from_fn(size.width, size.height, |x, y| {
        let base = [[190.0, 170.0, 90.0], [50.0, 110.0, 80.0]][usize::from(labels[[y as usize, x as usize]])];
        Rgb(base.map(|level: f64| (level + random.range(-20.0, 20.0)) as u8))
    });
    LabeledImage { image, labels }
}

/// Samples in memory; one may be broken.
struct Scenes {
    items: Vec<LabeledImage>,
    broken: Option<usize>,
}

fn scenes(count: u64, size: Size) -> Scenes {
    Scenes { items: (0..count).map(|seed| scene(size, seed)).collect(), broken: None }
}

impl Dataset for Scenes {
    type Item = LabeledImage;

    fn len(&self) -> usize {
        self.items.len()
    }

    fn get(&self, index: usize) -> Result<LabeledImage> {
        match self.broken {
            Some(broken) if broken == index => Err(Error::format("tile.png", None, "cannot be decoded")),
            _ => Ok(self.items[index].clone()),
        }
    }

    fn name(&self, index: usize) -> Result<String> {
        Ok(format!("scene_{index}"))
    }
}

/// All weights and statistics, to be compared bit for bit.
fn values(parameters: &crate::Parameters) -> Vec<(String, Vec<f32>)> {
    let flat = |tensor: crate::candle_core::Tensor| tensor.copy().unwrap().flatten_all().unwrap().to_vec1().unwrap();
    parameters.tensors().into_iter().map(|(name, tensor)| (name, flat(tensor))).collect()
}

fn text<T>(result: Result<T>) -> String {
    result.err().expect("expected an error").to_string()
}
