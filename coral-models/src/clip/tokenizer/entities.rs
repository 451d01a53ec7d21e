//! Character references of HTML: `&amp;`, `&#8217;`.

use std::collections::HashMap;
use std::sync::LazyLock;

/// Where a run of characters begins, and the names of the characters of the run: those of HTML 4, and HTML 5's for
/// ASCII.
const NAMES: [(u32, &str); 76] = [
    (0x09, "Tab NewLine"),
    (0x21, "excl quot num dollar percnt amp apos lpar rpar ast plus comma"),
    (0x2e, "period sol"),
    (0x3a, "colon semi lt equals gt quest commat"),
    (0x5b, "lsqb bsol rsqb Hat lowbar grave"),
    (0x7b, "lbrace vert rbrace"),
    (LATIN, "nbsp iexcl cent pound curren yen brvbar sect uml copy ordf laquo not shy reg macr"),
    (0xb0, "deg plusmn sup2 sup3 acute micro para middot cedil sup1 ordm raquo frac14 frac12 frac34 iquest"),
    (0xc0, "Agrave Aacute Acirc Atilde Auml Aring AElig Ccedil Egrave Eacute Ecirc Euml Igrave Iacute Icirc Iuml"),
    (0xd0, "ETH Ntilde Ograve Oacute Ocirc Otilde Ouml times Oslash Ugrave Uacute Ucirc Uuml Yacute THORN szlig"),
    (0xe0, "agrave aacute acirc atilde auml aring aelig ccedil egrave eacute ecirc euml igrave iacute icirc iuml"),
    (0xf0, "eth ntilde ograve oacute ocirc otilde ouml divide oslash ugrave uacute ucirc uuml yacute thorn yuml"),
    (0x152, "OElig oelig"),
    (0x160, "Scaron scaron"),
    (0x178, "Yuml"),
    (0x192, "fnof"),
    (0x2c6, "circ"),
    (0x2dc, "tilde"),
    (0x391, "Alpha Beta Gamma Delta Epsilon Zeta Eta Theta Iota Kappa Lambda Mu Nu Xi Omicron Pi Rho"),
    (0x3a3, "Sigma Tau Upsilon Phi Chi Psi Omega"),
    (0x3b1, "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi omicron pi rho"),
    (0x3c2, "sigmaf sigma tau upsilon phi chi psi omega"),
    (0x3d1, "thetasym upsih"),
    (0x3d6, "piv"),
    (0x2002, "ensp emsp"),
    (0x2009, "thinsp"),
    (0x200c, "zwnj zwj lrm rlm"),
    (0x2013, "ndash mdash"),
    (0x2018, "lsquo rsquo sbquo"),
    (0x201c, "ldquo rdquo bdquo"),
    (0x2020, "dagger Dagger bull"),
    (0x2026, "hellip"),
    (0x2030, "permil"),
    (0x2032, "prime Prime"),
    (0x2039, "lsaquo rsaquo"),
    (0x203e, "oline"),
    (0x2044, "frasl"),
    (0x20ac, "euro"),
    (0x2111, "image"),
    (0x2118, "weierp"),
    (0x211c, "real"),
    (0x2122, "trade"),
    (0x2135, "alefsym"),
    (0x2190, "larr uarr rarr darr harr"),
    (0x21b5, "crarr"),
    (0x21d0, "lArr uArr rArr dArr hArr"),
    (0x2200, "forall"),
    (0x2202, "part exist"),
    (0x2205, "empty"),
    (0x2207, "nabla isin notin"),
    (0x220b, "ni"),
    (0x220f, "prod"),
    (0x2211, "sum minus"),
    (0x2217, "lowast"),
    (0x221a, "radic"),
    (0x221d, "prop infin"),
    (0x2220, "ang"),
    (0x2227, "and or cap cup int"),
    (0x2234, "there4"),
    (0x223c, "sim"),
    (0x2245, "cong"),
    (0x2248, "asymp"),
    (0x2260, "ne equiv"),
    (0x2264, "le ge"),
    (0x2282, "sub sup nsub"),
    (0x2286, "sube supe"),
    (0x2295, "oplus"),
    (0x2297, "otimes"),
    (0x22a5, "perp"),
    (0x22c5, "sdot"),
    (0x2308, "lceil rceil lfloor rfloor"),
    (0x25ca, "loz"),
    (0x2660, "spades"),
    (0x2663, "clubs"),
    (0x2665, "hearts diams"),
    (0x27e8, "lang rang"),
];

/// The first of the characters whose names also count without semicolon, up to U+00FF.
const LATIN: u32 = 0xa0;
/// Older names in capitals, which count without semicolon too.
const CAPITALS: [(&str, char); 6] =
    [("AMP", '&'), ("LT", '<'), ("GT", '>'), ("QUOT", '"'), ("COPY", '©'), ("REG", '®')];

static CHARACTERS: LazyLock<HashMap<&str, char>> = LazyLock::new(|| {
    let runs = NAMES.iter().flat_map(|(first, names)| (*first..).zip(names.split(' ')));
    let named = runs.filter_map(|(code, name)| Some((name, char::from_u32(code)?)));
    named.chain(CAPITALS).collect()
});

/// The character of a name that may stand without semicolon.
fn without_semicolon(name: &str) -> Option<char> {
    let character = *CHARACTERS.get(name)?;
    let old = matches!(name, "amp" | "lt" | "gt" | "quot") || CAPITALS.iter().any(|(capital, _)| *capital == name);
    (old || (LATIN..=0xff).contains(&u32::from(character))).then_some(character)
}

/// Replaces references as Python's `html.unescape` does, also those without semicolon.
pub(super) fn unescape(text: &str) -> String {
    replace(text, |reference| {
        if let Some(number) = reference.strip_prefix('#') {
            return numeric(number);
        }
        let end = reference.char_indices().take_while(|(_, c)| !"\t\n\u{c} <&#;".contains(*c)).take(32).last();
        let name = &reference[..end.map_or(0, |(at, c)| at + c.len_utf8())];
        if reference[name.len()..].starts_with(';')
            && let Some(&character) = CHARACTERS.get(name)
        {
            return Some((character.to_string(), name.len() + 1));
        }
        // The longest beginning that is a name by itself.
        let beginnings = name.char_indices().map(|(at, c)| &name[..at + c.len_utf8()]).rev();
        beginnings
            .filter(|name| name.len() > 1)
            .find_map(|name| Some((without_semicolon(name)?.to_string(), name.len())))
    })
}

/// Replaces references that end in a semicolon, and names written in capitals: `&EACUTE;`.
pub(super) fn unescape_marked(text: &str) -> String {
    replace(text, |reference| {
        // No further than the longest name: a text may hold any number of ampersands.
        let end = reference.bytes().take(33).position(|byte| byte == b';')?;
        let (inner, taken) = (&reference[..end], end + 1);
        if let Some(number) = inner.strip_prefix('#') {
            let (character, read) = numeric(&format!("{number};"))?;
            return (read == taken).then_some((character, taken));
        }
        if let Some(character) = CHARACTERS.get(inner) {
            return Some((character.to_string(), taken));
        }
        let lower = inner.to_ascii_lowercase();
        let capital = inner.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit());
        let character = CHARACTERS.get(lower.as_str()).filter(|_| capital && lower != inner)?;
        Some((character.to_uppercase().collect(), taken))
    })
}

/// Replaces what follows an ampersand where `reference` gives a text and how many bytes it stands for.
fn replace(text: &str, reference: impl Fn(&str) -> Option<(String, usize)>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        match reference(after) {
            Some((replacement, taken)) => {
                out.push_str(&replacement);
                rest = &after[taken..];
            }
            None => {
                out.push('&');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

/// The character of `8217;` or `x2019;`, and how many bytes that is with the `#` before it.
fn numeric(text: &str) -> Option<(String, usize)> {
    let (digits, radix) = text.strip_prefix(['x', 'X']).map_or((text, 10), |hex| (hex, 16));
    let length = digits.find(|c: char| !c.is_digit(radix)).unwrap_or(digits.len());
    if length == 0 {
        return None;
    }
    let semicolon = usize::from(digits[length..].starts_with(';'));
    // Beyond every character when there are too many digits.
    let code = u32::from_str_radix(&digits[..length], radix).unwrap_or(u32::MAX);
    Some((character_of(code), 1 + text.len() - digits.len() + length + semicolon))
}

fn character_of(code: u32) -> String {
    let replaced = match code {
        0 => '\u{fffd}',
        0x0d => '\r',
        0x80..=0x9f => super::mojibake::windows_1252(code as u8),
        // Control characters and those that are none.
        0x01..=0x08 | 0x0b | 0x0e..=0x1f | 0x7f | 0xfdd0..=0xfdef => return String::new(),
        code if code & 0xfffe == 0xfffe && code <= 0x10_ffff => return String::new(),
        code => char::from_u32(code).unwrap_or('\u{fffd}'),
    };
    replaced.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_names_end_where_they_should() {
        for (name, character) in [
            ("quot", '"'),
            ("amp", '&'),
            ("apos", '\''),
            ("lt", '<'),
            ("gt", '>'),
            ("commat", '@'),
            ("macr", '¯'),
            ("iquest", '¿'),
            ("Iuml", 'Ï'),
            ("szlig", 'ß'),
            ("iuml", 'ï'),
            ("yuml", 'ÿ'),
            ("Rho", 'Ρ'),
            ("Omega", 'Ω'),
            ("rho", 'ρ'),
            ("omega", 'ω'),
            ("rlm", '\u{200f}'),
            ("bull", '•'),
            ("harr", '↔'),
            ("int", '∫'),
            ("rfloor", '⌋'),
            ("diams", '♦'),
            ("rbrace", '}'),
            ("grave", '`'),
            ("NewLine", '\n'),
        ] {
            assert_eq!(CHARACTERS[name], character, "{name}");
        }
    }

    #[test]
    fn references_are_read_as_python_reads_them() {
        for (text, expected) in [
            ("&lt;b&gt; &amp;amp; &AMP", "<b> &amp; &"),
            ("caf&eacute; caf&eacutes &hellip; &hellip", "café cafés … &hellip"),
            ("&#8217;&#x2019;&#X2019 &#39;&#39", "’’’ ''"),
            ("&#150;&#0;&#1;&#xd800;&#99999999999;&#xfffe;", "–\u{fffd}\u{fffd}\u{fffd}"),
            ("&notit; &notin; & &; &# &#x; &unknown; &é", "¬it; ∉ & &; &# &#x; &unknown; &é"),
        ] {
            assert_eq!(unescape(text), expected, "{text}");
        }
    }

    #[test]
    fn marked_references_need_their_semicolon() {
        for (text, expected) in [
            ("&eacute; &eacute &EACUTE; &SZLIG; &nTILDE;", "é &eacute É SS &nTILDE;"),
            ("&#8217; &#8217 &#zz; &; &amp;lt;", "’ &#8217 &#zz; &; &lt;"),
        ] {
            assert_eq!(unescape_marked(text), expected, "{text}");
        }
    }
}
