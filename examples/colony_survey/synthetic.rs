use coral_core::{AnnotatedImage, ClassId, ClassSet, Dataset, NoProgress, Remapping, Result, Size, UNLABELED};
use coral_io::{InMemory, RemappedMasks, SyntheticColonies, SyntheticReef, SyntheticReefConfig, SyntheticReefDataset};
use coral_weak::{NegativeConfig, WithNegatives};

use crate::Bar;

/// Side of the pictures in pixels, as the small network sees them.
pub(super) const SIDE: u32 = 64;

/// Synthetic reefs from close by, with the mask and the species of every colony.
#[derive(Debug, Clone)]
pub struct SyntheticSurvey {
    /// The classes of the masks, from growth forms down to species.
    pub taxa: ClassSet,
    /// To train on; the last fifth shows no coral.
    pub train: InMemory<AnnotatedImage>,
    /// Reefs that no training sees.
    pub held_out: InMemory<AnnotatedImage>,
    /// As many pictures of the ground, with seagrass and stones but without a coral.
    pub barren: InMemory<AnnotatedImage>,
}

impl SyntheticSurvey {
    /// Draws so many pictures to train on, and a twentieth as many, but no fewer than 2, to test on.
    ///
    /// # Errors
    /// None for counts that memory holds.
    pub fn new(seed: u64, train: usize) -> Result<Self> {
        let held_out = (train / 20).max(2);
        let size = Size { width: SIDE, height: SIDE };
        let reef = SyntheticReefConfig {
            size,
            extent_m: 0.35,
            depth_m: 3.0,
            species: true,
            turbidity: 0.1,
            ..SyntheticReefConfig::default()
        };
        let barren = SyntheticReefConfig { coral_cover: 0.0, ..reef.clone() };
        let pictures = |config: &SyntheticReefConfig, len: usize, first: u64| {
            // Numbers of pictures of one run never meet those of another.
            let reefs = SyntheticReefDataset { config: config.clone(), len, seed: (seed << 32) + first };
            InMemory::load(&SyntheticColonies { reefs, min_area: 1 }, &Bar::new())
        };
        let without = train / 5;
        let train = [pictures(&reef, train - without, 0)?, pictures(&barren, without, 1 << 29)?];
        let train = train.iter().flat_map(|part| (0..part.len()).map(|index| part.get(index)));
        Ok(Self {
            taxa: SyntheticReef::taxa(),
            train: InMemory::new(train.collect::<Result<_>>()?),
            held_out: pictures(&reef, held_out, 1 << 31)?,
            barren: pictures(&barren, held_out, 1 << 30)?,
        })
    }

    /// The classes `level` steps below coral, and how the classes of masks become them.
    ///
    /// # Errors
    /// None: the classes have a coral.
    pub fn level(&self, level: usize) -> Result<(ClassSet, Remapping)> {
        self.taxa.objects_at_level(self.taxa.parse("coral")?, level)
    }
}

/// The same pictures without the masks of slivers.
fn without_slivers(images: &InMemory<AnnotatedImage>) -> Result<InMemory<AnnotatedImage>> {
    let large = |index| {
        let mut image: AnnotatedImage = images.get(index)?;
        image.masks.retain(|one| one.area() >= MIN_AREA);
        Ok(image)
    };
    Ok(InMemory::new((0..images.len()).map(large).collect::<Result<_>>()?))
}

/// Masks of all corals of pictures, however small.
///
/// # Errors
/// When a picture cannot be loaded.
pub fn all_corals(images: &InMemory<AnnotatedImage>, remapping: &Remapping) -> Result<InMemory<AnnotatedImage>> {
    InMemory::load(&RemappedMasks::new(images, corals(remapping)).without_unclassed(), &NoProgress)
}

/// The same without what is no coral.
fn corals(remapping: &Remapping) -> Remapping {
    let mut corals = Remapping::to_unlabeled();
    let kept = (0..UNLABELED).map(|id: ClassId| (id, remapping.get(id))).filter(|(_, to)| *to != 0);
    kept.for_each(|(id, to)| corals.set(id, to));
    corals
}

/// The least area in pixels of what is trained on and tested on; the rest is slivers at the edge or under others.
pub const MIN_AREA: u64 = 40;

/// The colonies alone: what annotators of corals draw. With `negatives` above 0, there are also masks of what is no coral: seagrass
/// and stones, and regions between the colonies that are drawn at random, so many for each colony, and some where there is none.
///
/// # Errors
/// When `negatives` is out of range.
pub fn colonies(
    images: &InMemory<AnnotatedImage>,
    remapping: &Remapping,
    (negatives, seed): (f64, u64),
) -> Result<InMemory<AnnotatedImage>> {
    if negatives == 0.0 {
        return without_slivers(&all_corals(images, remapping)?);
    }
    let masks = RemappedMasks::new(images, remapping.clone()).without_unclassed();
    let config = NegativeConfig { per_positive: negatives, margin: 1, ..NegativeConfig::default() };
    without_slivers(&InMemory::load(&WithNegatives::new(masks, config, seed)?, &NoProgress)?)
}
