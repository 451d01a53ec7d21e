//! CLIP's tokenizer: from text to token ids.

mod clean;
mod entities;
mod files;
mod mojibake;
#[cfg(test)]
mod tests;
mod vocabulary;

use std::path::Path;

use coral_core::ndarray::Array2;
use coral_core::{Error, Result};
use tokenizers::models::bpe::BPE;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{Model, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer, SplitDelimiterBehavior};

use self::vocabulary::{END, START, Vocabulary, WORD_END, byte_characters};

/// What counts as a word: special tokens, English endings, letters, single digits, runs of other characters.
const WORDS: &str = r"(?i)<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+";

/// CLIP's byte-pair encoding.
///
/// Texts are cleaned as in the original program: repaired as the Python library `ftfy` does, freed of HTML's character
/// references twice, white space collapsed, in lower case. Of `ftfy`, texts that were read as anything else than latin-1 or
/// windows-1252 are not repaired, nor those that lost bytes; of HTML's names, those of HTML 4 and of ASCII are known.
///
/// # References
/// `clip.tokenize` of openai/CLIP; equal ids.
#[derive(Debug)]
pub struct ClipTokenizer {
    words: Split,
    model: BPE,
    bytes: [char; 256],
    start: u32,
    end: u32,
    truncate: bool,
}

impl ClipTokenizer {
    /// Reads the vocabulary from a user's file: a `tokenizer.json` or `vocab.json` with `merges.txt` beside it, as
    /// model hubs have them, OpenAI's `bpe_simple_vocab_16e6.txt` or `.txt.gz`, or a folder that holds one of these.
    ///
    /// # Errors
    /// [`Error::Io`] when a file cannot be read, [`Error::Format`] when it is damaged or not CLIP's.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let Vocabulary { ids, merges, start, end } = files::read(path.as_ref())?;
        let build = || {
            let pattern = SplitPattern::Regex(WORDS.to_owned());
            let words = Split::new(pattern, SplitDelimiterBehavior::Removed, true)?;
            let ids = ids.into_iter().collect::<tokenizers::models::bpe::Vocab>();
            let model = BPE::builder().vocab_and_merges(ids, merges).end_of_word_suffix(WORD_END.to_owned()).build()?;
            Ok(Self { words, model, bytes: byte_characters(), start, end, truncate: true })
        };
        build().map_err(|error: tokenizers::Error| Error::format(path, None, error.to_string()))
    }

    /// Whether longer texts lose their end, as they do at first, or are an error.
    #[must_use]
    pub fn with_truncation(self, truncate: bool) -> Self {
        Self { truncate, ..self }
    }

    /// The id that begins every text.
    pub fn start_id(&self) -> u32 {
        self.start
    }

    /// The id that ends every text, the largest of all.
    pub fn end_id(&self) -> u32 {
        self.end
    }

    /// How many ids there are.
    pub fn vocab_size(&self) -> usize {
        self.end as usize + 1
    }

    /// The ids of a text without start and end, as many as there are. The names of special tokens in the text become
    /// these.
    ///
    /// # Errors
    /// [`Error::Model`] when the tokenizer library fails.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        self.encode_clean(&clean::clean(text)).map_err(Error::model)
    }

    fn encode_clean(&self, text: &str) -> tokenizers::Result<Vec<u32>> {
        let mut words = PreTokenizedString::from(text);
        self.words.pre_tokenize(&mut words)?;
        let mut ids = Vec::new();
        for (word, ..) in words.get_splits(OffsetReferential::Original, OffsetType::None) {
            match word {
                START => ids.push(self.start),
                END => ids.push(self.end),
                word => {
                    let bytes = word.bytes().map(|byte| self.bytes[usize::from(byte)]).collect::<String>();
                    ids.extend(self.model.tokenize(&bytes)?.iter().map(|token| token.id));
                }
            }
        }
        Ok(ids)
    }

    /// N texts as N×`context_length` ids: start, text, end, zeros. Where a text is too long, the last id is the end.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] naming a text that is too long, unless texts are truncated;
    /// [`Error::InvalidParameter`] for a context of less than two tokens.
    pub fn tokenize(&self, texts: &[&str], context_length: usize) -> Result<Array2<u32>> {
        if context_length < 2 {
            let reason = format!("expected room for start and end, got {context_length}");
            return Err(Error::parameter("context_length", reason));
        }
        let mut rows = Array2::zeros((texts.len(), context_length));
        for (index, (text, mut row)) in texts.iter().zip(rows.outer_iter_mut()).enumerate() {
            let ids = self.encode(text)?;
            let room = context_length - 2;
            if ids.len() > room && !self.truncate {
                let reason = format!("{} tokens and start and end; expected {context_length} at most", ids.len());
                return Err(Error::input(format!("texts[{index}]"), reason));
            }
            let kept = &ids[..ids.len().min(room)];
            let all = [self.start].into_iter().chain(kept.iter().copied()).chain([self.end]);
            row.iter_mut().zip(all).for_each(|(place, id)| *place = id);
        }
        Ok(rows)
    }

    /// The text of some ids, with a space after every word; unknown ids are left out.
    pub fn decode(&self, ids: &[u32]) -> String {
        let tokens = ids.iter().filter_map(|&id| self.model.id_to_token(id)).collect::<String>();
        let mut bytes = Vec::with_capacity(tokens.len());
        for (index, word) in tokens.split(WORD_END).enumerate() {
            if index > 0 {
                bytes.push(b' ');
            }
            bytes.extend(word.chars().filter_map(|c| Some(self.bytes.iter().position(|&b| b == c)? as u8)));
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }
}
