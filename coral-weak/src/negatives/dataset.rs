use coral_core::{AnnotatedImage, Dataset, Result, SeededRng};

use super::{NegativeConfig, negative_masks};

/// Photographs with negatives behind their own masks: [`negative_masks`] of every sample, drawn anew at every call but
/// always the same for a sample.
///
/// # Examples
/// ```
/// use coral_core::{AnnotatedImage, Dataset, Error, Result, image::RgbImage};
/// use coral_weak::{NegativeConfig, WithNegatives};
/// /// Two photographs of bare sand.
/// struct Sand;
/// impl Dataset for Sand {
///     type Item = AnnotatedImage;
///     fn len(&self) -> usize {
///         2
///     }
///     fn get(&self, index: usize) -> Result<AnnotatedImage> {
///         self.name(index)?;
///         Ok(AnnotatedImage { image: RgbImage::new(60, 40), masks: Vec::new() })
///     }
///     fn name(&self, index: usize) -> Result<String> {
///         if index < 2 { Ok(format!("sand_{index}")) } else { Err(Error::input("index", "past the end")) }
///     }
/// }
/// let dataset = WithNegatives::new(Sand, NegativeConfig { without_positives: 3, ..Default::default() }, 1)?;
/// let masks = dataset.get(0)?.masks;
/// assert_eq!((masks.len(), masks[0].class), (3, Some(0)));
/// # Ok::<(), coral_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct WithNegatives<D> {
    dataset: D,
    config: NegativeConfig,
    seed: u64,
}

impl<D: Dataset<Item = AnnotatedImage>> WithNegatives<D> {
    /// The samples of `dataset` with negatives.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`](coral_core::Error::InvalidParameter) naming the field that is out of its range.
    pub fn new(dataset: D, config: NegativeConfig, seed: u64) -> Result<Self> {
        config.validate()?;
        Ok(Self { dataset, config, seed })
    }
}

impl<D: Dataset<Item = AnnotatedImage>> Dataset for WithNegatives<D> {
    type Item = AnnotatedImage;

    fn len(&self) -> usize {
        self.dataset.len()
    }

    /// # Errors
    /// Also those of [`negative_masks`].
    fn get(&self, index: usize) -> Result<AnnotatedImage> {
        let mut sample = self.dataset.get(index)?;
        let seed = SeededRng::stream(self.seed, index as u64).bits();
        let negatives = negative_masks(&sample, &self.config, seed)?;
        sample.masks.extend(negatives);
        Ok(sample)
    }

    fn name(&self, index: usize) -> Result<String> {
        self.dataset.name(index)
    }
}
