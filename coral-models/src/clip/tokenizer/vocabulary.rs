use std::collections::HashMap;
use std::path::Path;

use coral_core::{Error, Result};

/// Marks the last token of a word.
pub(super) const WORD_END: &str = "</w>";
pub(super) const START: &str = "<|startoftext|>";
pub(super) const END: &str = "<|endoftext|>";

/// Merges that CLIP uses of those in OpenAI's file, which holds more: its 49,408 tokens are 512 bytes, these and the
/// two special ones.
const USED_MERGES: usize = 48_894;

/// The tokens of a byte-pair encoding and the merges that lead to them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Vocabulary {
    pub(super) ids: HashMap<String, u32>,
    /// The first is applied first.
    pub(super) merges: Vec<(String, String)>,
    pub(super) start: u32,
    pub(super) end: u32,
}

/// The printable character that stands for each byte.
pub(super) fn byte_characters() -> [char; 256] {
    let mut characters = ['\0'; 256];
    // Bytes that are printable characters stand for themselves, the others for the characters from U+0100 on.
    let mut others = '\u{100}'..;
    for (byte, character) in (0u8..=255).zip(&mut characters) {
        *character = if is_printable(byte) { char::from(byte) } else { others.next().unwrap_or_default() };
    }
    characters
}

fn is_printable(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff)
}

/// Reads one merge a line: two tokens with a space between, the first line being a title.
pub(super) fn parse_merges(text: &str, path: &Path) -> Result<Vec<(String, String)>> {
    let lines = text.lines().zip(1u64..).skip_while(|(line, number)| *number == 1 && line.contains("#version"));
    let lines = lines.filter(|(line, _)| !line.trim().is_empty()).take(USED_MERGES);
    let merges = lines.map(|(line, number)| {
        let mut parts = line.split_whitespace();
        match (parts.next(), parts.next(), parts.next()) {
            (Some(first), Some(second), None) => Ok((first.to_owned(), second.to_owned())),
            _ => {
                let shown = line.chars().take(40).collect::<String>();
                Err(Error::format(path, Some(number), format!("expected two tokens to merge, got `{shown}`")))
            }
        }
    });
    let merges = merges.collect::<Result<Vec<_>>>()?;
    if merges.is_empty() {
        return Err(Error::format(path, None, "holds no merges; expected CLIP's vocabulary"));
    }
    Ok(merges)
}

impl Vocabulary {
    /// Numbers the tokens as the original program does: bytes, bytes that end a word, merges, start, end.
    pub(super) fn from_merges(merges: Vec<(String, String)>, path: &Path) -> Result<Self> {
        let characters = byte_characters();
        let printable = (0u8..=255).filter(|&byte| is_printable(byte));
        let order = printable.chain((0..=255).filter(|&byte| !is_printable(byte)));
        let bytes = order.map(|byte| characters[usize::from(byte)].to_string()).collect::<Vec<_>>();
        let last = bytes.iter().map(|byte| format!("{byte}{WORD_END}")).collect::<Vec<_>>();
        let merged = merges.iter().map(|(first, second)| format!("{first}{second}"));
        let special = [START, END].map(str::to_owned);
        let tokens = bytes.iter().chain(&last).cloned().chain(merged).chain(special);
        Self::new(tokens.zip(0..).collect(), merges, path)
    }

    /// Checks that every text can be written in these tokens.
    pub(super) fn new(ids: HashMap<String, u32>, merges: Vec<(String, String)>, path: &Path) -> Result<Self> {
        let lacking = |token: &str| {
            Error::format(path, None, format!("the vocabulary lacks the token `{token}`; expected that of CLIP"))
        };
        for character in byte_characters() {
            for token in [character.to_string(), format!("{character}{WORD_END}")] {
                if !ids.contains_key(&token) {
                    return Err(lacking(&token));
                }
            }
        }
        let id = |token: &str| ids.get(token).copied().ok_or_else(|| lacking(token));
        for (first, second) in &merges {
            for token in [first, second, &format!("{first}{second}")] {
                id(token)?;
            }
        }
        let (start, end) = (id(START)?, id(END)?);
        // The network ends a text at the largest id.
        if ids.values().any(|&id| id > end) {
            return Err(Error::format(path, None, format!("expected `{END}` to have the largest id, {end} is not")));
        }
        Ok(Self { ids, merges, start, end })
    }
}
