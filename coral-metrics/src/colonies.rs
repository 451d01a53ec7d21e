use std::collections::BTreeMap;

use coral_core::{ClassId, Error, InstanceMask, Result, RleMask, Size, UNLABELED};
use serde::{Deserialize, Serialize};

use crate::SizeDistribution;
use crate::sizes::check_edges;

/// What [`ColonySurvey`] measures.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ColonyConfig {
    /// The side of a pixel on the sea floor, in cm; with it, sizes are in cm², else in pixels.
    pub cm_per_pixel: Option<f64>,
    /// Leave colonies that touch the border of their image out of the size distributions: only a part of them is
    /// seen, and large ones are cut more often. Counts and cover keep them.
    pub skip_cut: bool,
    /// The class whose masks are no colonies and cover nothing, such as CoralSCOP's 0. Its mask generator leaves that
    /// class out already unless told otherwise.
    pub background_class: Option<ClassId>,
    /// The edges of the bins of the size histograms, ascending, in cm² or pixels; no histogram when empty.
    pub bin_edges: Vec<f64>,
}

/// Collects the colonies of any number of images.
///
/// # Examples
/// ```
/// use coral_core::{InstanceMask, RleMask, Size};
/// use coral_metrics::{ColonyConfig, ColonySurvey};
/// let size = Size { width: 10, height: 10 };
/// let colony = |from: u32, to: u32| {
///     let mask = RleMask::from_fn(size, |x, y| (from..to).contains(&x) && (from..to).contains(&y));
///     InstanceMask { class: Some(3), ..InstanceMask::new(mask) }
/// };
/// let mut survey = ColonySurvey::new(ColonyConfig { cm_per_pixel: Some(0.5), ..ColonyConfig::default() })?;
/// survey.add(size, &[colony(0, 4), colony(2, 6)])?;
///
/// let statistics = survey.statistics();
/// let corals = &statistics.per_class[0];
/// assert_eq!((corals.class, corals.count, corals.touching_border), (Some(3), 2, 1));
/// assert_eq!(corals.cover_percent, Some(28.0)); // the overlap counts once
/// assert_eq!(corals.sizes.as_ref().unwrap().mean, 4.0); // cm²
/// # Ok::<(), coral_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct ColonySurvey {
    config: ColonyConfig,
    classes: BTreeMap<Option<ClassId>, Colonies>,
    /// Pixels in any mask, and of all images.
    covered: u64,
    pixels: u64,
}

#[derive(Debug, Clone, PartialEq, Default)]
struct Colonies {
    whole: Vec<u64>,
    cut: Vec<u64>,
    covered: u64,
}

/// How many colonies there are, how much they cover and how large they are.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ColonyStatistics {
    /// The unit of the sizes: `cm²` or `px`.
    pub unit: &'static str,
    /// Pixels of all images, colonies or not.
    pub pixels: u64,
    /// The classes that occur, by ascending id; colonies without class come first.
    pub per_class: Vec<ClassColonies>,
    /// All colonies together.
    pub all: ClassColonies,
}

/// The colonies of one class.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClassColonies {
    /// The class; `None` for colonies without class, and for all together.
    pub class: Option<ClassId>,
    /// Colonies, those cut by a border included.
    pub count: u64,
    /// Colonies that touch the border of their image.
    pub touching_border: u64,
    /// Percent of all pixels that are in at least one of these colonies; `None` without pixels.
    pub cover_percent: Option<f64>,
    /// The sizes of the colonies; `None` when there is none to measure.
    pub sizes: Option<SizeDistribution>,
}

impl ColonySurvey {
    /// No image yet.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] when the scale is not positive and finite, or the edges are not finite, ascending
    /// and at least two.
    pub fn new(config: ColonyConfig) -> Result<Self> {
        if let Some(scale) = config.cm_per_pixel
            && !(scale.is_finite() && scale > 0.0)
        {
            return Err(Error::parameter("cm_per_pixel", format!("expected a positive number, got {scale}")));
        }
        check_edges(&config.bin_edges)?;
        Ok(Self { config, classes: BTreeMap::new(), covered: 0, pixels: 0 })
    }

    /// Adds an image of `size` and its colonies. Empty masks and those of the background class are no colonies.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] for a mask of another size, [`Error::InvalidInput`] for one of class [`UNLABELED`];
    /// nothing is added then.
    pub fn add(&mut self, size: Size, masks: &[InstanceMask]) -> Result<()> {
        let mut classes: BTreeMap<_, Vec<&InstanceMask>> = BTreeMap::new();
        for (at, one) in masks.iter().enumerate() {
            let what = format!("masks[{at}]");
            size.expect(&what, one.mask.size())?;
            if one.class == Some(UNLABELED) {
                return Err(Error::input(what, format!("class {UNLABELED} means unlabelled, expected no class")));
            }
            let is_background = one.class.is_some() && one.class == self.config.background_class;
            if !is_background && !one.mask.is_empty() {
                classes.entry(one.class).or_default().push(one);
            }
        }
        let unions = classes.values().map(|masks| RleMask::union_of(size, masks.iter().map(|one| &one.mask)));
        let unions = unions.collect::<Result<Vec<_>>>()?;
        self.covered += RleMask::union_of(size, &unions)?.area();
        self.pixels += size.pixels() as u64;
        for ((class, masks), union) in classes.into_iter().zip(&unions) {
            let colonies = self.classes.entry(class).or_default();
            colonies.covered += union.area();
            for one in masks {
                let areas = if one.touches_border() { &mut colonies.cut } else { &mut colonies.whole };
                areas.push(one.area());
            }
        }
        Ok(())
    }

    /// Adds all that `other` has collected.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] when `other` has another configuration.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        if self.config != other.config {
            return Err(Error::parameter("other", "expected a survey of the same configuration"));
        }
        for (&class, colonies) in &other.classes {
            self.classes.entry(class).or_default().extend(colonies);
        }
        self.covered += other.covered;
        self.pixels += other.pixels;
        Ok(())
    }

    /// The statistics of everything collected so far.
    pub fn statistics(&self) -> ColonyStatistics {
        let mut all = Colonies::default();
        self.classes.values().for_each(|colonies| all.extend(colonies));
        all.covered = self.covered;
        ColonyStatistics {
            unit: if self.config.cm_per_pixel.is_some() { "cm²" } else { "px" },
            pixels: self.pixels,
            per_class: self.classes.iter().map(|(&class, colonies)| self.summary(class, colonies)).collect(),
            all: self.summary(None, &all),
        }
    }

    fn summary(&self, class: Option<ClassId>, colonies: &Colonies) -> ClassColonies {
        let pixel = self.config.cm_per_pixel.map_or(1.0, |side| side * side);
        let cut = if self.config.skip_cut { &[][..] } else { &colonies.cut };
        let sizes: Vec<f64> = colonies.whole.iter().chain(cut).map(|&area| area as f64 * pixel).collect();
        ClassColonies {
            class,
            count: (colonies.whole.len() + colonies.cut.len()) as u64,
            touching_border: colonies.cut.len() as u64,
            cover_percent: (self.pixels > 0).then(|| 100.0 * colonies.covered as f64 / self.pixels as f64),
            sizes: SizeDistribution::of_checked(sizes, &self.config.bin_edges),
        }
    }
}

impl Colonies {
    fn extend(&mut self, other: &Self) {
        self.whole.extend(&other.whole);
        self.cut.extend(&other.cut);
        self.covered += other.covered;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SIZE: Size = Size { width: 12, height: 9 };

    fn colony((x0, y0, width, height, class): (u32, u32, u32, u32, Option<u8>)) -> InstanceMask {
        let inside = |x, y| (x0..x0 + width).contains(&x) && (y0..y0 + height).contains(&y);
        InstanceMask { class, ..InstanceMask::new(RleMask::from_fn(SIZE, inside)) }
    }

    fn colonies() -> impl Strategy<Value = Vec<InstanceMask>> {
        let one = (0u32..14, 0u32..10, 1u32..9, 1u32..7, prop::option::of(0u8..3));
        prop::collection::vec(one.prop_map(colony), 0..9)
    }

    proptest! {
        #[test]
        fn equal_to_counting_pixels(masks in colonies(), skip_cut in any::<bool>()) {
            let mut survey = ColonySurvey::new(ColonyConfig { skip_cut, ..ColonyConfig::default() }).unwrap();
            survey.add(SIZE, &masks).unwrap();
            let statistics = survey.statistics();
            let of = |class: Option<u8>| masks.iter().filter(move |one| one.class == class && one.area() > 0);
            let present = [None, Some(0), Some(1), Some(2)].into_iter().filter(|&class| of(class).count() > 0);
            prop_assert!(present.eq(statistics.per_class.iter().map(|one| one.class)));
            for one in &statistics.per_class {
                let decoded: Vec<_> = of(one.class).map(|one| one.mask.decode()).collect();
                let pixels = || (0..9usize).flat_map(|y| (0..12usize).map(move |x| [y, x]));
                let covered = pixels().filter(|&at| decoded.iter().any(|mask| mask[at])).count();
                prop_assert_eq!(one.cover_percent, Some(100.0 * covered as f64 / 108.0));
                let border = |&[y, x]: &[usize; 2]| y == 0 || x == 0 || y == 8 || x == 11;
                let (cut, whole): (Vec<_>, Vec<_>) =
                    decoded.iter().partition(|mask| pixels().filter(border).any(|at| mask[at]));
                prop_assert_eq!((one.count, one.touching_border), ((cut.len() + whole.len()) as u64, cut.len() as u64));
                let measured = whole.iter().chain(if skip_cut { &[][..] } else { &cut });
                let areas: Vec<_> = measured.map(|mask| mask.iter().filter(|&&pixel| pixel).count() as f64).collect();
                prop_assert_eq!(&one.sizes, &SizeDistribution::new(&areas, &[]).unwrap());
            }
            let total: u64 = statistics.per_class.iter().map(|one| one.count).sum();
            prop_assert_eq!(statistics.all.count, total);
        }

        #[test]
        fn merging_equals_adding(a in colonies(), b in colonies()) {
            let config = ColonyConfig { cm_per_pixel: Some(0.3), bin_edges: vec![0.0, 1.0, 9.0], ..Default::default() };
            let new = || ColonySurvey::new(config.clone()).unwrap();
            let (mut both, mut first, mut second) = (new(), new(), new());
            both.add(SIZE, &a).unwrap();
            both.add(SIZE, &b).unwrap();
            first.add(SIZE, &a).unwrap();
            second.add(SIZE, &b).unwrap();
            first.merge(&second).unwrap();
            prop_assert_eq!(first.statistics(), both.statistics());
        }
    }

    #[test]
    fn background_is_no_colony() {
        let masks = [colony((0, 0, 12, 9, Some(0))), colony((1, 1, 3, 3, Some(1))), colony((8, 1, 2, 3, None))];
        let measured = |background_class| {
            let config = ColonyConfig { background_class, ..ColonyConfig::default() };
            let mut survey = ColonySurvey::new(config).unwrap();
            survey.add(SIZE, &masks).unwrap();
            let ColonyStatistics { pixels, per_class, all, .. } = survey.statistics();
            (pixels, per_class.iter().map(|one| one.class).collect::<Vec<_>>(), all.count, all.cover_percent)
        };
        assert_eq!(measured(None), (108, vec![None, Some(0), Some(1)], 3, Some(100.0)));
        assert_eq!(measured(Some(0)), (108, vec![None, Some(1)], 2, Some(100.0 * 15.0 / 108.0)));
    }

    #[test]
    fn bad_input_changes_nothing() {
        let mut survey = ColonySurvey::new(ColonyConfig::default()).unwrap();
        let good = colony((1, 1, 2, 2, Some(1)));
        let other = InstanceMask::new(RleMask::empty(Size { width: 9, height: 12 }));
        let unlabelled = InstanceMask { class: Some(UNLABELED), ..good.clone() };
        for (bad, expected) in [(other, "masks[1]: expected shape 12x9, got 9x12"), (unlabelled, "means unlabelled")] {
            let text = survey.add(SIZE, &[good.clone(), bad]).unwrap_err().to_string();
            assert!(text.contains(expected), "{text}");
        }
        let statistics = survey.statistics();
        assert_eq!((statistics.pixels, statistics.all.count, statistics.all.cover_percent), (0, 0, None));
        assert!(statistics.per_class.is_empty() && statistics.all.sizes.is_none());
        for scale in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let config = ColonyConfig { cm_per_pixel: Some(scale), ..ColonyConfig::default() };
            assert!(ColonySurvey::new(config).unwrap_err().to_string().contains("expected a positive number"));
        }
        let other = ColonySurvey::new(ColonyConfig { skip_cut: true, ..ColonyConfig::default() }).unwrap();
        assert!(survey.merge(&other).is_err());
    }
}
