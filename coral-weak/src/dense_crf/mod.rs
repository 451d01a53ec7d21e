//! Dense conditional random fields: class probabilities smoothed between pixels that lie near and look alike.

mod lattice;

use coral_core::image::RgbImage;
use coral_core::{Error, ProbMap, Result, Segmenter, Size};
use serde::{Deserialize, Serialize};

use self::lattice::Lattice;
use crate::parallel::for_each_chunk;

/// Pixels that one task works on.
const BLOCK: usize = 4096;

/// Settings of [`dense_crf`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DenseCrfConfig {
    /// Steps of the mean field, at least 1.
    pub iterations: usize,
    /// How much two near pixels want the same class; 0 turns this term off.
    pub smoothness_weight: f32,
    /// How near, as the standard deviation of a Gaussian, in pixels.
    pub smoothness_sigma: f32,
    /// How much two pixels that look alike want the same class; 0 turns this term off.
    pub appearance_weight: f32,
    /// How near they have to be, as a standard deviation in pixels.
    pub position_sigma: f32,
    /// How alike, as a standard deviation of the levels 0 to 255 in each channel.
    pub color_sigma: f32,
    /// Probabilities below count as this, so that none is beyond correction; above 0, at most 0.1.
    pub min_probability: f32,
}

impl Default for DenseCrfConfig {
    /// The usual values.
    fn default() -> Self {
        Self {
            iterations: 5,
            smoothness_weight: 3.0,
            smoothness_sigma: 3.0,
            appearance_weight: 10.0,
            position_sigma: 80.0,
            color_sigma: 13.0,
            min_probability: 1e-5,
        }
    }
}

impl DenseCrfConfig {
    /// Values for maps of small objects: a weaker pull, from nearer. The usual ones were found on photographs of few
    /// large objects; on mosaics of many colonies they erase the small ones.
    pub fn local() -> Self {
        Self { smoothness_weight: 1.0, appearance_weight: 3.0, position_sigma: 10.0, ..Self::default() }
    }

    /// Checks every field against its documented range.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] naming the field.
    pub fn validate(&self) -> Result<()> {
        if self.iterations == 0 {
            return Err(Error::parameter("iterations", "expected at least 1, got 0"));
        }
        for (name, weight) in
            [("smoothness_weight", self.smoothness_weight), ("appearance_weight", self.appearance_weight)]
        {
            if !(weight.is_finite() && weight >= 0.0) {
                return Err(Error::parameter(name, format!("expected a number of at least 0, got {weight}")));
            }
        }
        for (name, sigma) in [
            ("smoothness_sigma", self.smoothness_sigma),
            ("position_sigma", self.position_sigma),
            ("color_sigma", self.color_sigma),
        ] {
            // Below, with the largest images, the lattice's coordinates would outgrow their integers.
            if !(sigma.is_finite() && sigma >= 0.1) {
                return Err(Error::parameter(name, format!("expected a number of at least 0.1, got {sigma}")));
            }
        }
        if !(self.min_probability > 0.0 && self.min_probability <= 0.1) {
            let reason = format!("expected a number above 0, at most 0.1, got {}", self.min_probability);
            return Err(Error::parameter("min_probability", reason));
        }
        Ok(())
    }
}

/// C×H×W probabilities after mean-field inference in a fully connected conditional random field on an H×W image.
///
/// Every two pixels that get different classes cost `smoothness_weight`·k(distance) + `appearance_weight`·k(distance,
/// difference of colour), with Gaussians k that are normalised symmetrically, and every pixel −ln of its probability.
/// Filtering is that of a permutohedral lattice: linear in the number of pixels, and approximate. As in the published
/// program, a pixel's own term takes part. Needs 200 bytes per pixel, in noisy images up to 350, and 25 for each class.
///
/// # Errors
/// [`Error::ShapeMismatch`] when the sizes differ; [`Error::InvalidInput`] for no pixels or classes, or probabilities
/// that are NaN, infinite or negative; [`Error::InvalidParameter`] naming the field out of range.
///
/// # Examples
/// ```
/// use coral_core::{image::{Rgb, RgbImage}, ndarray::Array3};
/// use coral_weak::{DenseCrfConfig, dense_crf};
/// // An edge after column 9; the map has it two columns later.
/// let image = RgbImage::from_fn(20, 12, |x, _| if x < 10 { Rgb([30, 60, 50]) } else { Rgb([190, 180, 140]) });
/// let left = |x: usize| if x < 12 { 0.8 } else { 0.2 };
/// let coarse = Array3::from_shape_fn((2, 12, 20), |(c, _, x)| if c == 0 { left(x) } else { 1.0 - left(x) });
/// let refined = dense_crf(&image, &coarse, &DenseCrfConfig::default())?;
/// assert!(refined[[0, 6, 9]] > 0.9 && refined[[0, 6, 10]] < 0.1);
/// # Ok::<(), coral_core::Error>(())
/// ```
///
/// # References
/// Krähenbühl and Koltun, *Efficient Inference in Fully Connected CRFs with Gaussian Edge Potentials* (NIPS 2011).
/// Adams, Baek and Davis, *Fast High-Dimensional Filtering Using the Permutohedral Lattice* (2010). Against exact sums
/// the tests ask for equal classes in 98 % of the pixels.
pub fn dense_crf(image: &RgbImage, probabilities: &ProbMap, config: &DenseCrfConfig) -> Result<ProbMap> {
    config.validate()?;
    check(image, probabilities)?;
    let (classes, height, width) = probabilities.dim();
    let mut unary = vec![0.0; probabilities.len()];
    for_each_chunk(&mut unary, width * classes, |y, row| {
        for (x, pixel) in row.chunks_exact_mut(classes).enumerate() {
            for (class, logit) in pixel.iter_mut().enumerate() {
                *logit = probabilities[[class, y, x]].max(config.min_probability).ln();
            }
        }
    });
    let kernels = kernels(image, config);
    let mut beliefs = unary.clone();
    softmax_pixels(&mut beliefs, classes);
    for _ in 0..config.iterations {
        let mut logits = unary.clone();
        kernels.iter().for_each(|kernel| kernel.add_message(&beliefs, &mut logits, classes));
        softmax_pixels(&mut logits, classes);
        beliefs = logits;
    }
    Ok(ProbMap::from_shape_fn((classes, height, width), |(class, y, x)| beliefs[(y * width + x) * classes + class]))
}

fn check(image: &RgbImage, probabilities: &ProbMap) -> Result<()> {
    let (classes, height, width) = probabilities.dim();
    Size::of(image).expect("probabilities", Size { width: width as u32, height: height as u32 })?;
    // Vertices are numbered in 32 bits, up to six for a pixel.
    let (longest, pixels) = (image.width().max(image.height()), Size::of(image).pixels());
    if longest > 1 << 20 || !(1..=u32::MAX as usize / 6).contains(&pixels) {
        let reason = format!("expected 1 to 2^32 / 6 pixels and sides of at most 2^20, got {}", Size::of(image));
        return Err(Error::input("image", reason));
    }
    if classes == 0 {
        return Err(Error::input("probabilities", "expected at least one class, got none"));
    }
    match probabilities.iter().find(|p| !p.is_finite() || **p < 0.0) {
        Some(p) => Err(Error::input("probabilities", format!("expected finite values of at least 0, got {p}"))),
        None => Ok(()),
    }
}

/// A term between pairs of pixels.
struct Kernel {
    lattice: Lattice,
    weight: f32,
    /// 1/√(sum of a pixel's weights).
    norms: Vec<f32>,
}

fn kernels(image: &RgbImage, config: &DenseCrfConfig) -> Vec<Kernel> {
    let DenseCrfConfig { smoothness_sigma, position_sigma, color_sigma, .. } = *config;
    let mut kernels = Vec::new();
    if config.smoothness_weight > 0.0 {
        let place = |(x, y, _)| [x as f32 / smoothness_sigma, y as f32 / smoothness_sigma];
        kernels.push(Kernel::new(&image.enumerate_pixels().map(place).collect::<Vec<_>>(), config.smoothness_weight));
    }
    if config.appearance_weight > 0.0 {
        let pixels = image.enumerate_pixels().map(|(x, y, color)| {
            let [r, g, b] = color.0.map(|level| f32::from(level) / color_sigma);
            [x as f32 / position_sigma, y as f32 / position_sigma, r, g, b]
        });
        kernels.push(Kernel::new(&pixels.collect::<Vec<_>>(), config.appearance_weight));
    }
    kernels
}

impl Kernel {
    fn new<const D: usize>(points: &[[f32; D]], weight: f32) -> Self {
        let lattice = Lattice::new(points);
        let mut norms = lattice.filter(&vec![1.0; points.len()], 1);
        // Every point is its own neighbour: sums are positive but for rounding.
        norms.iter_mut().for_each(|sum| *sum = 1.0 / sum.max(f32::MIN_POSITIVE).sqrt());
        Self { lattice, weight, norms }
    }

    /// Adds what every pixel hears from the others.
    fn add_message(&self, beliefs: &[f32], logits: &mut [f32], classes: usize) {
        let scale = |values: &mut [f32], factor: f32| {
            for_each_chunk(values, BLOCK * classes, |block, values| {
                for (pixel, norm) in values.chunks_exact_mut(classes).zip(&self.norms[block * BLOCK..]) {
                    pixel.iter_mut().for_each(|value| *value *= factor * norm);
                }
            });
        };
        let mut scaled = beliefs.to_vec();
        scale(&mut scaled, 1.0);
        let mut message = self.lattice.filter(&scaled, classes);
        scale(&mut message, self.weight);
        logits.iter_mut().zip(message).for_each(|(logit, message)| *logit += message);
    }
}

/// Logits to probabilities, pixel by pixel.
fn softmax_pixels(logits: &mut [f32], classes: usize) {
    for_each_chunk(logits, BLOCK * classes, |_, logits| {
        for pixel in logits.chunks_exact_mut(classes) {
            let highest = pixel.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            pixel.iter_mut().for_each(|logit| *logit = (*logit - highest).exp());
            let sum: f32 = pixel.iter().sum();
            pixel.iter_mut().for_each(|value| *value /= sum);
        }
    });
}

/// A segmenter whose probabilities are refined on the image ([`dense_crf`]).
///
/// # Examples
/// ```
/// use coral_core::{Segmenter, Size, image::RgbImage};
/// use coral_weak::{ConstantClassifier, DenseCrfConfig, DenseCrfSegmenter, SlidingWindow, SlidingWindowConfig};
/// let size = Size { width: 8, height: 8 };
/// let windows = SlidingWindowConfig { patch: size, stride: size, ..Default::default() };
/// let coarse = SlidingWindow::new(ConstantClassifier::new(1, 2)?, windows)?;
/// let segmenter = DenseCrfSegmenter::new(coarse, DenseCrfConfig::default())?;
/// assert!(segmenter.segment(&RgbImage::new(20, 9))?[[1, 8, 19]] > 0.99);
/// # Ok::<(), coral_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct DenseCrfSegmenter<S> {
    segmenter: S,
    config: DenseCrfConfig,
}

impl<S: Segmenter> DenseCrfSegmenter<S> {
    /// Refines what `segmenter` says.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] naming the field out of range.
    pub fn new(segmenter: S, config: DenseCrfConfig) -> Result<Self> {
        config.validate()?;
        Ok(Self { segmenter, config })
    }
}

impl<S: Segmenter> Segmenter for DenseCrfSegmenter<S> {
    fn num_classes(&self) -> usize {
        self.segmenter.num_classes()
    }

    fn segment(&self, image: &RgbImage) -> Result<ProbMap> {
        dense_crf(image, &self.segmenter.segment(image)?, &self.config)
    }
}

#[cfg(test)]
mod tests;
