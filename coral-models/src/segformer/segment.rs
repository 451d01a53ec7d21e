use std::borrow::Cow;

use candle_core::Tensor;
use coral_core::image::RgbImage;
use coral_core::ndarray::Array3;
use coral_core::{Error, ProbMap, Result, Segmenter, Size};
use rayon::prelude::*;

use super::model::SegFormer;
use super::segmenter::{SegFormerSegmenter, SegFormerSegmenterConfig};
use crate::layers::Mode;
use crate::ops::softmax_planes;
use crate::tensor::tensor_to_prob_map;
use crate::{PillowFilter, resize_bilinear, resize_image};

impl SegFormerSegmenter {
    /// C×H×W logits of every H×W image, to be averaged with those of other networks or views before the softmax.
    ///
    /// As many images as there are threads are computed side by side.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when an image has too few pixels for the network.
    pub fn logits(&self, images: &[RgbImage]) -> Result<Vec<Array3<f32>>> {
        let network = self.trained.inference()?;
        let of_one = |image| tensor_to_prob_map(&self.full_logits(&network, image)?.squeeze(0).map_err(Error::model)?);
        // Not all at once: every image that is under way takes memory.
        let side_by_side = images.chunks(rayon::current_num_threads().max(1));
        let parts = side_by_side.map(|images| images.par_iter().map(of_one).collect::<Result<Vec<_>>>());
        Ok(parts.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
    }

    /// C×H×W probabilities of every H×W image, such as the tiles of a mosaic; faster than one after the other.
    ///
    /// # Errors
    /// Those of [`logits`](Self::logits).
    pub fn segment_batch(&self, images: &[RgbImage]) -> Result<Vec<ProbMap>> {
        let mut maps = self.logits(images)?;
        for map in &mut maps {
            let classes = map.dim().0;
            if let Some(values) = map.as_slice_mut() {
                softmax_planes(values, classes);
            }
        }
        Ok(maps)
    }

    /// 1×C×H×W logits of one image.
    fn full_logits(&self, network: &SegFormer, image: &RgbImage) -> Result<Tensor> {
        resize_bilinear(&self.quarter_logits(network, image)?, Size::of(image))
    }

    /// 1×C×h×w logits of one image, as small as the network gives them.
    pub(super) fn quarter_logits(&self, network: &SegFormer, image: &RgbImage) -> Result<Tensor> {
        let pixels = self.pixels(&[self.config().resized(image)?])?;
        network.logits(&pixels, Mode::Eval, None).map_err(Error::model)
    }

    /// Images of one size as input, N×3×H×W.
    pub(super) fn pixels(&self, images: &[Cow<'_, RgbImage>]) -> Result<Tensor> {
        if let Some(image) = images.first() {
            self.config().network.grids([image.height() as usize, image.width() as usize])?;
        }
        self.trained.pixels(images)
    }
}

impl SegFormerSegmenterConfig {
    /// An image in the size that the network sees; the filter that Pillow calls bilinear, which averages when it shrinks.
    pub(super) fn resized<'a>(&self, image: &'a RgbImage) -> Result<Cow<'a, RgbImage>> {
        match self.image_size {
            Some(size) if size != Size::of(image) => resize_image(image, size, PillowFilter::Bilinear).map(Cow::Owned),
            _ => Ok(Cow::Borrowed(image)),
        }
    }
}

impl Segmenter for SegFormerSegmenter {
    fn num_classes(&self) -> usize {
        self.config().network.num_labels
    }

    fn segment(&self, image: &RgbImage) -> Result<ProbMap> {
        let mut maps = self.segment_batch(std::slice::from_ref(image))?;
        maps.pop().ok_or_else(|| Error::input("image", "gave no map"))
    }
}
