use coral_core::image::RgbImage;
use coral_core::ndarray::Array2;
use coral_core::{ImageEncoder, Result, TextEncoder};

/// Stands in for CLIP where no checkpoint is at hand: it has CLIP's shape (photographs and sentences to unit vectors of one
/// space) but knows nothing except that grass is greener and richer in contrast than sand and water.
///
/// Its weights were set by eye for the synthetic meadows; on real photographs use CLIP.
#[derive(Debug, Clone, Copy)]
pub struct ColorWords;

/// Words that mean vegetation.
const GRASS: [&str; 4] = ["grass", "plant", "leaves", "meadow"];

impl ImageEncoder for ColorWords {
    /// (cos, sin) of an angle from 0 (grass) to 90° (bare).
    fn encode_images(&self, images: &[RgbImage]) -> Result<Array2<f32>> {
        let angle = |image: &RgbImage| (45.0 - 60.0 * greenness(image)).clamp(0.0, 90.0).to_radians();
        let angles: Vec<f32> = images.iter().map(angle).collect();
        Ok(Array2::from_shape_fn((angles.len(), 2), |(row, axis)| [angles[row].cos(), angles[row].sin()][axis]))
    }
}

impl TextEncoder for ColorWords {
    fn encode_texts(&self, texts: &[&str]) -> Result<Array2<f32>> {
        let grass = |text: &str| GRASS.iter().any(|word| text.contains(word));
        Ok(Array2::from_shape_fn((texts.len(), 2), |(row, axis)| f32::from(u8::from(grass(texts[row]) == (axis == 0)))))
    }
}

/// Above 0 for patches that look grown over.
fn greenness(image: &RgbImage) -> f32 {
    let pixels = image.pixels().len().max(1) as f32;
    let sum = |value: &dyn Fn([f32; 3]) -> f32| image.pixels().map(|pixel| value(pixel.0.map(f32::from))).sum::<f32>();
    let excess = sum(&|[r, g, b]| (2.0 * g - r - b) / (r + g + b + 1.0)) / pixels;
    let level = |[r, g, b]: [f32; 3]| (r + g + b) / 3.0;
    let mean = sum(&level) / pixels;
    let deviation = (sum(&|pixel| (level(pixel) - mean).powi(2)) / pixels).sqrt();
    7.5 * excess + 0.75 * deviation / mean.max(1.0) - 0.96
}
