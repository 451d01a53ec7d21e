use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Mutex, PoisonError};

use coral_core::image::RgbImage;
use coral_core::{ClassId, Dataset, Error, LabeledPatch, LabeledPhotograph, Rect, Result, Size, UNLABELED};
use ndarray::Array1;
use serde::{Deserialize, Serialize};

/// A patch of a photograph and the class it was given.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PatchRecord {
    /// Position of the photograph in its data set.
    pub photograph: usize,
    /// Where the patch is.
    pub rect: Rect,
    /// What it shows.
    pub class: ClassId,
    /// The other class that it may show: in a patch taken for background, its photograph's; the same where there is
    /// no other.
    pub alternative: ClassId,
    /// How probable `class` is, 0..=1.
    pub confidence: f32,
}

/// What a classifier learns from a [`PatchRecord`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Targets {
    /// The class alone.
    #[default]
    Hard,
    /// The class with its confidence, the other class with the rest.
    Soft,
}

/// Settings of [`RecordedPatches`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RecordedPatchesConfig {
    /// What the targets are.
    pub targets: Targets,
    /// How many bytes of pixels may be kept in memory. A photograph is decoded for every patch that is not.
    pub cache_bytes: usize,
}

impl Default for RecordedPatchesConfig {
    /// Hard targets, up to 512 MiB of patches in memory.
    fn default() -> Self {
        Self { targets: Targets::Hard, cache_bytes: 512 << 20 }
    }
}

/// The patches of records as a data set for a classifier, cut from the photographs when asked for.
///
/// When a photograph is loaded all of its patches are kept, as long as there is room; what is kept once stays, so
/// that training in any order loads a photograph once if everything fits.
///
/// # Examples
/// ```
/// use coral_core::{Dataset, LabeledPhotograph, Rect, Result, image::RgbImage, ndarray::arr1};
/// use coral_weak::{PatchRecord, RecordedPatches, RecordedPatchesConfig, Targets};
/// struct One;
/// impl Dataset for One {
///     type Item = LabeledPhotograph;
///     fn len(&self) -> usize { 1 }
///     fn get(&self, _: usize) -> Result<LabeledPhotograph> { Ok(LabeledPhotograph { image: RgbImage::new(9, 6), class: 2 }) }
///     fn name(&self, _: usize) -> Result<String> { Ok("reef".into()) }
/// }
/// let rect = Rect { x: 4, y: 0, width: 5, height: 3 };
/// let records = vec![PatchRecord { photograph: 0, rect, class: 0, alternative: 2, confidence: 0.75 }];
/// let config = RecordedPatchesConfig { targets: Targets::Soft, ..Default::default() };
/// let patches = RecordedPatches::new(One, records, 3, config)?;
/// let patch = patches.get(0)?;
/// assert_eq!((patch.image.dimensions(), patch.target), ((5, 3), arr1(&[0.75, 0.0, 0.25])));
/// # Ok::<(), coral_core::Error>(())
/// ```
#[derive(Debug)]
pub struct RecordedPatches<D> {
    photographs: D,
    records: Vec<PatchRecord>,
    /// The records of each photograph.
    of_photograph: Vec<Vec<usize>>,
    num_classes: usize,
    config: RecordedPatchesConfig,
    kept: Mutex<Kept>,
}

/// Patches in memory, by record.
#[derive(Debug, Default)]
struct Kept {
    patches: HashMap<usize, RgbImage>,
    bytes: usize,
}

impl<D: Dataset<Item = LabeledPhotograph>> RecordedPatches<D> {
    /// The patches of `records`, with targets of `num_classes` classes.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] naming the first record whose photograph or class does not exist, whose patch is empty
    /// or whose confidence is not in 0..=1; [`Error::InvalidParameter`] for no class or more than 255.
    pub fn new(
        photographs: D,
        records: Vec<PatchRecord>,
        num_classes: usize,
        config: RecordedPatchesConfig,
    ) -> Result<Self> {
        if !(1..=usize::from(UNLABELED)).contains(&num_classes) {
            let reason = format!("expected 1 to {UNLABELED} classes, got {num_classes}");
            return Err(Error::parameter("num_classes", reason));
        }
        let mut of_photograph = vec![Vec::new(); photographs.len()];
        for (index, record) in records.iter().enumerate() {
            let PatchRecord { photograph, rect, class, alternative, confidence } = *record;
            let fail = |reason: String| Err(Error::input("records", format!("record {index}: {reason}")));
            let Some(of_photograph) = of_photograph.get_mut(photograph) else {
                return fail(format!("photograph {photograph} of {}", photographs.len()));
            };
            if let Some(class) = [class, alternative].into_iter().find(|&class| usize::from(class) >= num_classes) {
                return fail(format!("class {class} of {num_classes}"));
            }
            if rect.area() == 0 || !(0.0..=1.0).contains(&confidence) {
                return fail(format!("expected a patch with pixels and a confidence in 0..=1, got {record:?}"));
            }
            of_photograph.push(index);
        }
        Ok(Self { photographs, records, of_photograph, num_classes, config, kept: Mutex::default() })
    }

    /// The records, in the order of the patches.
    pub fn records(&self) -> &[PatchRecord] {
        &self.records
    }

    fn record(&self, index: usize) -> Result<&PatchRecord> {
        let missing = || Error::IndexOutOfRange { what: "recorded patches".into(), index, len: self.records.len() };
        self.records.get(index).ok_or_else(missing)
    }

    /// The pixels of a patch, out of memory or the photograph.
    fn image(&self, index: usize, record: &PatchRecord) -> Result<RgbImage> {
        if let Some(kept) = self.lock().patches.get(&index) {
            return Ok(kept.clone());
        }
        let photograph = self.photographs.get(record.photograph)?.image;
        let size = Size::of(&photograph);
        let whole = Rect::whole(size);
        for &index in &self.of_photograph[record.photograph] {
            let rect = self.records[index].rect;
            if rect.intersection(whole) != Some(rect) {
                let name = self.photographs.name(record.photograph)?;
                let reason = format!("record {index}: {rect:?} is not inside {name}, which is {size}");
                return Err(Error::input("records", reason));
            }
        }
        self.keep(&photograph, &self.of_photograph[record.photograph]);
        Ok(record.rect.crop(&photograph))
    }

    /// Keeps as many more patches as there is room for.
    fn keep(&self, photograph: &RgbImage, records: &[usize]) {
        for &index in records {
            let rect = self.records[index].rect;
            let bytes = usize::try_from(rect.area().saturating_mul(3)).unwrap_or(usize::MAX);
            let Kept { patches, bytes: used } = &mut *self.lock();
            let total = used.checked_add(bytes).filter(|&total| total <= self.config.cache_bytes);
            if let (Some(total), Entry::Vacant(place)) = (total, patches.entry(index)) {
                place.insert(rect.crop(photograph));
                *used = total;
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        // A thread that panicked leaves whole patches behind.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<D: Dataset<Item = LabeledPhotograph>> Dataset for RecordedPatches<D> {
    type Item = LabeledPatch;

    fn len(&self) -> usize {
        self.records.len()
    }

    fn get(&self, index: usize) -> Result<LabeledPatch> {
        let record = self.record(index)?;
        let image = self.image(index, record)?;
        let mut target = Array1::zeros(self.num_classes);
        let share = if self.config.targets == Targets::Soft { record.confidence } else { 1.0 };
        target[usize::from(record.class)] += share;
        target[usize::from(record.alternative)] += 1.0 - share;
        Ok(LabeledPatch { image, target })
    }

    /// The photograph's name and the index.
    fn name(&self, index: usize) -> Result<String> {
        Ok(format!("{}-{index}", self.photographs.name(self.record(index)?.photograph)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coral_core::image::Rgb;
    use coral_core::testing::check_dataset;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Two photographs whose pixels tell where they are; counts how often one is loaded.
    #[derive(Debug)]
    struct Two<'a>(&'a AtomicUsize);

    impl Dataset for Two<'_> {
        type Item = LabeledPhotograph;
        fn len(&self) -> usize {
            2
        }
        fn get(&self, index: usize) -> Result<LabeledPhotograph> {
            self.0.fetch_add(1, Ordering::Relaxed);
            let image = RgbImage::from_fn(10, 6, |x, y| Rgb([x as u8, y as u8, index as u8]));
            Ok(LabeledPhotograph { image, class: 1 })
        }
        fn name(&self, index: usize) -> Result<String> {
            Ok(["a", "b"][index].into())
        }
    }

    fn records() -> Vec<PatchRecord> {
        let rects = [(0, 0), (4, 0), (2, 3)].map(|(x, y)| Rect { x, y, width: 4, height: 3 });
        let record =
            |photograph| move |rect| PatchRecord { photograph, rect, class: 1, alternative: 1, confidence: 0.4 };
        rects.map(record(0)).into_iter().chain(rects.map(record(1))).collect()
    }

    #[test]
    fn memory_is_bounded_and_changes_nothing() {
        for (cache_bytes, loads) in [(0, 12), (36, 11), (usize::MAX, 2), (6 * 36, 2), (3 * 36 + 35, 7)] {
            let count = AtomicUsize::new(0);
            let config = RecordedPatchesConfig { cache_bytes, ..Default::default() };
            let patches = RecordedPatches::new(Two(&count), records(), 2, config).unwrap();
            for index in [0, 3, 5, 1, 2, 4, 4, 0, 1, 2, 3, 5] {
                let record = patches.records()[index];
                let patch = patches.get(index).unwrap();
                assert_eq!(
                    patch.image.get_pixel(1, 2).0,
                    [record.rect.x as u8 + 1, record.rect.y as u8 + 2, record.photograph as u8]
                );
                assert_eq!(patch.target.to_vec(), [0.0, 1.0]);
            }
            assert_eq!(count.load(Ordering::Relaxed), loads, "{cache_bytes} bytes");
            check_dataset(&patches, |a, b| a == b).unwrap();
            let Kept { patches: kept, bytes } = &*patches.lock();
            assert!(*bytes == 36 * kept.len() && *bytes <= cache_bytes);
        }
    }

    #[test]
    fn misfits_are_named() {
        let count = AtomicUsize::new(0);
        let valid = records()[0];
        let new = |record, classes| RecordedPatches::new(Two(&count), vec![valid, record], classes, Default::default());
        let text = |record| new(record, 2).unwrap_err().to_string();
        assert_eq!(
            text(PatchRecord { photograph: 2, ..valid }),
            "invalid input `records`: record 1: photograph 2 of 2"
        );
        assert!(text(PatchRecord { class: 2, ..valid }).contains("record 1: class 2 of 2"));
        assert!(text(PatchRecord { alternative: 255, ..valid }).contains("class 255 of 2"));
        assert!(text(PatchRecord { confidence: f32::NAN, ..valid }).contains("got PatchRecord"));
        assert!(text(PatchRecord { rect: Rect { width: 0, ..valid.rect }, ..valid }).contains("with pixels"));
        assert!(new(valid, 0).is_err() && new(valid, 256).is_err());
        let outside = PatchRecord { rect: Rect { x: 7, ..valid.rect }, photograph: 1, ..valid };
        let patches = new(outside, 2).unwrap();
        let error = patches.get(1).unwrap_err().to_string();
        assert!(error.contains("is not inside b, which is 10x6"), "{error}");
    }
}
