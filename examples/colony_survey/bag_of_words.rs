use std::collections::{BTreeMap, BTreeSet};

use coral_core::ndarray::Array2;
use coral_core::{Result, TextEncoder};

/// Stands in for CLIP's text encoder where no checkpoint is at hand: a sentence is the words in it, scaled to length 1. It knows
/// no language, and no word but those of the sentences that it was made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BagOfWords {
    places: BTreeMap<String, usize>,
}

impl BagOfWords {
    /// Knows the words of these sentences.
    pub fn new<'a>(sentences: impl IntoIterator<Item = &'a str>) -> Self {
        let words: BTreeSet<String> = sentences.into_iter().flat_map(words).collect();
        Self { places: words.into_iter().zip(0..).collect() }
    }

    /// Values of an embedding.
    pub fn dim(&self) -> usize {
        self.places.len()
    }
}

fn words(sentence: &str) -> impl Iterator<Item = String> + '_ {
    sentence.split(|letter: char| !letter.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_lowercase)
}

impl TextEncoder for BagOfWords {
    fn encode_texts(&self, texts: &[&str]) -> Result<Array2<f32>> {
        let mut rows = Array2::<f32>::zeros((texts.len(), self.dim()));
        for (mut row, text) in rows.rows_mut().into_iter().zip(texts) {
            words(text).filter_map(|word| self.places.get(&word)).for_each(|&at| row[at] = 1.0);
            let length = f32::sqrt(row.sum());
            row.mapv_inplace(|value| if length > 0.0 { value / length } else { 0.0 });
        }
        Ok(rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_are_their_words() {
        let bag = BagOfWords::new(["a brain coral", "A wide table, flat"]);
        assert_eq!(bag.dim(), 6);
        let rows = bag.encode_texts(&["flat brain", "FLAT, flat brain!", "an elephant"]).unwrap();
        assert_eq!(rows.row(0), rows.row(1));
        assert!((rows.row(0).dot(&rows.row(0)) - 1.0).abs() < 1e-6);
        assert_eq!(rows.row(2).sum(), 0.0);
    }
}
