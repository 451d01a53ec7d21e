/// An RGB colour as `#rrggbb`.
pub(crate) fn hex([r, g, b]: [u8; 3]) -> String {
    format!("#{r:02x}{g:02x}{b:02x}")
}

/// Reads `#rrggbb`, `rrggbb` or `(r, g, b)` with numbers 0–255 (any brackets, commas or blanks).
pub(crate) fn parse_color(text: &str) -> Result<[u8; 3], String> {
    let wrong = || format!("color `{text}`: expected #rrggbb or (r, g, b)");
    let inner = text.trim().trim_start_matches(['(', '[', '#']).trim_end_matches([')', ']']);
    if inner.len() == 6 && inner.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        let number = u32::from_str_radix(inner, 16).map_err(|_| wrong())?;
        let [_, r, g, b] = number.to_be_bytes();
        return Ok([r, g, b]);
    }
    let parts = inner.split([',', ' ']).filter(|part| !part.is_empty());
    let levels = parts.map(str::parse).collect::<Result<Vec<u8>, _>>().map_err(|_| wrong())?;
    levels.try_into().map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colors_in_all_spellings() {
        for text in ["#9f12a7", "9F12A7", "(159, 18, 167)", "[159,18,167]", " 159 18 167 "] {
            assert_eq!(parse_color(text), Ok([159, 18, 167]), "{text}");
        }
        assert_eq!(hex([159, 18, 167]), "#9f12a7");
        for text in ["", "#12345", "(1, 2)", "(1, 2, 3, 4)", "(1, 2, 256)", "red", "#é1234"] {
            assert!(parse_color(text).unwrap_err().contains("expected #rrggbb or (r, g, b)"), "{text}");
        }
    }
}
