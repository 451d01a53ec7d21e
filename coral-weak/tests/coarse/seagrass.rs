//! A seabed of coloured squares and a softmax regression on colours, for the tests of training loops.

use coral_core::image::{Rgb, RgbImage};
use coral_core::ndarray::{Array1, Array2, Array3};
use coral_core::{
    ClassId, Dataset, EpochReport, Error, FeatureExtractor, FeatureMap, GridClassifier, LabelMap, LabeledPatch,
    LabeledPhotograph, PatchClassifier, Result, SeededRng, Size, TrainGridClassifier, TrainPatchClassifier, UNLABELED,
};

pub(crate) const CLASSES: usize = 3;
pub(crate) const CELL: u32 = 8;
const COLUMNS: u32 = 4;
const ROWS: u32 = 3;
/// Sand, a green seagrass, a reddish one.
const COLORS: [[f64; 3]; CLASSES] = [[200.0, 190.0, 170.0], [50.0, 120.0, 60.0], [120.0, 60.0, 50.0]];

/// Photographs with the true class of each of their cells.
pub(crate) struct Seabed {
    pub(crate) photographs: Vec<LabeledPhotograph>,
    pub(crate) truth: Vec<LabelMap>,
}

impl Seabed {
    /// One photograph per class of `classes`. Half of the cells of seagrass photographs are sand.
    pub(crate) fn new(classes: &[ClassId], seed: u64) -> Self {
        let mut rng = SeededRng::new(seed);
        let mut seabed = Self { photographs: Vec::new(), truth: Vec::new() };
        for &class in classes {
            let shape = (ROWS as usize, COLUMNS as usize);
            let truth = Array2::from_shape_simple_fn(shape, || if rng.chance(0.5) { class } else { 0 });
            let image = RgbImage::from_fn(COLUMNS * CELL, ROWS * CELL, |x, y| {
                let color = COLORS[usize::from(truth[[(y / CELL) as usize, (x / CELL) as usize]])];
                Rgb(color.map(|level| (level + 25.0 * rng.normal()).clamp(0.0, 255.0) as u8))
            });
            seabed.photographs.push(LabeledPhotograph { image, class });
            seabed.truth.push(truth);
        }
        seabed
    }

    /// Few photographs of sand alone, so that most sand lies in photographs of seagrass.
    pub(crate) fn typical(seed: u64) -> Self {
        Self::new(&[0, 1, 2, 1, 2, 1, 2, 1, 2, 1, 2, 1, 2], seed)
    }
}

impl Dataset for Seabed {
    type Item = LabeledPhotograph;
    fn len(&self) -> usize {
        self.photographs.len()
    }
    fn get(&self, index: usize) -> Result<LabeledPhotograph> {
        let missing = || Error::IndexOutOfRange { what: "seabed".into(), index, len: self.photographs.len() };
        self.photographs.get(index).cloned().ok_or_else(missing)
    }
    fn name(&self, index: usize) -> Result<String> {
        self.get(index).map(|_| format!("photograph {index}"))
    }
}

/// The mean colour of pixels, −1..=1.
pub(crate) fn mean_color(image: &RgbImage) -> Array1<f32> {
    let mut sum = [0.0f32; 3];
    image.pixels().for_each(|pixel| (0..3).for_each(|c| sum[c] += f32::from(pixel[c]) / 128.0 - 1.0));
    Array1::from_iter(sum.map(|sum| sum / (image.width() * image.height()) as f32))
}

/// Softmax regression on the mean colour of cells of 8×8 pixels, or of patches.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ColorModel {
    /// Colour and bias to logits.
    weights: Array2<f32>,
    rate: f32,
}

impl ColorModel {
    pub(crate) fn new(classes: usize) -> Self {
        Self { weights: Array2::zeros((classes, 4)), rate: 0.2 }
    }

    fn probabilities(&self, color: &Array1<f32>) -> Array1<f32> {
        let input: Array1<f32> = color.iter().copied().chain([1.0]).collect();
        let logits = self.weights.dot(&input);
        let highest = logits.fold(f32::MIN, |a, &b| a.max(b));
        let exponentials = logits.mapv(|logit| (logit - highest).exp());
        &exponentials / exponentials.sum()
    }

    /// One step; gives the loss.
    fn step(&mut self, color: &Array1<f32>, target: &Array1<f32>) -> f32 {
        let probabilities = self.probabilities(color);
        for (class, error) in (&probabilities - target).iter().enumerate() {
            color.iter().copied().chain([1.0]).enumerate().for_each(|(d, x)| {
                self.weights[[class, d]] -= self.rate * error * x;
            });
        }
        -probabilities.iter().zip(target).map(|(p, t)| t * p.max(1e-9).ln()).sum::<f32>()
    }

    fn report(&self, losses: &[f32]) -> EpochReport {
        let loss = losses.iter().sum::<f32>() / losses.len().max(1) as f32;
        EpochReport { loss, samples: losses.len(), learning_rate: self.rate.into(), gradient_norm: 0.0 }
    }

    /// The share of right cells.
    pub(crate) fn accuracy(&self, seabed: &Seabed) -> f64 {
        let mut right = Vec::new();
        for (photograph, truth) in seabed.photographs.iter().zip(&seabed.truth) {
            let map = coral_weak::grid_map(self, &photograph.image).unwrap();
            right.extend(map.classes().iter().zip(truth).map(|(ours, truth)| f64::from(u8::from(ours == truth))));
        }
        right.iter().sum::<f64>() / right.len() as f64
    }
}

impl FeatureExtractor for ColorModel {
    fn dim(&self) -> usize {
        3
    }
    fn extract(&self, image: &RgbImage) -> Result<FeatureMap> {
        let (width, height) = (image.width() / CELL, image.height() / CELL);
        if width == 0 || height == 0 {
            return Err(Error::input("image", "smaller than a cell"));
        }
        let mut data = Array3::zeros((3, height as usize, width as usize));
        for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
            let cell = coral_core::image::imageops::crop_imm(image, x * CELL, y * CELL, CELL, CELL).to_image();
            let color = mean_color(&cell);
            (0..3).for_each(|d| data[[d, y as usize, x as usize]] = color[d]);
        }
        Ok(FeatureMap { data, image_size: Size::of(image) })
    }
}

impl GridClassifier for ColorModel {
    fn num_classes(&self) -> usize {
        self.weights.nrows()
    }
    fn classify_grid(&self, image: &RgbImage) -> Result<Array3<f32>> {
        let features = self.extract(image)?.data;
        let (_, height, width) = features.dim();
        let mut probabilities = Array3::zeros((self.weights.nrows(), height, width));
        for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
            let color = features.slice(coral_core::ndarray::s![.., y, x]).to_owned();
            probabilities.slice_mut(coral_core::ndarray::s![.., y, x]).assign(&self.probabilities(&color));
        }
        Ok(probabilities)
    }
}

impl TrainGridClassifier for ColorModel {
    fn fit_epoch(
        &mut self,
        photographs: &dyn Dataset<Item = LabeledPhotograph>,
        labels: &[LabelMap],
        seed: u64,
    ) -> Result<EpochReport> {
        let mut order: Vec<usize> = (0..photographs.len()).collect();
        SeededRng::new(seed).shuffle(&mut order);
        let mut losses = Vec::new();
        for index in order {
            let photograph = photographs.get(index)?;
            let features = self.extract(&photograph.image)?;
            for ((y, x), &label) in labels[index].indexed_iter().filter(|(_, label)| **label != UNLABELED) {
                let color = features.data.slice(coral_core::ndarray::s![.., y, x]).to_owned();
                let target = Array1::from_shape_fn(self.weights.nrows(), |c| f32::from(c == usize::from(label)));
                losses.push(self.step(&color, &target));
            }
        }
        Ok(self.report(&losses))
    }
}

impl PatchClassifier for ColorModel {
    fn num_classes(&self) -> usize {
        self.weights.nrows()
    }
    fn classify(&self, patches: &[RgbImage]) -> Result<Array2<f32>> {
        let mut rows = Array2::zeros((patches.len(), self.weights.nrows()));
        for (mut row, patch) in rows.outer_iter_mut().zip(patches) {
            row.assign(&self.probabilities(&mean_color(patch)));
        }
        Ok(rows)
    }
}

impl TrainPatchClassifier for ColorModel {
    fn fit_epoch(&mut self, patches: &dyn Dataset<Item = LabeledPatch>, seed: u64) -> Result<EpochReport> {
        let mut order: Vec<usize> = (0..patches.len()).collect();
        SeededRng::new(seed).shuffle(&mut order);
        let mut losses = Vec::new();
        for index in order {
            let LabeledPatch { image, target } = patches.get(index)?;
            losses.push(self.step(&mean_color(&image), &target));
        }
        Ok(self.report(&losses))
    }
}
