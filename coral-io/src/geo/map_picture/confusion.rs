use coral_core::image::{Rgb, RgbImage, imageops};
use coral_core::{ClassId, ClassSet, Error, Result};
use ndarray::Array2;

use crate::pictures::{GLYPH_HEIGHT, PAPER, draw_text, shortened, text_width};

/// Pixels per font pixel.
const SCALE: u32 = 2;
/// Width and height of a cell.
const CELL: (u32, u32) = (56 * SCALE, 30 * SCALE);
const MARGIN: u32 = 6 * SCALE;

/// A picture of a confusion matrix: a row for each true class, a column for each predicted one. Cells show their share of
/// the row, as colour and in percent, and their count below; rows of classes without truth are white.
///
/// Row and column `i` of `counts` are class `i`; classes that the set does not hold and that never occur are left out.
///
/// # Errors
/// [`Error::ShapeMismatch`] when the matrix is not square or has more than 255 rows; [`Error::InvalidInput`] when it
/// holds no class.
///
/// # Examples
/// ```
/// use coral_core::{ClassSet, ndarray::array};
/// let classes = ClassSet::from_names(["sand", "coral"])?;
/// let picture = coral_io::geo::confusion_picture(&array![[90, 10], [0, 1_500_000]], &classes)?;
/// assert!(picture.width() > 224 && picture.height() > 120);
/// # Ok::<(), coral_core::Error>(())
/// ```
pub fn confusion_picture(counts: &Array2<u64>, classes: &ClassSet) -> Result<RgbImage> {
    let (rows, columns) = counts.dim();
    if rows != columns || rows > 255 {
        return Err(Error::shape("counts", "KxK with K up to 255", format!("{rows}x{columns}")));
    }
    let occurs = |id: usize| counts.row(id).iter().chain(counts.column(id)).any(|&count| count > 0);
    let shown: Vec<usize> = (0..rows).filter(|&id| classes.get(id as ClassId).is_some() || occurs(id)).collect();
    if shown.is_empty() {
        return Err(Error::input("counts", "the matrix holds no class"));
    }
    let names: Vec<String> = shown.iter().map(|&id| shortened(&classes.name(id as ClassId))).collect();
    let text = names.iter().map(|name| text_width(name)).max().unwrap_or(0) * SCALE;
    let line = (GLYPH_HEIGHT + 4) * SCALE;
    let (left, top) = (text + line + 2 * MARGIN, text + line + 2 * MARGIN);
    let size = shown.len() as u32;
    let mut picture = RgbImage::from_pixel(left + size * CELL.0 + MARGIN, top + size * CELL.1 + MARGIN, PAPER);
    draw_text(&mut picture, "prediction", (left, MARGIN / 2), SCALE);
    draw_upright(&mut picture, "truth", (MARGIN / 2, top));
    for (nth, name) in names.iter().enumerate() {
        let nth = nth as u32;
        let y = top + nth * CELL.1 + (CELL.1 - GLYPH_HEIGHT * SCALE) / 2;
        draw_text(&mut picture, name, (left - MARGIN - text_width(name) * SCALE, y), SCALE);
        let x = left + nth * CELL.0 + (CELL.0 - GLYPH_HEIGHT * SCALE) / 2;
        draw_upright(&mut picture, name, (x, top - MARGIN - text_width(name) * SCALE));
    }
    for (row, &truth) in shown.iter().enumerate() {
        let sum: u64 = counts.row(truth).iter().fold(0, |sum, &count| sum.saturating_add(count));
        for (column, &prediction) in shown.iter().enumerate() {
            let corner = (left + column as u32 * CELL.0, top + row as u32 * CELL.1);
            draw_cell(&mut picture, corner, counts[[truth, prediction]], (sum, truth == prediction));
        }
    }
    Ok(picture)
}

fn draw_cell(picture: &mut RgbImage, (left, top): (u32, u32), count: u64, (sum, right): (u64, bool)) {
    let share = if sum == 0 { 0.0 } else { count as f64 / sum as f64 };
    // Right ones towards green, wrong ones towards red, never so dark that the text is lost.
    let full = if right { [70, 170, 90] } else { [225, 95, 80] };
    let color = full.map(|level| (255.0 + (f64::from(level) - 255.0) * share).round() as u8);
    for v in 0..CELL.1 - SCALE {
        for u in 0..CELL.0 - SCALE {
            picture.put_pixel(left + u, top + v, Rgb(color));
        }
    }
    let percent = if sum == 0 { "-".to_owned() } else { format!("{:.1}%", 100.0 * share) };
    for (text, y) in [(percent, 5), (count_text(count), 17)] {
        let x = left + CELL.0.saturating_sub(text_width(&text) * SCALE) / 2;
        draw_text(picture, &text, (x, top + y * SCALE), SCALE);
    }
}

/// A number in six characters at most.
fn count_text(count: u64) -> String {
    match count {
        0..=99_999 => count.to_string(),
        100_000..=999_999 => format!("{}k", count / 1000),
        _ => {
            let power = (count as f64).log10().floor() as i32 / 3;
            let unit = ["", "k", "M", "G", "T", "P", "E"][power.clamp(0, 6) as usize];
            // Cut off: 999.99 rounded up would have a digit more.
            format!("{:.1}{unit}", (count as f64 / 1000f64.powi(power) * 10.0).floor() / 10.0)
        }
    }
}

/// Draws a text that is read from bottom to top.
fn draw_upright(picture: &mut RgbImage, text: &str, (x, y): (u32, u32)) {
    let mut line = RgbImage::from_pixel(text_width(text) * SCALE, GLYPH_HEIGHT * SCALE, PAPER);
    draw_text(&mut line, text, (0, 0), SCALE);
    imageops::replace(picture, &imageops::rotate270(&line), x.into(), y.into());
}

#[cfg(test)]
mod tests {
    use super::*;
    use coral_core::ndarray::{Array2, array};

    #[test]
    fn matrices_of_all_sizes_are_drawn() {
        let classes = ClassSet::from_names(["sand", "a very long name of a class, longer than fits"]).unwrap();
        let picture = confusion_picture(&array![[u64::MAX, 3, 0], [0, 0, 0], [1, 1, 2]], &classes).unwrap();
        let width = |n: usize| confusion_picture(&Array2::zeros((n, n)), &classes).unwrap().width();
        assert_eq!(picture.width(), width(2) + CELL.0);
        assert_eq!(width(255), width(2), "absent classes without a name are left out");
        for (counts, text) in [
            (Array2::zeros((2, 3)), "KxK"),
            (Array2::zeros((256, 256)), "256x256"),
            (Array2::zeros((0, 0)), "no class"),
        ] {
            assert!(confusion_picture(&counts, &classes).unwrap_err().to_string().contains(text));
        }
    }

    #[test]
    fn right_cells_are_green_and_rows_sum_up() {
        let picture = confusion_picture(&array![[3, 1], [0, 0]], &ClassSet::from_names(["a", "b"]).unwrap()).unwrap();
        let corner = |column: u32, row: u32| {
            let (left, top) = (picture.width() - MARGIN - 2 * CELL.0, picture.height() - MARGIN - 2 * CELL.1);
            picture.get_pixel(left + column * CELL.0, top + row * CELL.1).0
        };
        assert_eq!([corner(0, 0), corner(1, 0), corner(1, 1)], [[116, 191, 131], [248, 215, 211], [255; 3]]);
    }

    #[test]
    fn counts_are_short() {
        for (count, text) in [
            (0, "0"),
            (99_999, "99999"),
            (123_456, "123k"),
            (1_250_000, "1.2M"),
            (999_999_999, "999.9M"),
            (u64::MAX, "18.4E"),
        ] {
            assert_eq!(count_text(count), text);
        }
    }
}
