use std::collections::{BTreeMap, HashSet};

use crate::{ClassId, ClassSet, Error, Result, RleMask, UNLABELED};

/// Sentences that describe classes, several for each: what a segmenter learns to follow.
///
/// # Examples
/// ```
/// use coral_core::ClassSentences;
/// let sentences = ClassSentences::new([
///     (4, vec!["a thicket of thin branches".to_owned(), "a coral like antlers".to_owned()]),
///     (7, vec!["a coral like a brain".to_owned()]),
/// ])?;
/// assert_eq!(sentences.of(4)[1], "a coral like antlers");
/// assert!(sentences.of(5).is_empty());
/// assert_eq!(sentences.classes().collect::<Vec<_>>(), [4, 7]);
/// assert_eq!(sentences.len(), 3);
/// # Ok::<(), coral_core::Error>(())
/// ```
///
/// # References
/// Zheng et al., *CoralSCOP: Segment any COral Image on this Planet*, CVPR 2024: five sentences a species.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClassSentences {
    sentences: BTreeMap<ClassId, Vec<String>>,
}

impl ClassSentences {
    /// The sentences of each class. Blanks around and between words count as one.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] naming the class when it is [`UNLABELED`], occurs twice or has no sentence, or when a
    /// sentence is empty or occurs twice, whatever its case.
    pub fn new(sentences: impl IntoIterator<Item = (ClassId, Vec<String>)>) -> Result<Self> {
        let mut checked = Self::default();
        let mut seen = HashSet::new();
        for (class, sentences) in sentences {
            let fail = |reason: String| Err(Error::input("sentences", format!("class {class} {reason}")));
            if class == UNLABELED {
                return fail("means unlabelled".into());
            }
            if sentences.is_empty() {
                return fail("has no sentence".into());
            }
            let mut plain = Vec::with_capacity(sentences.len());
            for sentence in sentences {
                let one = sentence.split_whitespace().collect::<Vec<_>>().join(" ");
                if one.is_empty() {
                    return fail("has an empty sentence".into());
                }
                // One sentence cannot tell two classes apart; text encoders do not see case.
                if !seen.insert(one.to_lowercase()) {
                    return fail(format!("has the sentence `{one}`, which occurs twice"));
                }
                plain.push(one);
            }
            if checked.sentences.insert(class, plain).is_some() {
                return fail("occurs twice".into());
            }
        }
        Ok(checked)
    }

    /// The sentences of a class; empty when it has none.
    pub fn of(&self, class: ClassId) -> &[String] {
        self.sentences.get(&class).map_or(&[], Vec::as_slice)
    }

    /// The classes that have sentences, by ascending id.
    pub fn classes(&self) -> impl Iterator<Item = ClassId> + '_ {
        self.sentences.keys().copied()
    }

    /// Every class with its sentences, by ascending id.
    pub fn iter(&self) -> impl Iterator<Item = (ClassId, &[String])> {
        self.sentences.iter().map(|(&class, sentences)| (class, sentences.as_slice()))
    }

    /// How many sentences there are.
    pub fn len(&self) -> usize {
        self.sentences.values().map(Vec::len).sum()
    }

    /// Whether no class has a sentence.
    pub fn is_empty(&self) -> bool {
        self.sentences.is_empty()
    }

    /// Checks that every class with sentences is in `classes`.
    ///
    /// # Errors
    /// [`Error::UnknownClass`] naming the first that is not.
    pub fn expect_known(&self, classes: &ClassSet) -> Result<()> {
        match self.classes().find(|&class| classes.get(class).is_none()) {
            Some(class) => Err(Error::UnknownClass {
                class: class.to_string(),
                expected: format!("sentences about the {} classes of the set", classes.len()),
            }),
            None => Ok(()),
        }
    }
}

/// A sentence and the pixels of an image that it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentencePair {
    /// The sentence.
    pub sentence: String,
    /// The class that it describes.
    pub class: ClassId,
    /// All objects of that class, of the image's size; empty when the image shows none: a negative pair.
    pub mask: RleMask,
}

impl SentencePair {
    /// Whether the image shows what the sentence says.
    pub fn is_positive(&self) -> bool {
        !self.mask.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(sentences: &[&str]) -> Vec<String> {
        sentences.iter().map(|&sentence| sentence.to_owned()).collect()
    }

    #[test]
    fn bad_sentences_are_named() {
        for (groups, expected) in [
            (vec![(255, texts(&["a"]))], "class 255 means unlabelled"),
            (vec![(3, vec![])], "class 3 has no sentence"),
            (vec![(3, texts(&["a", " \n"]))], "class 3 has an empty sentence"),
            (vec![(3, texts(&["a b"])), (4, texts(&["A  B"]))], "class 4 has the sentence `A B`, which occurs twice"),
            (vec![(3, texts(&["a"])), (3, texts(&["b"]))], "class 3 occurs twice"),
        ] {
            let error = ClassSentences::new(groups).unwrap_err().to_string();
            assert_eq!(error, format!("invalid input `sentences`: {expected}"));
        }
        assert!(ClassSentences::new([]).unwrap().is_empty());
    }

    #[test]
    fn blanks_are_made_one() {
        let sentences = ClassSentences::new([(0, texts(&["  flat\tand \n round "]))]).unwrap();
        assert_eq!(sentences.of(0), ["flat and round"]);
        assert_eq!(sentences.iter().collect::<Vec<_>>(), [(0, &["flat and round".to_owned()][..])]);
    }

    #[test]
    fn classes_are_checked_against_a_set() {
        let sentences = ClassSentences::new([(0, texts(&["a"])), (2, texts(&["b"]))]).unwrap();
        let set = |count: usize| ClassSet::from_names((0..count).map(|id| id.to_string())).unwrap();
        assert!(sentences.expect_known(&set(3)).is_ok());
        let error = sentences.expect_known(&set(2)).unwrap_err().to_string();
        assert_eq!(error, "unknown class `2`: expected sentences about the 2 classes of the set");
    }
}
