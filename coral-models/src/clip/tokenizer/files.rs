//! The files that hold CLIP's vocabulary.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use coral_core::{Error, Result};
use flate2::read::GzDecoder;
use serde_json::Value;

use super::vocabulary::{Vocabulary, WORD_END, parse_merges};

/// What a folder may hold, the preferred first.
const FOLDER_FILES: [&str; 4] =
    ["tokenizer.json", "merges.txt", "bpe_simple_vocab_16e6.txt.gz", "bpe_simple_vocab_16e6.txt"];
/// Largest file, unpacked; the published ones have 4 MB at most.
const LARGEST: u64 = 64 << 20;

/// Reads a vocabulary from a file or a folder.
pub(super) fn read(path: &Path) -> Result<Vocabulary> {
    if path.is_dir() {
        let found = FOLDER_FILES.iter().map(|name| path.join(name)).find(|file| file.exists());
        let file = found.ok_or_else(|| {
            let reason = format!("the folder holds no vocabulary of CLIP; expected {}", FOLDER_FILES.join(" or "));
            Error::format(path, None, reason)
        })?;
        return read(&file);
    }
    let name = path.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
    if name == "vocab.json" {
        return of_pair(path, &path.with_file_name("merges.txt"));
    }
    let text = read_text(path)?;
    if text.trim_start().starts_with('{') {
        return of_tokenizer_json(&text, path);
    }
    let vocabulary = path.with_file_name("vocab.json");
    if name == "merges.txt" && vocabulary.exists() {
        return of_pair(&vocabulary, path);
    }
    Vocabulary::from_merges(parse_merges(&text, path)?, path)
}

/// `vocab.json` with the ids and `merges.txt`.
fn of_pair(vocabulary: &Path, merges: &Path) -> Result<Vocabulary> {
    let merges = parse_merges(&read_text(merges)?, merges)?;
    let json = parse_json(&read_text(vocabulary)?, vocabulary)?;
    Vocabulary::new(ids(&json, vocabulary)?, merges, vocabulary)
}

fn of_tokenizer_json(text: &str, path: &Path) -> Result<Vocabulary> {
    let json = parse_json(text, path)?;
    let malformed = |reason: &str| Error::format(path, None, reason);
    let model = json.get("model").ok_or_else(|| malformed("holds no `model`; expected a tokenizer.json of CLIP"))?;
    let suffix = model.get("end_of_word_suffix").and_then(Value::as_str);
    if model.get("type").is_some_and(|kind| kind != "BPE") || suffix != Some(WORD_END) {
        return Err(malformed("is no byte-pair encoding with `</w>` at the end of words; expected CLIP's tokenizer"));
    }
    let merge = |value: &Value| {
        let pair = match value {
            Value::String(pair) => pair.split_once(' ').map(|(first, second)| (first.to_owned(), second.to_owned())),
            pair => serde_json::from_value::<(String, String)>(pair.clone()).ok(),
        };
        pair.ok_or_else(|| malformed(&format!("expected a pair of tokens in `merges`, got {value}")))
    };
    let merges = model.get("merges").and_then(Value::as_array).ok_or_else(|| malformed("`model` holds no `merges`"))?;
    let merges = merges.iter().map(merge).collect::<Result<Vec<_>>>()?;
    let vocabulary = model.get("vocab").ok_or_else(|| malformed("`model` holds no `vocab`"))?;
    let mut ids = ids(vocabulary, path)?;
    for token in json.get("added_tokens").and_then(Value::as_array).into_iter().flatten() {
        if let (Some(content), Some(id)) =
            (token["content"].as_str(), token["id"].as_u64().and_then(|id| id.try_into().ok()))
        {
            ids.insert(content.to_owned(), id);
        }
    }
    Vocabulary::new(ids, merges, path)
}

fn ids(json: &Value, path: &Path) -> Result<HashMap<String, u32>> {
    let malformed = |reason: String| Error::format(path, None, reason);
    let map = json.as_object().ok_or_else(|| malformed("expected an object of tokens and ids".to_owned()))?;
    let id = |(token, id): (&String, &Value)| {
        let number = id.as_u64().and_then(|id| u32::try_from(id).ok());
        Ok((token.clone(), number.ok_or_else(|| malformed(format!("token `{token}`: expected an id, got {id}")))?))
    };
    map.iter().map(id).collect()
}

fn parse_json(text: &str, path: &Path) -> Result<Value> {
    serde_json::from_str(text).map_err(|error| Error::format(path, Some(error.line() as u64), error.to_string()))
}

/// A text file, packed by gzip or not.
fn read_text(path: &Path) -> Result<String> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => {
            let hint = "expected CLIP's vocabulary: tokenizer.json, vocab.json with merges.txt, or \
                        bpe_simple_vocab_16e6.txt.gz";
            Error::io(path, io::Error::new(source.kind(), format!("{source}; {hint}")))
        }
        _ => Error::io(path, source),
    };
    let bytes = read_limited(File::open(path).map_err(failed)?).map_err(failed)?;
    let bytes = if bytes.starts_with(b"\x1f\x8b") {
        read_limited(GzDecoder::new(&bytes[..]))
            .map_err(|error| Error::format(path, None, format!("truncated or damaged gzip file: {error}")))?
    } else {
        bytes
    };
    if bytes.len() as u64 > LARGEST {
        return Err(Error::format(path, None, format!("larger than {LARGEST} bytes; expected CLIP's vocabulary")));
    }
    String::from_utf8(bytes).map_err(|_| Error::format(path, None, "is no text; expected CLIP's vocabulary"))
}

/// One byte more than the limit at most.
fn read_limited(source: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.take(LARGEST + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}
