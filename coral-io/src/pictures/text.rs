use coral_core::image::{Rgb, RgbImage};
use font8x8::UnicodeFonts;

/// Pixels that a glyph is high at scale 1.
pub(crate) const GLYPH_HEIGHT: u32 = 8;

/// A character's bitmap: a byte per row, lowest bit left, without empty columns around it.
struct Glyph {
    rows: [u8; 8],
    width: u32,
}

impl Glyph {
    /// The glyph of a character; `?` for characters that no font has.
    fn of(character: char) -> Self {
        let fonts = [
            font8x8::BASIC_FONTS.get(character),
            font8x8::LATIN_FONTS.get(character),
            font8x8::GREEK_FONTS.get(character),
        ];
        let found = fonts.into_iter().flatten().next();
        let rows = found.or_else(|| font8x8::BASIC_FONTS.get('?')).unwrap_or_default();
        let ink = rows.iter().fold(0, |ink, row| ink | row);
        if ink == 0 {
            return Self { rows, width: 3 };
        }
        Self {
            rows: rows.map(|row| row >> ink.trailing_zeros()),
            width: 8 - ink.leading_zeros() - ink.trailing_zeros(),
        }
    }
}

/// Pixels that a text is wide at scale 1, a pixel of space after each character.
pub(crate) fn text_width(text: &str) -> u32 {
    text.chars().map(|character| Glyph::of(character).width + 1).sum()
}

/// Draws `text` with its top left corner at (x, y), every font pixel `scale` pixels wide; what
/// reaches beyond the picture is cut off.
pub(crate) fn draw_text(picture: &mut RgbImage, text: &str, (x, y): (u32, u32), scale: u32) {
    let (right, bottom) = picture.dimensions();
    let mut start = x;
    for glyph in text.chars().map(Glyph::of) {
        for (row, bits) in glyph.rows.into_iter().enumerate() {
            for column in (0..8).filter(|column| bits >> column & 1 == 1) {
                let (left, top) = (start + column * scale, y + row as u32 * scale);
                for v in top..(top + scale).min(bottom) {
                    for u in left..(left + scale).min(right) {
                        picture.put_pixel(u, v, Rgb([30; 3]));
                    }
                }
            }
        }
        start += (glyph.width + 1) * scale;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_gets_ink() {
        for text in ["A", "é", "Ω", "漢"] {
            let mut picture = RgbImage::from_pixel(10, 9, Rgb([255; 3]));
            draw_text(&mut picture, text, (1, 1), 1);
            let ink = picture.pixels().filter(|p| p.0 != [255; 3]).count();
            assert!((5..60).contains(&ink), "{text} {ink}");
        }
        let mut small = RgbImage::new(3, 2);
        draw_text(&mut small, "cut off", (1, 1), 5);
        assert!(text_width("ill") < text_width("WWW"));
    }

    #[test]
    fn glyphs_are_not_mirrored() {
        let mut picture = RgbImage::from_pixel(8, 8, Rgb([255; 3]));
        draw_text(&mut picture, "L", (0, 0), 1);
        let ink = |columns: std::ops::Range<u32>| {
            columns
                .flat_map(|x| (0..8).map(move |y| (x, y)))
                .filter(|&(x, y)| picture.get_pixel(x, y).0 != [255; 3])
                .count()
        };
        assert!(ink(0..3) > ink(4..7));
    }
}
