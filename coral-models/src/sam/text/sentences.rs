use std::collections::BTreeMap;

use coral_core::{Error, Result, TextEncoder};

/// Sentences as a frozen text encoder sees them, each encoded once.
///
/// # Examples
/// ```
/// use coral_core::{Result, TextEncoder, ndarray::Array2};
/// use coral_models::SentenceEmbeddings;
/// /// Knows how long sentences are, and how many words they have.
/// struct Lengths;
/// impl TextEncoder for Lengths {
///     fn encode_texts(&self, texts: &[&str]) -> Result<Array2<f32>> {
///         let row = |i: usize| [texts[i].len(), texts[i].split(' ').count()];
///         Ok(Array2::from_shape_fn((texts.len(), 2), |(i, column)| row(i)[column] as f32))
///     }
/// }
/// let sentences = SentenceEmbeddings::new(&Lengths, ["a wide flat table", "a brain"])?;
/// assert_eq!(sentences.get("a brain")?, [7.0, 2.0]);
/// assert!(sentences.get("a wreck").is_err());
/// # Ok::<(), coral_core::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SentenceEmbeddings(BTreeMap<String, Vec<f32>>);

impl SentenceEmbeddings {
    /// Encodes the sentences.
    ///
    /// # Errors
    /// Those of the encoder; [`Error::ShapeMismatch`] when it gives another number of rows, [`Error::Model`] when a value is
    /// not finite.
    pub fn new<S: Into<String>>(encoder: &dyn TextEncoder, sentences: impl IntoIterator<Item = S>) -> Result<Self> {
        let mut sentences: Vec<String> = sentences.into_iter().map(Into::into).collect();
        sentences.sort();
        sentences.dedup();
        if sentences.is_empty() {
            return Ok(Self::default());
        }
        let texts: Vec<&str> = sentences.iter().map(String::as_str).collect();
        let rows = encoder.encode_texts(&texts)?;
        if rows.nrows() != texts.len() {
            let text = |count: usize| format!("{count} rows");
            return Err(Error::shape("the text encoder's embeddings", text(texts.len()), text(rows.nrows())));
        }
        if rows.iter().any(|value| !value.is_finite()) {
            return Err(Error::model("the text encoder gave values that are not finite"));
        }
        Ok(Self(sentences.into_iter().zip(rows.outer_iter().map(|row| row.to_vec())).collect()))
    }

    /// The embedding of a sentence.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when it was not encoded.
    pub fn get(&self, sentence: &str) -> Result<&[f32]> {
        let found = self.0.get(sentence).map(Vec::as_slice);
        found.ok_or_else(|| Error::input("sentence", format!("`{sentence}` was not encoded before")))
    }
}
