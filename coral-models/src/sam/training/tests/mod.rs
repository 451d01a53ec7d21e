mod epochs;
mod gradients;
mod heads;

use candle_core::Device;
use coral_core::image::{Rgb, RgbImage};
use coral_core::{AnnotatedImage, ClassSet, Dataset, Error, InstanceMask, Result, RleMask, Size};

use super::config::{SamFitConfig, SamPart, SamTrainerConfig};
use super::prompts::PromptConfig;
use super::trainer::SamTrainer;
use crate::sam::config::{SamConfig, SemanticConfig};
use crate::sam::testing;
use crate::{LoaderConfig, OptimizerConfig, TrainerConfig};

const CPU: Device = Device::Cpu;

/// Two blocks, 5×5 tokens, masks of 20×20 for photographs of 20 pixels.
fn tiny(classes: usize) -> SamConfig {
    testing::tiny([5, 5], 4, Some(SemanticConfig { classes, tokens: 25, feature_dim: 7 }))
}

fn names() -> ClassSet {
    ClassSet::from_names(["background", "coral", "sponge"]).unwrap()
}

fn config(part: SamPart) -> SamTrainerConfig {
    let training = SamFitConfig {
        part,
        trainer: TrainerConfig { optimizer: OptimizerConfig::ADAMW, learning_rate: 3e-3, ..TrainerConfig::default() },
        prompts: PromptConfig { corrections: 2, repeats: 1, ..PromptConfig::default() },
        prompts_per_batch: 2,
        loader: LoaderConfig { workers: 0, prefetch: 0 },
        ..SamFitConfig::pretraining(100)
    };
    SamTrainerConfig::new(tiny(3), names(), training)
}

/// Photographs of bright discs and a dark rectangle on grey, of several shapes.
#[derive(Debug, Clone, Copy)]
struct Reef(usize);

impl Dataset for Reef {
    type Item = AnnotatedImage;

    fn len(&self) -> usize {
        self.0
    }

    fn get(&self, index: usize) -> Result<AnnotatedImage> {
        if index >= self.0 {
            return Err(Error::IndexOutOfRange { what: "reef".to_owned(), index, len: self.0 });
        }
        let size = Size { width: 40 - 8 * (index as u32 % 3), height: 28 + 6 * (index as u32 % 2) };
        let disc = |cx: u32, cy: u32, radius: u32| {
            RleMask::from_fn(size, move |x, y| x.abs_diff(cx).pow(2) + y.abs_diff(cy).pow(2) <= radius * radius)
        };
        let masks = [
            (disc(8 + index as u32 % 4, 9, 6), Some(1)),
            (disc(18, 20 - index as u32 % 3, 5), Some(2)),
            (RleMask::from_fn(size, |x, y| x < 7 && y > 18), Some(0)),
        ];
        let color = |x: u32, y: u32| match masks.iter().position(|(mask, _)| mask.contains(x, y)) {
            Some(0) => Rgb([220, 80, 90]),
            Some(1) => Rgb([70, 200, 230]),
            Some(_) => Rgb([10, 20, 10]),
            None => Rgb([110, 110, 120]),
        };
        let image = RgbImage::from_fn(size.width, size.height, color);
        let masks = masks.into_iter().map(|(mask, class)| InstanceMask { class, ..InstanceMask::new(mask) }).collect();
        Ok(AnnotatedImage { image, masks })
    }

    fn name(&self, index: usize) -> Result<String> {
        Ok(format!("reef-{index}"))
    }
}

fn trainer(part: SamPart) -> SamTrainer {
    SamTrainer::new(config(part), 3, &CPU).unwrap()
}

/// Every weight's values.
fn weights(trainer: &SamTrainer) -> std::collections::BTreeMap<String, Vec<f32>> {
    let tensors = trainer.trainer().parameters().tensors();
    let list =
        |(name, tensor): (String, candle_core::Tensor)| (name, tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap());
    tensors.into_iter().map(list).collect()
}
