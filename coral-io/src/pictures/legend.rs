use coral_core::image::{Rgb, RgbImage, imageops};
use coral_core::{ClassId, ClassSet, LabelMap, Result, Size, UNLABELED};

use super::text::{GLYPH_HEIGHT, draw_text, text_width};
use crate::cover::count_pixels;

/// Longest class name shown, in characters.
const LONGEST_NAME: usize = 32;
/// Width of the coloured boxes, in font pixels.
const SWATCH_WIDTH: u32 = 16;
pub(crate) const PAPER: Rgb<u8> = Rgb([248, 248, 248]);

/// A picture with a panel to its right: colour, name and percent cover of each class in the
/// label map, most frequent first.
///
/// Percentages are of the labelled pixels; unlabelled pixels, if any, come last with their share
/// of all pixels. The text grows with the picture; many classes get smaller text, then
/// more columns, and a low picture gets a margin below.
///
/// # Errors
/// [`Error::ShapeMismatch`](coral_core::Error::ShapeMismatch) when the label map has another size than the picture.
///
/// # Examples
/// ```
/// use coral_core::{ClassSet, LabelMap, image::RgbImage};
/// let classes = ClassSet::from_names(["sand", "coral"])?;
/// let picture = coral_io::with_legend(&RgbImage::new(64, 48), &LabelMap::zeros((48, 64)), &classes)?;
/// assert_eq!(picture.height(), 48);
/// assert!(picture.width() > 64);
/// # Ok::<(), coral_core::Error>(())
/// ```
pub fn with_legend(image: &RgbImage, labels: &LabelMap, classes: &ClassSet) -> Result<RgbImage> {
    Size::of(image).expect("labels", Size::of_map(labels))?;
    Ok(beside(image, &entries(labels, classes)))
}

/// A picture with lines of a legend to its right.
pub(crate) fn beside(image: &RgbImage, entries: &[Entry]) -> RgbImage {
    let size = Size::of(image);
    let layout = Layout::fit(size, entries);
    let height = size.height.max(layout.height());
    let mut picture = RgbImage::from_pixel(size.width + layout.width(), height, PAPER);
    imageops::replace(&mut picture, image, 0, 0);
    for (nth, entry) in entries.iter().enumerate() {
        layout.draw(&mut picture, entry, nth as u32, size.width);
    }
    picture
}

/// A line of a legend.
pub(crate) struct Entry {
    color: [u8; 3],
    name: String,
    amount: String,
}

impl Entry {
    /// A class and how much there is of it.
    pub(crate) fn new(id: ClassId, classes: &ClassSet, amount: String) -> Self {
        Self { color: classes.color(id), name: shortened(&classes.name(id)), amount }
    }
}

fn entries(labels: &LabelMap, classes: &ClassSet) -> Vec<Entry> {
    let counts = count_pixels(labels);
    let labeled: u64 = counts[..usize::from(UNLABELED)].iter().sum();
    let mut present: Vec<ClassId> = (0..=ClassId::MAX).filter(|&id| counts[usize::from(id)] > 0).collect();
    present.sort_by_key(|&id| (id == UNLABELED, std::cmp::Reverse(counts[usize::from(id)])));
    let entry = |id: ClassId| {
        let of = if id == UNLABELED { labels.len() as u64 } else { labeled };
        let percent = 100.0 * counts[usize::from(id)] as f64 / of as f64;
        Entry::new(id, classes, format!("{percent:.1}%"))
    };
    present.into_iter().map(entry).collect()
}

pub(crate) fn shortened(name: &str) -> String {
    if name.chars().count() <= LONGEST_NAME {
        return name.to_owned();
    }
    name.chars().take(LONGEST_NAME - 2).chain("..".chars()).collect()
}

/// Pixels per font pixel for a picture: one step per 306 pixels, so that text is 8 pixels high at least, 16 at 512², 104
/// at 20 megapixels.
pub(crate) fn text_scale(size: Size) -> u32 {
    size.width.min(size.height).saturating_add(100).div_ceil(306).max(1)
}

/// Where the lines of the legend stand, in pixels.
#[derive(Debug)]
struct Layout {
    /// Pixels per font pixel.
    scale: u32,
    rows: u32,
    columns: u32,
    /// Width of the longest name and amount, in font pixels.
    texts: (u32, u32),
}

impl Layout {
    fn fit(size: Size, entries: &[Entry]) -> Self {
        let count = (entries.len() as u32).max(1);
        let longest = |text: fn(&Entry) -> &str| entries.iter().map(|entry| text_width(text(entry))).max();
        let texts = (longest(|entry| &entry.name).unwrap_or(0), longest(|entry| &entry.amount).unwrap_or(0));
        let wanted = text_scale(size);
        let smallest = wanted.div_ceil(2);
        let in_columns = |scale: u32, columns: u32| Self { scale, rows: count.div_ceil(columns), columns, texts };
        let fits = |layout: &Self| layout.height() <= size.height && layout.width() <= size.width;
        let layouts = (smallest..=wanted).rev().map(|scale| in_columns(scale, 1));
        let more_columns = (2..=4).map(|columns| in_columns(smallest, columns));
        // Where nothing fits, the text stays readable and the picture gets a margin below.
        layouts.chain(more_columns).find(fits).unwrap_or_else(|| in_columns(smallest, 1))
    }

    fn margin(scale: u32) -> u32 {
        6 * scale
    }

    /// Pixels from line to line.
    fn pitch(scale: u32) -> u32 {
        (GLYPH_HEIGHT + 5) * scale
    }

    /// Pixels from column to column: swatch, name, amount and the gaps between.
    fn column_width(&self) -> u32 {
        let (name, percent) = self.texts;
        (SWATCH_WIDTH + 4 + name + 10 + percent + 8) * self.scale
    }

    fn width(&self) -> u32 {
        self.columns * self.column_width() + Self::margin(self.scale)
    }

    fn height(&self) -> u32 {
        self.rows * Self::pitch(self.scale) + 2 * Self::margin(self.scale)
    }

    fn draw(&self, picture: &mut RgbImage, entry: &Entry, nth: u32, left: u32) {
        let scale = self.scale;
        let x = left + Self::margin(scale) + nth / self.rows * self.column_width();
        let y = Self::margin(scale) + nth % self.rows * Self::pitch(scale);
        let (swatch_width, swatch_height) = (SWATCH_WIDTH * scale, (GLYPH_HEIGHT + 2) * scale);
        for v in 0..swatch_height {
            for u in 0..swatch_width {
                let on_frame = u < scale || v < scale || u >= swatch_width - scale || v >= swatch_height - scale;
                let color = if on_frame { [60; 3] } else { entry.color };
                picture.put_pixel(x + u, y + v, Rgb(color));
            }
        }
        let text_y = y + 2 * scale;
        let name_x = x + swatch_width + 4 * scale;
        draw_text(picture, &entry.name, (name_x, text_y), scale);
        let (name, percent) = self.texts;
        let indent = name + 10 + percent - text_width(&entry.amount);
        draw_text(picture, &entry.amount, (name_x + indent * scale, text_y), scale);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map_of(classes: usize, width: u32, height: u32) -> (RgbImage, LabelMap) {
        let shape = Size { width, height }.shape();
        let labels = LabelMap::from_shape_fn(shape, |(y, x)| ((x + y * width as usize) % classes) as u8);
        (RgbImage::new(width, height), labels)
    }

    #[test]
    fn every_size_and_number_of_classes_fits() {
        let classes = ClassSet::from_names((0..255).map(|i| format!("class number {i}"))).unwrap();
        for (count, width, height) in
            [(1, 1, 1), (35, 512, 512), (255, 512, 300), (255, 3, 100), (256, 40, 1), (7, 5, 900)]
        {
            let (image, labels) = map_of(count, width, height);
            let picture = with_legend(&image, &labels, &classes).unwrap();
            let shown = entries(&labels, &classes).len() as u32;
            let layout = Layout::fit(Size::of(&image), &entries(&labels, &classes));
            assert!(layout.rows * layout.columns >= shown);
            assert!(picture.width() > width && picture.height() >= height);
            assert!(picture.height() >= layout.height());
        }
    }

    #[test]
    fn text_grows_with_the_picture() {
        let scale = |count, width, height| {
            let (image, labels) = map_of(count, width, height);
            let classes = ClassSet::from_names((0..count).map(|i| format!("class {i}"))).unwrap();
            Layout::fit(Size::of(&image), &entries(&labels, &classes)).scale
        };
        assert_eq!([scale(5, 512, 512), scale(35, 512, 512), scale(5, 64, 64)], [2, 1, 1]);
        assert!(scale(35, 2736, 1824) >= 4);
    }

    #[test]
    fn the_most_frequent_class_comes_first_and_unlabelled_last() {
        let labels = coral_core::ndarray::array![[255, 255, 255, 255, 255], [1, 1, 1, 0, 7]];
        let entries = entries(&labels, &ClassSet::from_names(["sand", &"long".repeat(20)]).unwrap());
        let texts: Vec<_> =
            entries.iter().map(|e| (e.name.chars().take(11).collect::<String>(), e.amount.as_str())).collect();
        let expected = [("longlonglon", "60.0%"), ("sand", "20.0%"), ("7", "20.0%"), ("unlabelled", "50.0%")];
        assert_eq!(texts, expected.map(|(name, percent)| (name.to_owned(), percent)));
        assert_eq!(entries[0].name.len(), LONGEST_NAME);
        assert!(with_legend(&RgbImage::new(4, 4), &labels, &ClassSet::default()).is_err());
    }
}
