//! UTF-8 that was read as windows-1252 or latin-1: `cafÃ©` for `café`.

/// What the bytes 0x80 to 0x9F are in windows-1252; those without character stay the control characters they are.
const HIGH: [char; 32] = [
    '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}', '\u{90}', '‘', '’',
    '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
];

/// The character of a byte above 0x7F in windows-1252.
pub(super) fn windows_1252(byte: u8) -> char {
    byte.checked_sub(0x80).and_then(|at| HIGH.get(usize::from(at))).copied().unwrap_or(char::from(byte))
}

/// The byte above 0x7F that a character stands for in windows-1252 or latin-1.
fn byte(character: char) -> Option<u8> {
    match u32::from(character) {
        code @ 0x80..=0xff => Some(code as u8),
        _ => HIGH.iter().position(|&c| c == character).map(|at| 0x80 + at as u8),
    }
}

/// Reads characters anew as UTF-8 where they would hardly be written on purpose: all of them where the whole text is
/// UTF-8 then, else one sequence after the other.
pub(super) fn repair(text: &str) -> String {
    let characters = text.chars().collect::<Vec<_>>();
    let mut out = String::with_capacity(text.len());
    let (mut at, mut repaired, mut unlikely) = (0, false, false);
    while at < characters.len() {
        // Where one sequence was misread, so was the next.
        let read = sequence(&characters, at).filter(|read| repaired || read.unlikely);
        repaired = read.is_some();
        unlikely |= repaired;
        out.push(read.as_ref().map_or(characters[at], |read| read.character));
        at += read.map_or(1, |read| read.length);
    }
    let whole = || {
        let bytes = characters.iter().map(|&c| u8::try_from(c).ok().filter(u8::is_ascii).or_else(|| byte(c)));
        String::from_utf8(bytes.collect::<Option<_>>()?).ok()
    };
    if unlikely { whole().unwrap_or(out) } else { out }
}

/// Characters that stand for the bytes of one.
struct Sequence {
    character: char,
    /// How many they are.
    length: usize,
    /// Whether they would hardly follow each other in a text.
    unlikely: bool,
}

/// The sequence that begins at a place of a text.
fn sequence(text: &[char], at: usize) -> Option<Sequence> {
    let length = match byte(*text.get(at)?)? {
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => return None,
    };
    let mut bytes = [0; 4];
    for (place, &character) in bytes.iter_mut().zip(text.get(at..at + length)?) {
        *place = byte(character)?;
    }
    let bytes = &bytes[..length];
    let character = std::str::from_utf8(bytes).ok()?.chars().next()?;
    let before = at.checked_sub(1).map_or(' ', |at| text[at]);
    let after = text.get(at + length).copied().unwrap_or(' ');
    Some(Sequence { character, length, unlikely: is_unlikely(bytes, before, after) })
}

/// Whether characters that stand for these bytes would hardly follow each other in a text.
fn is_unlikely(bytes: &[u8], before: char, after: char) -> bool {
    // Letters, dashes and the like that may well follow an accented letter.
    let harmless = |byte: u8| {
        matches!(byte, 0x85 | 0x8a | 0x8c | 0x8e | 0x92 | 0x96 | 0x97 | 0x9a | 0x9c | 0x9e..=0xa0 | 0xad | 0xb4 | 0xb7)
    };
    // Quotation marks and the like that may end a word.
    let closing = |byte: u8| {
        matches!(byte, 0x82 | 0x84 | 0x8b | 0x91 | 0x93..=0x95 | 0x98 | 0x99 | 0x9b)
            || matches!(byte, 0xa1 | 0xa9 | 0xab | 0xae | 0xbb | 0xbf)
    };
    let currency = |byte: u8| matches!(byte, 0x80 | 0xa2..=0xa5);
    match bytes {
        // Â, Ã, Î, Ð: the first bytes of accented letters, Greek and Cyrillic.
        [0xc2 | 0xc3 | 0xce | 0xd0, second] => !matches!(second, 0x85 | 0x8c | 0x8e | 0x92),
        [0xc4..=0xcf | 0xd1 | 0xd8 | 0xdc | 0xdd, second] => {
            let after_capitals = currency(*second) && !(before.is_ascii_lowercase() || before.is_whitespace());
            !harmless(*second) && !after_capitals && (after.is_alphanumeric() || !closing(*second))
        }
        [_, _] => false,
        // â€: quotation marks and dashes.
        [0xe2, 0x80 | 0x82 | 0x84, _] => true,
        [_, second, third] => [second, third].iter().any(|&&byte| !harmless(byte) && !closing(byte)),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a program makes of `text` that takes UTF-8 for windows-1252.
    fn misread(text: &str) -> String {
        text.bytes().map(|b| if b < 0x80 { char::from(b) } else { windows_1252(b) }).collect()
    }

    #[test]
    fn misread_texts_are_restored() {
        for text in [
            "café",
            "naïve reef",
            "à la carte",
            "l’été – “récif”…",
            "коралловый риф",
            "😀 fish",
            "5 µm × 3 m²",
            "日本",
            "Ångström Œuvre",
        ] {
            assert_eq!(repair(&misread(text)), text, "{}", misread(text));
            assert_eq!(repair(text), text, "left alone");
        }
        assert_eq!(repair("cafÃ© and café"), "café and café");
    }

    #[test]
    fn what_people_write_is_left_alone() {
        for text in [
            "“CAFÉ”",
            "« touché”… »",
            "NESTLÉ’S",
            "PRÉ£ 5",
            "É – È",
            "Ångström",
            "São Tomé",
            "CHÂTEAU",
            "20 °C ± 1",
            "Œuvre…",
        ] {
            assert_eq!(repair(text), text);
        }
    }
}
