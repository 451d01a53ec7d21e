use coral_core::{Dataset, Error, Progress, Result};

/// The samples of a dataset, loaded once and held in memory: for small sets that are read many times.
///
/// # Examples
/// ```
/// use coral_core::{CountingProgress, Dataset, Size};
/// use coral_io::{InMemory, SyntheticMeadowConfig, SyntheticMeadowDataset};
/// let config = SyntheticMeadowConfig { size: Size { width: 32, height: 20 }, ..Default::default() };
/// let survey = SyntheticMeadowDataset { config, len: 3, seed: 0 };
/// let progress = CountingProgress::default();
/// let loaded = InMemory::load(&survey, &progress)?;
/// assert_eq!(progress.done(), 3);
/// assert_eq!((loaded.get(1)?, loaded.name(1)?), (survey.get(1)?, survey.name(1)?));
/// # Ok::<(), coral_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct InMemory<T> {
    samples: Vec<(String, T)>,
}

impl<T> InMemory<T> {
    /// Samples that exist already; their names are their positions.
    pub fn new(samples: Vec<T>) -> Self {
        Self { samples: samples.into_iter().enumerate().map(|(index, sample)| (index.to_string(), sample)).collect() }
    }

    /// Loads every sample of `dataset`, a step of `progress` each.
    ///
    /// # Errors
    /// The dataset's error when a sample cannot be loaded.
    pub fn load(dataset: &dyn Dataset<Item = T>, progress: &dyn Progress) -> Result<Self> {
        progress.start(dataset.len() as u64, "samples");
        let load = |index: usize| {
            let sample = (dataset.name(index)?, dataset.get(index)?);
            progress.advance(1);
            Ok(sample)
        };
        let samples = (0..dataset.len()).map(load).collect::<Result<Vec<_>>>();
        progress.finish();
        Ok(Self { samples: samples? })
    }

    fn at(&self, index: usize) -> Result<&(String, T)> {
        let range = || Error::IndexOutOfRange { what: "the loaded samples".into(), index, len: self.samples.len() };
        self.samples.get(index).ok_or_else(range)
    }
}

impl<T: Clone + Send + Sync> Dataset for InMemory<T> {
    type Item = T;

    fn len(&self) -> usize {
        self.samples.len()
    }

    fn get(&self, index: usize) -> Result<T> {
        Ok(self.at(index)?.1.clone())
    }

    fn name(&self, index: usize) -> Result<String> {
        Ok(self.at(index)?.0.clone())
    }
}
