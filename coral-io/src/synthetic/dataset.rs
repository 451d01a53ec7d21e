use coral_core::{Dataset, Error, LabeledImage, Result};
use serde::{Deserialize, Serialize};

use super::{SyntheticReef, SyntheticReefConfig, SyntheticScene};

/// A survey of synthetic reefs: picture `i` has the seed `seed + i`.
///
/// # Examples
/// ```
/// use coral_core::{Dataset, Size};
/// use coral_io::{SyntheticReefConfig, SyntheticReefDataset};
/// let config = SyntheticReefConfig { size: Size { width: 32, height: 24 }, ..Default::default() };
/// let survey = SyntheticReefDataset { config, len: 3, seed: 10 };
/// assert_eq!(survey.len(), 3);
/// assert_eq!(survey.name(0)?, "reef_10");
/// assert_eq!(survey.get(2)?.labels.dim(), (24, 32));
/// assert!(survey.get(3).is_err());
/// # Ok::<(), coral_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SyntheticReefDataset {
    /// What every picture shows.
    pub config: SyntheticReefConfig,
    /// How many pictures there are.
    pub len: usize,
    /// The seed of the first picture.
    pub seed: u64,
}

impl SyntheticReefDataset {
    fn seed_of(&self, index: usize) -> Result<u64> {
        if index >= self.len {
            return Err(Error::IndexOutOfRange { what: "the synthetic survey".into(), index, len: self.len });
        }
        Ok(self.seed.wrapping_add(index as u64))
    }

    /// Picture `index` with everything that is known of it.
    ///
    /// # Errors
    /// [`Error::IndexOutOfRange`] past the end, [`Error::InvalidParameter`] when `config` is out of range.
    pub fn scene(&self, index: usize) -> Result<SyntheticScene> {
        let seed = self.seed_of(index)?;
        Ok(SyntheticReef::new(self.config.clone())?.generate(seed))
    }
}

impl Dataset for SyntheticReefDataset {
    type Item = LabeledImage;

    fn len(&self) -> usize {
        self.len
    }

    /// # Errors
    /// Also [`Error::InvalidParameter`] when `config` is out of range.
    fn get(&self, index: usize) -> Result<LabeledImage> {
        Ok(self.scene(index)?.into_labeled())
    }

    fn name(&self, index: usize) -> Result<String> {
        Ok(format!("reef_{}", self.seed_of(index)?))
    }
}

#[cfg(test)]
mod tests {
    use coral_core::{Size, testing::check_dataset};

    use super::*;

    #[test]
    fn the_survey_fulfils_the_contract() {
        let config = SyntheticReefConfig { size: Size { width: 41, height: 23 }, ..Default::default() };
        for (len, seed) in [(0, 1), (4, 9), (3, u64::MAX - 1)] {
            check_dataset(&SyntheticReefDataset { config: config.clone(), len, seed }, |a, b| a == b).unwrap();
        }
    }

    #[test]
    fn a_bad_config_is_an_error() {
        let config = SyntheticReefConfig { noise: -1.0, ..Default::default() };
        let error = SyntheticReefDataset { config, len: 1, seed: 0 }.get(0).unwrap_err();
        assert!(error.to_string().contains("`noise`"));
    }
}
