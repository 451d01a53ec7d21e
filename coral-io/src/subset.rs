use std::collections::HashSet;

use coral_core::{Dataset, Error, Result};

/// Some samples of a dataset, in an order of their own: a part of a split.
///
/// # Examples
/// ```
/// use coral_core::{Dataset, Size};
/// use coral_io::{Subset, SyntheticMeadowConfig, SyntheticMeadowDataset, split_by_class};
/// let config = SyntheticMeadowConfig { size: Size { width: 32, height: 20 }, ..Default::default() };
/// let survey = SyntheticMeadowDataset { config, len: 8, seed: 0 };
/// let [train, test] = split_by_class(&survey.labels(), [0.5, 0.5], 1)?;
/// let (train, test) = (Subset::new(&survey, train)?, Subset::new(&survey, test)?);
/// assert_eq!((train.len(), test.len()), (4, 4));
/// assert_eq!(test.name(0)?, survey.name(test.indices()[0])?);
/// # Ok::<(), coral_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Subset<D> {
    dataset: D,
    indices: Vec<usize>,
}

impl<D: Dataset> Subset<D> {
    /// The samples `indices` of `dataset`.
    ///
    /// # Errors
    /// [`Error::IndexOutOfRange`] for an index past the end, [`Error::InvalidInput`] for one that occurs twice.
    pub fn new(dataset: D, indices: Vec<usize>) -> Result<Self> {
        let len = dataset.len();
        let mut seen = HashSet::new();
        for &index in &indices {
            if index >= len {
                return Err(Error::IndexOutOfRange { what: "the dataset".into(), index, len });
            }
            if !seen.insert(index) {
                return Err(Error::input("indices", format!("sample {index} occurs twice")));
            }
        }
        Ok(Self { dataset, indices })
    }

    /// The samples' positions in the whole dataset.
    pub fn indices(&self) -> &[usize] {
        &self.indices
    }

    /// The whole dataset.
    pub fn dataset(&self) -> &D {
        &self.dataset
    }

    fn at(&self, index: usize) -> Result<usize> {
        let range = || Error::IndexOutOfRange { what: "the subset".into(), index, len: self.indices.len() };
        self.indices.get(index).copied().ok_or_else(range)
    }
}

impl<D: Dataset> Dataset for Subset<D> {
    type Item = D::Item;

    fn len(&self) -> usize {
        self.indices.len()
    }

    fn get(&self, index: usize) -> Result<D::Item> {
        self.dataset.get(self.at(index)?)
    }

    fn name(&self, index: usize) -> Result<String> {
        self.dataset.name(self.at(index)?)
    }
}

#[cfg(test)]
mod tests {
    use coral_core::{Size, testing::check_dataset};

    use super::*;
    use crate::{SyntheticReefConfig, SyntheticReefDataset};

    #[test]
    fn a_subset_is_a_dataset() {
        let config = SyntheticReefConfig { size: Size { width: 9, height: 7 }, ..Default::default() };
        let reefs = SyntheticReefDataset { config, len: 5, seed: 0 };
        let subset = Subset::new(&reefs, vec![4, 0, 2]).unwrap();
        check_dataset(&subset, |a, b| a == b).unwrap();
        assert_eq!((subset.get(0).unwrap(), subset.name(2).unwrap()), (reefs.get(4).unwrap(), "reef_2".into()));
        check_dataset(&Subset::new(&reefs, Vec::new()).unwrap(), |a, b| a == b).unwrap();
        assert_eq!(subset.get(3).unwrap_err().to_string(), "index 3 out of range: the subset has 3 items");
        assert!(Subset::new(&reefs, vec![1, 5]).unwrap_err().to_string().contains("index 5 out of range"));
        assert!(Subset::new(&reefs, vec![1, 2, 1]).unwrap_err().to_string().contains("sample 1 occurs twice"));
    }
}
