use candle_core::{D, Tensor};
use coral_core::image::RgbImage;
use coral_core::ndarray::{Array2, Array3};
use coral_core::{Error, FeatureExtractor, FeatureMap, GridClassifier, ImageEncoder, PatchClassifier, Result, Size};

use super::classifier::{ResNetClassifier, whole_cells};
use super::conv_norm::Mode;
use super::patch_network::PatchNetwork;
use crate::tensor::{tensor_to_prob_map, tensor_to_rows};
use crate::{PillowFilter, resize_image, tensor_to_feature_map};

/// Most patches that go through the network at a time.
const BATCH: usize = 16;

impl ResNetClassifier {
    /// A row per patch, computed from batches of patches of one size.
    fn rows(
        &self,
        patches: &[RgbImage],
        of_batch: impl Fn(&Tensor) -> candle_core::Result<Tensor>,
    ) -> Result<Array2<f32>> {
        let mut rows: Option<Array2<f32>> = None;
        let mut order: Vec<usize> = (0..patches.len()).collect();
        let size = |index: usize| self.config.patch_size.unwrap_or_else(|| Size::of(&patches[index]));
        order.sort_by_key(|&index| (size(index).width, size(index).height));
        for same in order.chunk_by(|&a, &b| size(a) == size(b)) {
            for batch in same.chunks(BATCH) {
                let images = batch.iter().map(|&i| resized(&patches[i], size(i))).collect::<Result<Vec<_>>>()?;
                let values = of_batch(&self.pixels(&images)?).map_err(Error::model)?;
                let values = tensor_to_rows(&values)?;
                let all = rows.get_or_insert_with(|| Array2::zeros((patches.len(), values.ncols())));
                batch.iter().zip(values.rows()).for_each(|(&index, row)| all.row_mut(index).assign(&row));
            }
        }
        Ok(rows.unwrap_or_else(|| Array2::zeros((0, 0))))
    }

    /// N×C logits of patches.
    ///
    /// # Errors
    /// When a patch has no pixels.
    pub fn logits(&self, patches: &[RgbImage]) -> Result<Array2<f32>> {
        let network = self.inference()?;
        let logits = |pixels: &Tensor| network.logits(&network.patch_features(pixels, Mode::Eval)?, None);
        let rows = self.rows(patches, logits)?;
        Ok(if patches.is_empty() { Array2::zeros((0, self.config.network.classes)) } else { rows })
    }
}

impl ResNetClassifier {
    /// The input of the network for one photograph.
    fn photograph(&self, image: &RgbImage) -> Result<Tensor> {
        let whole = whole_cells(image, self.config.network.cells.side() as u32)?;
        self.pixels(std::slice::from_ref(&*whole))
    }

    /// The features of a photograph's cells that `network` sees.
    pub(super) fn features_of(&self, network: &PatchNetwork, image: &RgbImage) -> Result<FeatureMap> {
        let cells = network.grid_features(&self.photograph(image)?, Mode::Eval);
        let map = cells.and_then(|cells| cells.squeeze(0)?.permute((2, 0, 1))).map_err(Error::model)?;
        tensor_to_feature_map(&map, Size::of(image))
    }
}

/// A copy of a patch in another size; the filter that Pillow calls bilinear, which averages when it shrinks.
pub(super) fn resized(patch: &RgbImage, size: Size) -> Result<RgbImage> {
    if Size::of(patch) == size { Ok(patch.clone()) } else { resize_image(patch, size, PillowFilter::Bilinear) }
}

impl PatchClassifier for ResNetClassifier {
    fn num_classes(&self) -> usize {
        self.config.network.classes
    }

    fn classify(&self, patches: &[RgbImage]) -> Result<Array2<f32>> {
        let mut rows = self.logits(patches)?;
        for mut row in rows.rows_mut() {
            let largest = row.fold(f32::NEG_INFINITY, |a, &b| a.max(b));
            row.mapv_inplace(|logit| (logit - largest).exp());
            let sum = row.sum();
            row.mapv_inplace(|value| value / sum);
        }
        Ok(rows)
    }
}

impl ImageEncoder for ResNetClassifier {
    /// The mean feature of each image as a unit row.
    fn encode_images(&self, images: &[RgbImage]) -> Result<Array2<f32>> {
        let network = self.inference()?;
        let mut rows = self.rows(images, |pixels| network.patch_features(pixels, Mode::Eval))?;
        if images.is_empty() {
            return Ok(Array2::zeros((0, self.dim())));
        }
        for mut row in rows.rows_mut() {
            let norm = row.dot(&row).sqrt().max(f32::MIN_POSITIVE);
            row.mapv_inplace(|value| value / norm);
        }
        Ok(rows)
    }
}

impl FeatureExtractor for ResNetClassifier {
    fn dim(&self) -> usize {
        self.config.network.resnet.dim()
    }

    /// The features of the cells that [`GridClassifier::classify_grid`] classifies.
    fn extract(&self, image: &RgbImage) -> Result<FeatureMap> {
        self.features_of(&*self.inference()?, image)
    }
}

impl GridClassifier for ResNetClassifier {
    fn num_classes(&self) -> usize {
        self.config.network.classes
    }

    fn classify_grid(&self, image: &RgbImage) -> Result<Array3<f32>> {
        let pixels = self.photograph(image)?;
        let network = self.inference()?;
        let probabilities = || -> candle_core::Result<Tensor> {
            let cells = network.grid_features(&pixels, Mode::Eval)?;
            let (_, rows, columns, dim) = cells.dims4()?;
            let logits = network.logits(&cells.reshape((rows * columns, dim))?, None)?;
            let probabilities = candle_nn::ops::softmax(&logits, D::Minus1)?;
            probabilities.t()?.contiguous()?.reshape(((), rows, columns))
        };
        tensor_to_prob_map(&probabilities().map_err(Error::model)?)
    }
}
