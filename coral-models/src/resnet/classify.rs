use std::borrow::Cow;

use candle_core::{D, Tensor};
use candle_nn::ops::softmax;
use coral_core::image::RgbImage;
use coral_core::ndarray::{Array2, Array3};
use coral_core::{Error, FeatureExtractor, FeatureMap, GridClassifier, ImageEncoder, PatchClassifier, Result, Size};

use super::classifier::{ResNetClassifier, whole_cells};
use super::patch_network::INFERENCE_PIXELS;
use crate::layers::Mode;
use crate::tensor::{tensor_to_feature_map, tensor_to_prob_map, tensor_to_rows, unit_rows};
use crate::{PillowFilter, resize_image};

/// Most patches that go through the network at a time; fewer when they are large.
const BATCH: usize = 16;

impl ResNetClassifier {
    /// `width` values per patch, computed from batches of patches of one size.
    fn rows(
        &self,
        patches: &[RgbImage],
        width: usize,
        of_batch: impl Fn(&Tensor) -> candle_core::Result<Tensor>,
    ) -> Result<Array2<f32>> {
        let mut rows = Array2::zeros((patches.len(), width));
        let mut order: Vec<usize> = (0..patches.len()).collect();
        let size = |index: usize| self.config().patch_size.unwrap_or_else(|| Size::of(&patches[index]));
        order.sort_by_key(|&index| (size(index).width, size(index).height));
        for same in order.chunk_by(|&a, &b| size(a) == size(b)) {
            for batch in same.chunks(at_once(size(same[0]))) {
                let images = batch.iter().map(|&i| resized(&patches[i], size(i))).collect::<Result<Vec<_>>>()?;
                let values = of_batch(&self.trained.pixels(&images)?).map_err(Error::model)?;
                let values = tensor_to_rows(&values)?;
                batch.iter().zip(values.rows()).for_each(|(&index, row)| rows.row_mut(index).assign(&row));
            }
        }
        Ok(rows)
    }

    /// N×C logits of patches.
    ///
    /// # Errors
    /// When a patch has no pixels.
    pub fn logits(&self, patches: &[RgbImage]) -> Result<Array2<f32>> {
        self.rows_of_logits(patches, Ok)
    }

    /// What `of_logits` makes of the logits of patches, a row each.
    fn rows_of_logits(
        &self,
        patches: &[RgbImage],
        of_logits: impl Fn(Tensor) -> candle_core::Result<Tensor>,
    ) -> Result<Array2<f32>> {
        let network = self.trained.inference()?;
        let logits = |pixels: &Tensor| network.logits(&network.patch_features(pixels, Mode::Eval)?, None);
        self.rows(patches, self.config().network.classes, |pixels| of_logits(logits(pixels)?))
    }

    /// The input of the network for one photograph.
    pub(super) fn photograph(&self, image: &RgbImage) -> Result<Tensor> {
        let whole = whole_cells(image, self.config().network.cells.side() as u32)?;
        self.trained.pixels(std::slice::from_ref(&*whole))
    }
}

/// How many patches of a size go through the network together.
fn at_once(size: Size) -> usize {
    (INFERENCE_PIXELS / size.pixels().max(1)).clamp(1, BATCH)
}

/// A patch in another size; the filter that Pillow calls bilinear, which averages when it shrinks.
pub(super) fn resized(patch: &RgbImage, size: Size) -> Result<Cow<'_, RgbImage>> {
    if Size::of(patch) == size {
        return Ok(Cow::Borrowed(patch));
    }
    resize_image(patch, size, PillowFilter::Bilinear).map(Cow::Owned)
}

impl PatchClassifier for ResNetClassifier {
    fn num_classes(&self) -> usize {
        self.config().network.classes
    }

    fn classify(&self, patches: &[RgbImage]) -> Result<Array2<f32>> {
        self.rows_of_logits(patches, |logits| softmax(&logits, D::Minus1))
    }
}

impl ImageEncoder for ResNetClassifier {
    /// The mean feature of each image as a unit row.
    fn encode_images(&self, images: &[RgbImage]) -> Result<Array2<f32>> {
        let network = self.trained.inference()?;
        self.rows(images, self.dim(), |pixels| unit_rows(&network.patch_features(pixels, Mode::Eval)?))
    }
}

impl FeatureExtractor for ResNetClassifier {
    fn dim(&self) -> usize {
        self.config().network.resnet.dim()
    }

    /// The features of the cells that [`GridClassifier::classify_grid`] classifies.
    fn extract(&self, image: &RgbImage) -> Result<FeatureMap> {
        let cells = self.trained.inference()?.grid_features(&self.photograph(image)?, Mode::Eval);
        let map = cells.and_then(|cells| cells.squeeze(0)?.permute((2, 0, 1))).map_err(Error::model)?;
        tensor_to_feature_map(&map, Size::of(image))
    }
}

impl GridClassifier for ResNetClassifier {
    fn num_classes(&self) -> usize {
        self.config().network.classes
    }

    fn classify_grid(&self, image: &RgbImage) -> Result<Array3<f32>> {
        let pixels = self.photograph(image)?;
        let network = self.trained.inference()?;
        let probabilities = || -> candle_core::Result<Tensor> {
            let cells = network.grid_features(&pixels, Mode::Eval)?;
            let (_, rows, columns, dim) = cells.dims4()?;
            let logits = network.logits(&cells.reshape((rows * columns, dim))?, None)?;
            let probabilities = softmax(&logits, D::Minus1)?;
            probabilities.t()?.contiguous()?.reshape(((), rows, columns))
        };
        tensor_to_prob_map(&probabilities().map_err(Error::model)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_patches_go_one_by_one() {
        let square = |side| Size { width: side, height: side };
        assert_eq!([0, 132, 512, 4000].map(|side| at_once(square(side))), [16, 16, 4, 1]);
    }
}
