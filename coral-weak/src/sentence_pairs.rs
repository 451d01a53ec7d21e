//! Sentences with the masks that they name, and sentences that name nothing in the image.

use std::collections::HashSet;

use coral_core::{
    ClassId, ClassSentences, ClassSet, Error, InstanceMask, Result, RleMask, SeededRng, SentencePair, Size, UNLABELED,
};
use serde::{Deserialize, Serialize};

/// How many pairs [`SentencePairs`] draws for an image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SentencePairConfig {
    /// Sentences for each class that the image shows, at most as many as the class has. Default: 1.
    pub sentences_per_class: usize,
    /// Negative pairs for each positive one, from 0; the number is rounded. Default: 1.
    pub negatives_per_positive: f64,
    /// Negative pairs for an image that shows no class with sentences. Default: 1.
    pub negatives_without_positives: usize,
    /// How many levels up a class and its kin part: no negative pair takes a sentence of a class whose relatives, so
    /// many levels up, the image shows. 1 parts the genera of species; 0 lets species of one genus be negatives of each
    /// other. Default: 1.
    pub kin_levels: usize,
    /// What the image shows of a class on fewer pixels makes no positive pair; it is shown all the same, and makes no negative
    /// one. Default: 1.
    pub min_area: u64,
}

impl Default for SentencePairConfig {
    fn default() -> Self {
        Self {
            sentences_per_class: 1,
            negatives_per_positive: 1.0,
            negatives_without_positives: 1,
            kin_levels: 1,
            min_area: 1,
        }
    }
}

impl SentencePairConfig {
    fn validate(&self) -> Result<()> {
        if !(0.0..=1000.0).contains(&self.negatives_per_positive) {
            let reason = format!("expected a number in 0..=1000, got {}", self.negatives_per_positive);
            return Err(Error::parameter("negatives_per_positive", reason));
        }
        Ok(())
    }
}

/// Draws pairs of sentences and masks, to teach a segmenter to follow sentences.
///
/// A sentence about a class is true of the objects of that class and of the classes below it: one about a genus of the
/// objects of all its species. A positive pair has the union of their masks. A negative pair takes a sentence of another
/// genus, that is of a class whose parent (the class itself, where it has none) the image does not show, and an empty
/// mask. An object whose class lies above that genus, or that has no class, might belong to it, and so no negative is
/// drawn from the genera that it might be of.
///
/// # Examples
/// ```
/// use coral_core::{ClassSentences, ClassSet, InstanceMask, RleMask, Size};
/// use coral_weak::SentencePairs;
/// let mut classes = ClassSet::from_names(["background", "Acropora", "Porites", "A. palmata", "P. lobata"])?;
/// classes.set_parent(3, Some(1))?;
/// classes.set_parent(4, Some(2))?;
/// let sentences = ClassSentences::new([(3, vec!["elk horns".to_owned()]), (4, vec!["a smooth boulder".to_owned()])])?;
/// let pairs = SentencePairs::new(classes, sentences, Default::default())?;
///
/// let mask = RleMask::from_fn(Size { width: 8, height: 6 }, |x, _| x < 3);
/// let colony = InstanceMask { class: Some(3), ..InstanceMask::new(mask.clone()) };
/// let drawn = pairs.draw(mask.size(), &[colony], 7)?;
/// assert_eq!((drawn[0].sentence.as_str(), &drawn[0].mask), ("elk horns", &mask));
/// assert_eq!((drawn[1].sentence.as_str(), drawn[1].is_positive()), ("a smooth boulder", false));
/// # Ok::<(), coral_core::Error>(())
/// ```
///
/// # References
/// Zheng et al., *CoralSCOP: Segment any COral Image on this Planet*, CVPR 2024. How many pairs an image gives is not
/// published.
#[derive(Debug, Clone)]
pub struct SentencePairs {
    classes: ClassSet,
    sentences: ClassSentences,
    config: SentencePairConfig,
}

impl SentencePairs {
    /// Pairs of these sentences.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] naming the field that is out of its range; [`Error::UnknownClass`] when a class with
    /// sentences is not in `classes`; [`Error::InvalidInput`] when there is no sentence.
    pub fn new(classes: ClassSet, sentences: ClassSentences, config: SentencePairConfig) -> Result<Self> {
        config.validate()?;
        sentences.expect_known(&classes)?;
        if sentences.is_empty() {
            return Err(Error::input("sentences", "expected at least one sentence"));
        }
        Ok(Self { classes, sentences, config })
    }

    /// The sentences.
    pub fn sentences(&self) -> &ClassSentences {
        &self.sentences
    }

    /// Pairs for an image of a size with masks: the positive ones by ascending class, then the negative ones in random order. The same
    /// image and seed give the same pairs. Fewer negatives come when there are not enough sentences of other genera.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] naming a mask that is not of the image's size.
    pub fn draw(&self, size: Size, masks: &[InstanceMask], seed: u64) -> Result<Vec<SentencePair>> {
        let mut rng = SeededRng::new(seed);
        let mut pairs = Vec::new();
        for class in self.sentences.classes() {
            let of_class = masks.iter().filter(|one| one.class.is_some_and(|own| self.is_a(own, class)));
            let mask = RleMask::union_of(size, of_class.map(|one| &one.mask))?;
            if mask.area() >= self.config.min_area.max(1) {
                let of_class = self.sentences.of(class);
                for at in rng.sample_indices(of_class.len(), self.config.sentences_per_class) {
                    pairs.push(SentencePair { sentence: of_class[at].clone(), class, mask: mask.clone() });
                }
            }
        }
        let wanted = match pairs.len() {
            0 => self.config.negatives_without_positives,
            positives => (positives as f64 * self.config.negatives_per_positive).round() as usize,
        };
        let absent = self.absent_sentences(masks);
        for at in rng.sample_indices(absent.len(), wanted) {
            let (class, sentence) = absent[at];
            pairs.push(SentencePair { sentence: sentence.clone(), class, mask: RleMask::empty(size) });
        }
        Ok(pairs)
    }

    /// Every sentence about a class whose genus the image cannot show.
    fn absent_sentences(&self, masks: &[InstanceMask]) -> Vec<(ClassId, &String)> {
        let visible = masks.iter().filter(|one| !one.mask.is_empty());
        let shown: HashSet<Option<ClassId>> =
            visible.map(|one| one.class.filter(|&class| class != UNLABELED)).collect();
        let may_show = |kin: ClassId| {
            shown.iter().any(|class| class.is_none_or(|class| self.is_a(class, kin) || self.is_a(kin, class)))
        };
        let absent = self.sentences.iter().filter(|&(class, _)| !may_show(self.kin(class)));
        absent.flat_map(|(class, sentences)| sentences.iter().map(move |sentence| (class, sentence))).collect()
    }

    /// Whether `class` is `broad` or lies below it.
    fn is_a(&self, class: ClassId, broad: ClassId) -> bool {
        class == broad || self.classes.ancestors(class).contains(&broad)
    }

    /// The class that many levels up, or the topmost.
    fn kin(&self, class: ClassId) -> ClassId {
        self.classes.ancestors(class).into_iter().take(self.config.kin_levels).next_back().unwrap_or(class)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Size = Size { width: 12, height: 4 };

    /// 0 background; 1 coral over the genera 2 and 3; species 4 and 5 of genus 2, species 6 of genus 3.
    fn classes() -> ClassSet {
        let names = ["background", "coral", "Acropora", "Porites", "A. palmata", "A. cervicornis", "P. lobata"];
        let mut classes = ClassSet::from_names(names).unwrap();
        for (id, parent) in [(2, 1), (3, 1), (4, 2), (5, 2), (6, 3)] {
            classes.set_parent(id, Some(parent)).unwrap();
        }
        classes
    }

    fn pairs(of: &[ClassId], config: SentencePairConfig) -> SentencePairs {
        let five = |class: ClassId| (class, (0..5).map(|at| format!("sentence {at} about {class}")).collect());
        let sentences = ClassSentences::new(of.iter().map(|&class| five(class))).unwrap();
        SentencePairs::new(classes(), sentences, config).unwrap()
    }

    /// Stripes of two columns, one for each class.
    fn image(of: &[Option<ClassId>]) -> Vec<InstanceMask> {
        let stripe = |(at, &class): (u32, _)| {
            let mask = RleMask::from_fn(SIZE, |x, _| x / 2 == at);
            InstanceMask { class, ..InstanceMask::new(mask) }
        };
        (0..).zip(of).map(stripe).collect()
    }

    /// The classes of the positive pairs with their areas, and those of many negative ones, each once.
    fn drawn(pairs: &SentencePairs, masks: &[InstanceMask]) -> (Vec<(ClassId, u64)>, Vec<ClassId>) {
        let all: Vec<_> = (0..40).flat_map(|seed| pairs.draw(SIZE, masks, seed).unwrap()).collect();
        let mut positive: Vec<_> =
            all.iter().filter(|one| one.is_positive()).map(|one| (one.class, one.mask.area())).collect();
        let mut negative: Vec<_> = all.iter().filter(|one| !one.is_positive()).map(|one| one.class).collect();
        positive.sort_unstable();
        positive.dedup();
        negative.sort_unstable();
        negative.dedup();
        (positive, negative)
    }

    #[test]
    fn positives_are_all_masks_of_the_class_and_negatives_of_another_genus() {
        let species = pairs(&[4, 5, 6], Default::default());
        assert_eq!(drawn(&species, &image(&[Some(4), Some(4), Some(0)])), (vec![(4, 16)], vec![6]));
        assert_eq!(drawn(&species, &image(&[Some(4), Some(6)])), (vec![(4, 8), (6, 8)], vec![]));
        assert_eq!(drawn(&species, &image(&[Some(0)])), (vec![], vec![4, 5, 6]));
        assert_eq!(drawn(&species, &image(&[])), (vec![], vec![4, 5, 6]));
        let near = pairs(&[4, 5, 6], SentencePairConfig { kin_levels: 0, ..Default::default() });
        assert_eq!(drawn(&near, &image(&[Some(4)])), (vec![(4, 8)], vec![5, 6]));
        let far = pairs(&[4, 5, 6], SentencePairConfig { kin_levels: 9, ..Default::default() });
        assert_eq!(drawn(&far, &image(&[Some(4)])), (vec![(4, 8)], vec![]));
    }

    #[test]
    fn sentences_hold_for_the_classes_below() {
        let mixed = pairs(&[2, 6], SentencePairConfig { kin_levels: 0, ..Default::default() });
        assert_eq!(drawn(&mixed, &image(&[Some(4), Some(5)])), (vec![(2, 16)], vec![6]));
    }

    #[test]
    fn what_an_object_might_be_is_no_negative() {
        let species = pairs(&[4, 5, 6], Default::default());
        assert_eq!(drawn(&species, &image(&[Some(2)])), (vec![], vec![6]));
        assert_eq!(drawn(&species, &image(&[Some(1)])), (vec![], vec![]));
        assert_eq!(drawn(&species, &image(&[Some(4), None])), (vec![(4, 8)], vec![]));
        let mut nothing = image(&[Some(4), None]);
        nothing[1].mask = RleMask::empty(SIZE);
        assert_eq!(drawn(&species, &nothing), (vec![(4, 8)], vec![6]));
    }

    #[test]
    fn numbers_are_those_asked_for() {
        let config = SentencePairConfig { sentences_per_class: 3, negatives_per_positive: 0.5, ..Default::default() };
        let (species, shows) = (pairs(&[4, 5, 6], config), image(&[Some(4)]));
        let one = species.draw(SIZE, &shows, 1).unwrap();
        assert_eq!(one.iter().map(SentencePair::is_positive).collect::<Vec<_>>(), [true, true, true, false, false]);
        let different: HashSet<_> = one.iter().map(|pair| &pair.sentence).collect();
        assert_eq!(different.len(), 5);
        assert_eq!(one, species.draw(SIZE, &shows, 1).unwrap());
        assert_ne!(one, species.draw(SIZE, &shows, 2).unwrap());
        let all = SentencePairConfig { sentences_per_class: 99, negatives_per_positive: 99.0, ..Default::default() };
        assert_eq!(pairs(&[4, 6], all).draw(SIZE, &shows, 1).unwrap().len(), 10);
    }

    #[test]
    fn small_masks_make_no_pair() {
        let with = |min_area| pairs(&[4, 5, 6], SentencePairConfig { min_area, ..Default::default() });
        assert_eq!(drawn(&with(8), &image(&[Some(4)])), (vec![(4, 8)], vec![6]));
        assert_eq!(drawn(&with(9), &image(&[Some(4)])), (vec![], vec![6]));
        assert_eq!(drawn(&with(9), &image(&[Some(4), Some(4), Some(6)])), (vec![(4, 16)], vec![]));
        assert_eq!(drawn(&with(0), &image(&[Some(6)])), (vec![(6, 8)], vec![4, 5]));
    }

    #[test]
    fn bad_input_is_named() {
        let of = |sentences, config| SentencePairs::new(classes(), sentences, config).unwrap_err().to_string();
        let some = ClassSentences::new([(9, vec!["a".to_owned()])]).unwrap();
        assert!(of(some.clone(), SentencePairConfig::default()).contains("unknown class `9`"));
        assert!(of(ClassSentences::default(), SentencePairConfig::default()).contains("at least one sentence"));
        for bad in [-1.0, f64::NAN, 1e9] {
            let config = SentencePairConfig { negatives_per_positive: bad, ..Default::default() };
            assert!(of(some.clone(), config).contains("`negatives_per_positive`: expected a number in 0..=1000"));
        }
        let other = Size { width: 3, height: 3 };
        assert!(matches!(
            pairs(&[4], Default::default()).draw(other, &image(&[Some(4)]), 0),
            Err(Error::ShapeMismatch { .. })
        ));
    }
}
