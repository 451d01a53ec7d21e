//! What CLIP does to a text before it is split into tokens.

use tokenizers::NormalizedString;

use super::entities::{unescape, unescape_marked};
use super::mojibake;

/// More repairs of one line than any text needs; references can be escaped any number of times.
const ROUNDS: usize = 32;

/// Repairs the text, replaces character references, collapses white space and writes everything in lower case.
pub(super) fn clean(text: &str) -> String {
    let text = unescape(&unescape(&repair(text)));
    text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase()
}

/// Undoes what programs do to texts, line by line, as the Python library `ftfy` does.
fn repair(text: &str) -> String {
    // A text with tags is taken for HTML, in which references are meant as they are.
    let mut html = false;
    let lines = text.split_inclusive('\n').map(|line| {
        html |= line.contains('<');
        repair_line(line, html)
    });
    lines.collect()
}

fn repair_line(line: &str, html: bool) -> String {
    let mut line = line.to_owned();
    for _ in 0..ROUNDS {
        let mut next = if html { line.clone() } else { unescape_marked(&line) };
        if !next.is_ascii() {
            next = mojibake::repair(&next);
            next = next.chars().flat_map(modern).collect();
        }
        next = without_controls(&without_terminal_escapes(&next));
        if !next.is_ascii() {
            next = NormalizedString::from(next).nfc().get().to_owned();
        }
        if next == line {
            break;
        }
        line = next;
    }
    line
}

/// A character in the form that people type, which may be several.
fn modern(character: char) -> Vec<char> {
    match character {
        '\u{80}'..='\u{9f}' => vec![mojibake::windows_1252(u32::from(character) as u8)],
        '\u{2018}'..='\u{201b}' | '\u{2bc}' => vec!['\''],
        '\u{201c}'..='\u{201f}' => vec!['"'],
        '\u{2028}' | '\u{2029}' => vec!['\n'],
        '\u{3000}' => vec![' '],
        'ﬅ' => vec!['ſ', 't'],
        // Ligatures and pairs of letters, then letters of another width.
        'Ĳ' | 'ĳ' | 'ŉ' | 'Ǆ'..='ǌ' | 'Ǳ'..='ǳ' | 'ﬀ'..='ﬆ' | '\u{ff01}'..='\u{ffef}' => {
            NormalizedString::from(character.to_string()).nfkc().get().chars().collect()
        }
        other => vec![other],
    }
}

/// Leaves out the codes by which terminals colour a text.
fn without_terminal_escapes(text: &str) -> String {
    const START: &str = "\u{1b}[";
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(START) {
        let after = rest[at + START.len()..].trim_start_matches(|c: char| c.is_ascii_digit() || c == ';');
        if after.starts_with(|c: char| c.is_ascii_alphabetic()) {
            out.push_str(&rest[..at]);
            rest = &after[1..];
        } else {
            out.push_str(&rest[..at + START.len()]);
            rest = &rest[at + START.len()..];
        }
    }
    out.push_str(rest);
    out
}

/// Line breaks of one kind, and no characters that show nothing.
fn without_controls(text: &str) -> String {
    let unix = text.replace("\r\n", "\n").replace('\r', "\n");
    let is_control = |c: char| {
        matches!(c, '\0'..='\u{8}' | '\u{b}' | '\u{e}'..='\u{1f}' | '\u{7f}'
            | '\u{206a}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffc}')
    };
    unix.replace(is_control, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cleaned() {
        for (text, expected) in [
            ("  A  Photo\tof\n\nSAND ", "a photo of sand"),
            ("&lt;b&gt;coral &amp;amp; algae&lt;/b&gt;", "<b>coral & algae</b>"),
            ("‘tabular’ “coral” it\u{2bc}s", "'tabular' \"coral\" it's"),
            ("ﬁsh, oﬃcial, Ĳssel, ﬅ", "fish, official, ijssel, ſt"),
            ("ＬＯＵＤ　ＲＥＥＦ ﾀ", "loud reef タ"),
            ("a\r\nb\rc\u{2028}d\u{0}e\u{feff}f", "a b c def"),
            ("\u{1b}[36;44mblue\u{1b}[0m \u{1b}[?", "blue [?"),
            ("cafe\u{301}", "café"),
            ("cafÃ© â€œreefâ€\u{9d}", "café \"reef\""),
            ("caf&EACUTE; &rsquo;", "café '"),
            ("<b> &rsquo; &EACUTE;", "<b> ’ &eacute;"),
            ("it\u{92}s 5\u{80}\u{85}", "it's 5€…"),
            ("ΟΔΟΣ", "οδος"),
            ("", ""),
            ("\u{a0}\u{3000} \n", ""),
        ] {
            assert_eq!(clean(text), expected, "{text:?}");
        }
    }

    #[test]
    fn escaping_many_times_ends() {
        let text = format!("&{}lt;", "amp;".repeat(5000));
        assert!(clean(&text).starts_with('&'));
    }
}
