//! Tiny networks with random weights.

mod classifier;
mod encoder;
mod features;
mod heads;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use candle_nn::VarBuilder;
use coral_core::SeededRng;
use coral_core::image::{Rgb, RgbImage};

use super::*;
use crate::weights::write_safetensors;
use crate::{Checkpoint, Parameters};

/// Two blocks, a grid of 2×2 patches.
fn config() -> DinoV2Config {
    DinoV2Config {
        image_size: 28,
        patch: 14,
        width: 8,
        layers: 2,
        heads: 1,
        mlp: DinoV2Mlp::Gelu(12),
        registers: 0,
        positions: PositionInterpolation::Bicubic,
    }
}

fn build(config: &DinoV2Config) -> impl Fn(VarBuilder<'_>) -> candle_core::Result<DinoV2> {
    move |vb| DinoV2::new(config.clone(), vb).map_err(candle_core::Error::wrap)
}

/// Variables under the names of `transformers`, and the network for inference on them.
fn network(config: &DinoV2Config, seed: u64) -> (Parameters, DinoV2) {
    let (parameters, _) = Parameters::create(seed, &Device::Cpu, build(config)).unwrap();
    let network = parameters.detached(build(config)).unwrap();
    (parameters, network)
}

fn encoder(seed: u64) -> DinoV2Encoder {
    DinoV2Encoder::new(network(&config(), seed).1)
}

fn write(path: &Path, tensors: &BTreeMap<String, Tensor>) {
    write_safetensors(path, tensors, &BTreeMap::new()).unwrap();
}

/// A picture with coarse structure.
fn picture(width: u32, height: u32, seed: u64) -> RgbImage {
    let mut random = SeededRng::new(seed);
    let waves: Vec<f64> = (0..6).map(|_| random.range(0.05, 0.5)).collect();
    let level = |a: f64, b: f64, x: u32, y: u32| (127.0 * (1.0 + (a * f64::from(x) + b * f64::from(y)).sin())) as u8;
    RgbImage::from_fn(width, height, |x, y| Rgb([0, 1, 2].map(|c| level(waves[2 * c], waves[2 * c + 1], x, y))))
}

/// Files of a folder, each of which tells the numbers of a [`picture`].
fn files(folder: &Path, count: u32) -> Vec<PathBuf> {
    let write = |seed: u32| {
        let path = folder.join(format!("{seed}.picture"));
        std::fs::write(&path, format!("{} {} {seed}", 30 + seed, 20 + seed)).unwrap();
        path
    };
    (0..count).map(write).collect()
}

/// The picture of a file.
fn read(path: &Path) -> coral_core::Result<RgbImage> {
    let text = std::fs::read_to_string(path).map_err(|source| coral_core::Error::io(path, source))?;
    match text.split(' ').map(str::parse).collect::<Result<Vec<u32>, _>>().as_deref() {
        Ok(&[width, height, seed]) => Ok(picture(width, height, u64::from(seed))),
        _ => Err(coral_core::Error::format(path, None, "expected three numbers")),
    }
}
