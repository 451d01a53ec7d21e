use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use coral_core::image::RgbImage;
use coral_core::{ClassId, Dataset, Error, LabeledPhotograph, PatchGrid, Progress, Rect, Result, Size};

/// A patch of a photograph.
#[derive(Debug, Clone, PartialEq)]
pub struct GridPatch {
    /// The patch.
    pub image: RgbImage,
    /// The photograph it was cut from, as an index of its dataset.
    pub photograph: usize,
    /// Where it lies in the photograph.
    pub rect: Rect,
    /// The class of the photograph: a weak label of the patch.
    pub class: ClassId,
}

impl From<GridPatch> for LabeledPhotograph {
    /// The patch with its photograph's class.
    fn from(patch: GridPatch) -> Self {
        Self { image: patch.image, class: patch.class }
    }
}

/// Photographs cut into patches, row by row, photograph by photograph.
///
/// Photographs are kept in memory as they are loaded, as long as there is room (512 MiB, or what
/// [`with_cache`](Self::with_cache) says), and stay: passes in any order decode each of them about once (threads may decode one at the same time). Of the others the one
/// that was cut last is kept, so that its patches one after another cost one decoding; in random order each patch costs
/// one. Photographs that are shrunk as they are loaded ([`Resize`](crate::Resize)) take less room.
///
/// # Examples
/// ```
/// use coral_core::{Dataset, NoProgress, PatchGrid, Size};
/// use coral_io::{GridPatches, InMemory, SyntheticMeadowConfig, SyntheticMeadowDataset};
/// let config = SyntheticMeadowConfig { size: Size { width: 64, height: 40 }, ..Default::default() };
/// let photographs = SyntheticMeadowDataset { config, len: 2, seed: 0 };
/// let patches = GridPatches::new(&photographs, PatchGrid::Split { rows: 2, columns: 4 }, &NoProgress)?;
/// assert_eq!(patches.len(), 16);
/// let patch = patches.get(13)?;
/// assert_eq!((patch.photograph, patch.rect.x, patch.rect.y, patch.class), (1, 16, 20, 1));
/// assert_eq!(patches.name(13)?, "meadow_1_5");
/// let fast = InMemory::load(&patches, &NoProgress)?;
/// assert_eq!(fast.get(13)?, patch);
/// # Ok::<(), coral_core::Error>(())
/// ```
#[derive(Debug)]
pub struct GridPatches<D> {
    dataset: D,
    grid: PatchGrid,
    /// The first patch of each photograph, and the number of all patches.
    starts: Vec<usize>,
    cache_bytes: usize,
    kept: Mutex<Kept>,
}

/// Photographs in memory.
#[derive(Debug, Default)]
struct Kept {
    /// Those that stay, by their index, and their size.
    photographs: HashMap<usize, Arc<LabeledPhotograph>>,
    bytes: usize,
    /// The last of the others.
    last: Option<(usize, Arc<LabeledPhotograph>)>,
}

impl Kept {
    fn get(&self, index: usize) -> Option<Arc<LabeledPhotograph>> {
        let last = self.last.as_ref().filter(|(last, _)| *last == index).map(|(_, photograph)| photograph);
        self.photographs.get(&index).or(last).map(Arc::clone)
    }

    fn keep(&mut self, index: usize, photograph: &Arc<LabeledPhotograph>, cache_bytes: usize) {
        let total = self.bytes.saturating_add(photograph.image.as_raw().len());
        if total > cache_bytes {
            self.last = Some((index, Arc::clone(photograph)));
        } else if self.photographs.insert(index, Arc::clone(photograph)).is_none() {
            self.bytes = total;
        }
    }
}

/// Pixels that are kept unless told otherwise.
const CACHE_BYTES: usize = 512 << 20;

impl<D: Dataset<Item = LabeledPhotograph>> GridPatches<D> {
    /// The patches of all photographs of `dataset`.
    ///
    /// A grid of strides has as many patches as fit a photograph: for it, every photograph is loaded once to learn its
    /// size, a step of `progress` each.
    ///
    /// # Errors
    /// Those of [`PatchGrid::patches`]; [`Error::InvalidParameter`] when there are more patches than can be counted; those of
    /// the dataset when a photograph cannot be loaded.
    pub fn new(dataset: D, grid: PatchGrid, progress: &dyn Progress) -> Result<Self> {
        // A split of no rows or columns holds no patch at all, whatever the photographs.
        if let PatchGrid::Split { rows: 0, .. } | PatchGrid::Split { columns: 0, .. } = grid {
            grid.cells(Size { width: 1, height: 1 })?;
        }
        progress.start(dataset.len() as u64, "photographs");
        let mut starts = vec![0];
        let mut patches: usize = 0;
        for index in 0..dataset.len() {
            let cells = match grid {
                PatchGrid::Split { rows, columns } => Size { width: columns, height: rows },
                PatchGrid::Stride { .. } => {
                    let size = Size::of(&dataset.get(index)?.image);
                    grid.cells(size).map_err(|error| of_photograph(&dataset, index, error))?
                }
            };
            let more = (cells.width as usize).checked_mul(cells.height as usize);
            patches = more.and_then(|more| patches.checked_add(more)).ok_or_else(|| {
                let reason = format!("{cells} patches of each of {} photographs are too many", dataset.len());
                Error::parameter("grid", reason)
            })?;
            starts.push(patches);
            progress.advance(1);
        }
        progress.finish();
        Ok(Self { dataset, grid, starts, cache_bytes: CACHE_BYTES, kept: Mutex::default() })
    }

    /// Keeps at most so many bytes of pixels in memory, and the photograph that was cut last; 0 keeps that one alone.
    #[must_use]
    pub fn with_cache(self, bytes: usize) -> Self {
        Self { cache_bytes: bytes, kept: Mutex::default(), ..self }
    }

    /// The photographs.
    pub fn dataset(&self) -> &D {
        &self.dataset
    }

    /// The grid.
    pub fn grid(&self) -> PatchGrid {
        self.grid
    }

    /// The patches of photograph `index`, as positions in this dataset.
    ///
    /// # Errors
    /// [`Error::IndexOutOfRange`] past the last photograph.
    pub fn of_photograph(&self, index: usize) -> Result<std::ops::Range<usize>> {
        match (self.starts.get(index), self.starts.get(index.saturating_add(1))) {
            (Some(&start), Some(&end)) => Ok(start..end),
            _ => Err(Error::IndexOutOfRange { what: "the photographs".into(), index, len: self.dataset.len() }),
        }
    }

    /// The photograph of a patch, and the patch's number in it.
    fn place(&self, index: usize) -> Result<(usize, usize)> {
        if index >= self.len() {
            return Err(Error::IndexOutOfRange { what: "the patches".into(), index, len: self.len() });
        }
        let photograph = self.starts.partition_point(|&start| start <= index) - 1;
        Ok((photograph, index - self.starts[photograph]))
    }

    fn photograph(&self, index: usize) -> Result<Arc<LabeledPhotograph>> {
        // A thread that panicked while it held the lock left whole photographs.
        if let Some(photograph) = self.kept.lock().unwrap_or_else(PoisonError::into_inner).get(index) {
            return Ok(photograph);
        }
        // Loaded without the lock, so that threads do not wait for each other's photographs.
        let photograph = Arc::new(self.dataset.get(index)?);
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).keep(index, &photograph, self.cache_bytes);
        Ok(photograph)
    }
}

/// Puts the photograph's name before an error of the grid.
fn of_photograph<D: Dataset>(dataset: &D, index: usize, error: Error) -> Error {
    match (error, dataset.name(index)) {
        (Error::InvalidInput { reason, .. }, Ok(name)) => Error::input(format!("photograph {name}"), reason),
        (error, _) => error,
    }
}

impl<D: Dataset<Item = LabeledPhotograph>> Dataset for GridPatches<D> {
    type Item = GridPatch;

    fn len(&self) -> usize {
        self.starts.last().copied().unwrap_or(0)
    }

    fn get(&self, index: usize) -> Result<GridPatch> {
        let (photograph, nth) = self.place(index)?;
        let whole = self.photograph(photograph)?;
        let patches = self.grid.patches(Size::of(&whole.image));
        let patches = patches.map_err(|error| of_photograph(&self.dataset, photograph, error))?;
        let rect = *patches.get(nth).ok_or_else(|| {
            let expected = format!("{} patches", self.starts[photograph + 1] - self.starts[photograph]);
            Error::shape("photograph", expected, format!("{} patches", patches.len()))
        })?;
        Ok(GridPatch { image: rect.crop(&whole.image), photograph, rect, class: whole.class })
    }

    fn name(&self, index: usize) -> Result<String> {
        let (photograph, nth) = self.place(index)?;
        Ok(format!("{}_{nth}", self.dataset.name(photograph)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{InMemory, SyntheticMeadowConfig, SyntheticMeadowDataset};
    use coral_core::testing::check_dataset;
    use coral_core::{CountingProgress, NoProgress};

    fn meadows(len: usize) -> SyntheticMeadowDataset {
        let config = SyntheticMeadowConfig { size: Size { width: 37, height: 23 }, ..Default::default() };
        SyntheticMeadowDataset { config, len, seed: 4 }
    }

    /// Photographs of different sizes.
    struct Growing;

    impl Dataset for Growing {
        type Item = LabeledPhotograph;
        fn len(&self) -> usize {
            3
        }
        fn get(&self, index: usize) -> Result<LabeledPhotograph> {
            let side = 4 * (index as u32 + 1);
            Ok(LabeledPhotograph { image: RgbImage::new(side, 4), class: index as ClassId })
        }
        fn name(&self, index: usize) -> Result<String> {
            Ok(format!("photograph{index}"))
        }
    }

    #[test]
    fn patches_are_a_dataset_and_tile_the_photographs() {
        let grid = PatchGrid::Split { rows: 2, columns: 3 };
        let patches = GridPatches::new(meadows(3), grid, &NoProgress).unwrap();
        check_dataset(&patches, |a, b| a == b).unwrap();
        for index in [5, 6, 17] {
            let patch = patches.get(index).unwrap();
            let whole = patches.dataset().get(patch.photograph).unwrap();
            assert_eq!((patch.photograph, patch.class), (index / 6, whole.class));
            let Rect { x, y, width, height } = patch.rect;
            assert_eq!(patch.image.dimensions(), (width, height));
            assert_eq!(patch.image.get_pixel(1, 2), whole.image.get_pixel(x + 1, y + 2));
        }
        assert_eq!(patches.of_photograph(1).unwrap(), 6..12);
        assert!(patches.of_photograph(3).is_err() && patches.of_photograph(usize::MAX).is_err());
        check_dataset(&GridPatches::new(meadows(0), grid, &NoProgress).unwrap(), |a, b| a == b).unwrap();
    }

    #[test]
    fn strides_count_per_photograph() {
        let patch = Size { width: 4, height: 4 };
        let progress = CountingProgress::default();
        let patches = GridPatches::new(Growing, PatchGrid::Stride { patch, stride: patch }, &progress).unwrap();
        assert_eq!((patches.len(), progress.done()), (6, 3));
        let found: Vec<_> = (0..6).map(|index| patches.get(index).unwrap()).map(|p| (p.photograph, p.rect.x)).collect();
        assert_eq!(found, [(0, 0), (1, 0), (1, 4), (2, 0), (2, 4), (2, 8)]);
        check_dataset(&patches, |a, b| a == b).unwrap();
        let large = Size { width: 5, height: 4 };
        let error = GridPatches::new(Growing, PatchGrid::Stride { patch: large, stride: large }, &NoProgress);
        let error = error.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains("`photograph photograph0`: a 4x4 photograph is smaller than a 5x4 patch"), "{error}");
    }

    #[test]
    fn bad_grids_are_named() {
        let new = |rows, columns| GridPatches::new(Growing, PatchGrid::Split { rows, columns }, &NoProgress);
        let text = |rows, columns| new(rows, columns).map(drop).unwrap_err().to_string();
        assert!(text(0, 3).contains("`grid`: 0x3 patches are none") && text(3, 0).contains("3x0 patches are none"));
        // Three photographs of almost 2⁶⁴ patches each.
        let error = text(u32::MAX, u32::MAX);
        assert!(
            error.contains("`grid`: 4294967295x4294967295 patches of each of 3 photographs are too many"),
            "{error}"
        );
        let error = new(1, 5).unwrap_or_else(|error| panic!("{error}")).get(0).unwrap_err().to_string();
        assert!(error.contains("photograph0`: a 4x4 photograph is too small for 5x1 patches"), "{error}");
    }

    /// Counts how often a photograph is loaded.
    struct Counting(Mutex<usize>);

    impl Dataset for Counting {
        type Item = LabeledPhotograph;
        fn len(&self) -> usize {
            3
        }
        fn get(&self, index: usize) -> Result<LabeledPhotograph> {
            *self.0.lock().unwrap() += 1;
            Growing.get(index)
        }
        fn name(&self, index: usize) -> Result<String> {
            Growing.name(index)
        }
    }

    #[test]
    fn memory_is_bounded_and_changes_nothing() {
        let grid = PatchGrid::Split { rows: 1, columns: 2 };
        let expected = GridPatches::new(Growing, grid, &NoProgress).unwrap();
        // Photographs of 48, 96 and 144 bytes.
        for (bytes, loads) in [(0, 14), (47, 14), (48, 8), (143, 8), (144, 3), (usize::MAX, 3)] {
            let photographs = Counting(Mutex::default());
            let patches = GridPatches::new(&photographs, grid, &NoProgress).unwrap().with_cache(bytes);
            for index in [0, 1, 2, 0, 3, 4, 5, 1, 2, 0, 3, 0, 4, 2, 4, 2] {
                assert_eq!(patches.get(index).unwrap(), expected.get(index).unwrap());
            }
            assert_eq!(*photographs.0.lock().unwrap(), loads, "{bytes} bytes");
            assert!(patches.kept.lock().unwrap().bytes <= bytes);
        }
    }

    #[test]
    fn in_memory_is_the_same() {
        let patches = GridPatches::new(meadows(2), PatchGrid::Split { rows: 2, columns: 2 }, &NoProgress).unwrap();
        let loaded = InMemory::load(&patches, &NoProgress).unwrap();
        check_dataset(&loaded, |a, b| a == b).unwrap();
        for index in 0..8 {
            assert_eq!(loaded.get(index).unwrap(), patches.get(index).unwrap());
            assert_eq!(loaded.name(index).unwrap(), patches.name(index).unwrap());
        }
    }
}
