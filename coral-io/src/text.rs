//! Reading of text tables: encodings, delimiters, line numbers.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use coral_core::{Error, Result};

/// One line of a table, with blanks around the fields removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    /// Where it stands in the file, from 1.
    pub(crate) line: u64,
    pub(crate) fields: Vec<String>,
}

impl Row {
    /// Field `column`, or an error that says how many there are.
    pub(crate) fn field(&self, path: &Path, column: usize) -> Result<&str> {
        self.fields.get(column).map(String::as_str).ok_or_else(|| {
            let reason = format!("expected at least {} fields, found {}", column + 1, self.fields.len());
            Error::format(path, Some(self.line), reason)
        })
    }

    pub(crate) fn is_blank(&self) -> bool {
        self.fields.iter().all(String::is_empty)
    }
}

/// Opens a file, not a folder.
pub(crate) fn open(path: &Path) -> Result<BufReader<File>> {
    let file = File::open(path).map_err(|source| Error::io(path, source))?;
    let is_folder = file.metadata().map_err(|source| Error::io(path, source))?.is_dir();
    if is_folder {
        return Err(Error::io(path, std::io::Error::other("is a folder, expected a file")));
    }
    Ok(BufReader::new(file))
}

/// Reads a whole file.
pub(crate) fn read_bytes(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.read_to_end(&mut bytes).map_err(|source| Error::io(path, source))?;
    Ok(bytes)
}

/// The text of a UTF-8 file without its byte order mark.
///
/// # Errors
/// [`Error::Format`] naming the line of the first byte that is not UTF-8.
pub(crate) fn decode_utf8<'a>(path: &Path, bytes: &'a [u8]) -> Result<&'a str> {
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(Error::format(path, Some(1), "the text is UTF-16: save it as UTF-8"));
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    std::str::from_utf8(bytes).map_err(|error| {
        let at = error.valid_up_to();
        let line = 1 + newlines(&bytes[..at]);
        Error::format(path, Some(line), format!("the text is not UTF-8 (byte {:#04x}): save it as UTF-8", bytes[at]))
    })
}

/// The text of a file by a Windows program of the nineties: UTF-8 when it is, else Windows-1252.
pub(crate) fn decode_windows(bytes: &[u8]) -> String {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().map(|&byte| windows_1252(byte)).collect(),
    }
}

fn windows_1252(byte: u8) -> char {
    // Only 0x80–0x9f differ from Latin-1; the five unused codes stay control characters.
    const UPPER: [char; 32] = [
        '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}', '\u{90}', '‘',
        '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
    ];
    match byte {
        0x80..=0x9f => UPPER[usize::from(byte - 0x80)],
        _ => char::from(byte),
    }
}

/// The first byte of a text that is neither blank nor part of a byte order mark.
pub(crate) fn first_byte(bytes: &[u8]) -> Option<u8> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    bytes.iter().copied().find(|byte| !byte.is_ascii_whitespace())
}

fn newlines(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|&&byte| byte == b'\n').count() as u64
}

/// The rows of a CSV text whose fields are separated by `,`, `;` or tabs, without blank lines.
pub(crate) fn parse_rows(path: &Path, text: &str) -> Result<Vec<Row>> {
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .delimiter(delimiter(text))
        .trim(csv::Trim::All)
        .from_reader(text.as_bytes());
    let mut rows = Vec::new();
    let (mut line, mut counted) = (1, 0);
    let mut record = csv::StringRecord::new();
    loop {
        // The reader's own line numbers do not count the blank lines that it skips.
        let start = reader.position().byte() as usize;
        let start = start + text.as_bytes()[start..].iter().take_while(|byte| matches!(byte, b'\n' | b'\r')).count();
        line += newlines(&text.as_bytes()[counted..start]);
        counted = start;
        let more = reader.read_record(&mut record);
        if !more.map_err(|error| Error::format(path, Some(line), format!("not a CSV line: {error}")))? {
            return Ok(rows);
        }
        let end = reader.position().byte() as usize;
        if is_cut_in_quotes(&text.as_bytes()[start..end]) {
            return Err(Error::format(
                path,
                Some(line),
                "a quote opens here and is not closed: expected a second `\"`",
            ));
        }
        let row = Row { line, fields: record.iter().map(str::to_owned).collect() };
        if !row.is_blank() {
            rows.push(row);
        }
    }
}

/// Whether a record runs over several lines because a quote in it is never closed: it has swallowed
/// the records after it.
fn is_cut_in_quotes(record: &[u8]) -> bool {
    let quotes = record.iter().filter(|&&byte| byte == b'"').count();
    quotes % 2 == 1 && newlines(record.trim_ascii_end()) > 0
}

/// The separator that stands most often outside quotes in the first line that is not blank.
fn delimiter(text: &str) -> u8 {
    let line = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let mut counts = [(b',', 0), (b';', 0), (b'\t', 0)];
    let mut quoted = false;
    for byte in line.bytes() {
        quoted ^= byte == b'"';
        if let Some((_, count)) = counts.iter_mut().find(|(separator, _)| *separator == byte && !quoted) {
            *count += 1;
        }
    }
    // The first of equals wins, so that a file without any separator has commas.
    counts.into_iter().rev().max_by_key(|(_, count)| *count).map_or(b',', |(separator, _)| separator)
}

/// A header's name for comparison: lower case, letters and digits only.
pub(crate) fn plain_name(header: &str) -> String {
    header.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// The first of `aliases` (in their order) that a header names, as a column number.
pub(crate) fn find_column(header: &[String], aliases: &[&str]) -> Option<usize> {
    aliases.iter().find_map(|alias| header.iter().position(|name| plain_name(name) == *alias))
}

/// The reason that an error of coral-core gives, for putting a file and line before it.
pub(crate) fn reason_of(error: Error) -> String {
    match error {
        Error::InvalidInput { reason, .. } | Error::InvalidParameter { reason, .. } => reason,
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_counted_through_blank_lines_and_quotes() {
        let text = "\r\na,b\r\n\r\n\n\"two\nlines\" ,1\n,\nx,y\n";
        let rows = parse_rows(Path::new("t.csv"), text).unwrap();
        let lines: Vec<_> = rows.iter().map(|row| (row.line, row.fields[0].as_str())).collect();
        assert_eq!(lines[0], (2, "a"));
        assert_eq!(lines[1].0, 5);
        assert_eq!(lines[2], (8, "x"));
    }

    #[test]
    fn a_quote_that_is_never_closed_swallows_nothing() {
        let lines = |text: &str| parse_rows(Path::new("t.csv"), text).map(|rows| rows.len());
        for (text, line) in [("a,b\n1,\"x\n2,y\n", 2), ("a\n\n\"x\n2\n\"y\"\n3\n", 3), ("\"x\r\n\r\ny", 1)] {
            let error = lines(text).unwrap_err().to_string();
            assert_eq!(error, format!("t.csv:{line}: a quote opens here and is not closed: expected a second `\"`"));
        }
        // An inch sign, a quote at the end of the text and a text over two lines do no harm.
        for text in ["1,5\" pipe\n2,y\n", "1,y\n2,\"y\n", "1,\"two\nlines\"\n2,y\n", "1,\"a\"\"b\"\n2,y"] {
            assert_eq!(lines(text).unwrap(), 2, "{text}");
        }
    }

    #[test]
    fn the_separator_is_told() {
        for (text, expected) in [("", b','), ("a", b','), ("a;b,c;d", b';'), ("a\tb", b'\t'), ("\"a;b;c\",d", b',')] {
            assert_eq!(delimiter(text), expected, "{text}");
        }
    }

    #[test]
    fn encodings() {
        let path = Path::new("t.csv");
        assert_eq!(decode_utf8(path, b"\xef\xbb\xbfa").unwrap(), "a");
        let error = decode_utf8(path, b"a\nb\ncaf\xe9\n").unwrap_err().to_string();
        assert_eq!(error, "t.csv:3: the text is not UTF-8 (byte 0xe9): save it as UTF-8");
        assert!(decode_utf8(path, b"\xff\xfea\0").unwrap_err().to_string().contains("UTF-16"));
        assert_eq!(decode_windows(b"caf\xe9 \x80 \x9f"), "café € Ÿ");
        assert_eq!(decode_windows("café".as_bytes()), "café");
    }
}
