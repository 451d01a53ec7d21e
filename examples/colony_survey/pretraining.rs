use coral_core::{ClassSet, NoProgress, Progress, Result, SeededRng};
use coral_models::candle_core::Device;
use coral_models::{
    CosineConfig, EncoderConfig, Interval, OptimizerConfig, PromptConfig, SamConfig, SamFitConfig, SamLoss, SamTrainer,
    SamTrainerConfig, ScheduleConfig, VitConfig,
};

use super::Images;
use super::synthetic::SIDE;
use crate::Bar;

/// A network of CoralSCOP's kind that is small enough to be trained within minutes: 8×8 tokens of 64 values.
pub fn small_network() -> SamConfig {
    const DIM: usize = 64;
    const PATCH: usize = 8;
    let grid = SIDE as usize / PATCH;
    let depth = 2;
    let vit = VitConfig {
        patch: PATCH,
        dim: DIM,
        depth,
        heads: 4,
        mlp_dim: 2 * DIM,
        window: grid,
        global_layers: (0..depth).collect(),
        grid: [grid, grid],
    };
    SamConfig {
        encoder: EncoderConfig::Vit(vit),
        image_size: SIDE as usize,
        dim: DIM,
        mask_prompt_channels: 8,
        decoder_depth: 2,
        decoder_heads: 4,
        decoder_mlp_dim: 2 * DIM,
        attention_downsample_rate: 2,
        mask_tokens: 4,
        iou_hidden: DIM,
        iou_depth: 3,
        semantic: None,
    }
}

/// How the small network learns: one correction, the same rate for all layers, and a heavier Dice loss, without which masks of a
/// network without pre-trained weights stay empty for long; the pixels of negatives are not learnt, only that they are none.
fn settings(steps: u64, learning_rate: f64) -> SamFitConfig {
    let mut training = SamFitConfig {
        layer_decay: 1.0,
        masks_per_image: 12,
        prompts_per_batch: 64,
        prompts: PromptConfig { corrections: 1, repeats: 0, ..PromptConfig::default() },
        loss: SamLoss { dice_weight: 5.0, background_masks: false, ..SamLoss::default() },
        ..SamFitConfig::pretraining(steps)
    };
    training.trainer.learning_rate = learning_rate;
    training.trainer.clip_norm = Some(1.0);
    training.trainer.optimizer = OptimizerConfig::AdamW { betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.01 };
    training.trainer.schedule = warm_cosine(steps);
    training
}

/// A short warm-up, then along a cosine to 0.
pub(super) fn warm_cosine(steps: u64) -> ScheduleConfig {
    let config = CosineConfig { warmup: 50.min(steps / 2), ..CosineConfig::new(Interval::Step, steps.max(1)) };
    ScheduleConfig::Cosine(config)
}

/// CoralSCOP's pre-training, of a small network from scratch.
///
/// # Errors
/// When an image cannot be loaded or the training diverges.
pub fn pretrain(images: Images<'_>, classes: &ClassSet, (epochs, seed): (u64, u64)) -> Result<SamTrainer> {
    let config = SamTrainerConfig::new(small_network(), classes.clone(), settings(epochs * images.len() as u64, 1e-3));
    let mut trainer = SamTrainer::new(config, seed, &Device::Cpu)?;
    let bar = Bar::new();
    bar.start(epochs, "epochs of pre-training");
    for epoch in 0..epochs {
        trainer.fit_epoch(images, SeededRng::stream(seed, epoch).bits(), &NoProgress)?;
        bar.advance(1);
    }
    bar.finish();
    Ok(trainer)
}
