use coral_core::{ClassId, ClassSet, Dataset, Error, LabeledPhotograph, Result};
use serde::{Deserialize, Serialize};

use super::{MeadowScene, SyntheticMeadow, SyntheticMeadowConfig};

/// Photographs of synthetic meadows with one label each: photograph `i` has the seed `seed + i`, and the classes take turns.
///
/// # Examples
/// ```
/// use coral_core::{Dataset, Size};
/// use coral_io::{SyntheticMeadowConfig, SyntheticMeadowDataset};
/// let config = SyntheticMeadowConfig { size: Size { width: 64, height: 40 }, ..Default::default() };
/// let survey = SyntheticMeadowDataset { config, len: 5, seed: 10 };
/// assert_eq!(survey.labels(), [0, 1, 2, 3, 0]);
/// assert_eq!((survey.name(1)?, survey.get(1)?.class), ("meadow_11".to_owned(), 1));
/// assert_eq!(survey.scene(1)?.labels.dim(), (40, 64));
/// assert!(survey.get(5).is_err());
/// # Ok::<(), coral_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SyntheticMeadowDataset {
    /// What every photograph shows.
    pub config: SyntheticMeadowConfig,
    /// How many photographs there are.
    pub len: usize,
    /// The seed of the first photograph.
    pub seed: u64,
}

impl SyntheticMeadowDataset {
    /// The classes of the photographs.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] when a species occurs twice.
    pub fn class_set(&self) -> Result<ClassSet> {
        self.config.class_set()
    }

    /// The class of every photograph.
    pub fn labels(&self) -> Vec<ClassId> {
        (0..self.len).map(|index| self.class_of(index)).collect()
    }

    fn class_of(&self, index: usize) -> ClassId {
        (index % (self.config.species.len() + 1)) as ClassId
    }

    /// Photograph `index` with the truth.
    ///
    /// # Errors
    /// [`Error::IndexOutOfRange`] past the end, [`Error::InvalidParameter`] when `config` is out of range.
    pub fn scene(&self, index: usize) -> Result<MeadowScene> {
        let seed = self.seed_of(index)?;
        SyntheticMeadow::new(self.config.clone())?.generate(self.class_of(index), seed)
    }

    fn seed_of(&self, index: usize) -> Result<u64> {
        if index >= self.len {
            return Err(Error::IndexOutOfRange { what: "the synthetic meadows".into(), index, len: self.len });
        }
        Ok(self.seed.wrapping_add(index as u64))
    }
}

impl Dataset for SyntheticMeadowDataset {
    type Item = LabeledPhotograph;

    fn len(&self) -> usize {
        self.len
    }

    /// # Errors
    /// Also [`Error::InvalidParameter`] when `config` is out of range.
    fn get(&self, index: usize) -> Result<LabeledPhotograph> {
        Ok(self.scene(index)?.into_labeled())
    }

    fn name(&self, index: usize) -> Result<String> {
        Ok(format!("meadow_{}", self.seed_of(index)?))
    }
}
