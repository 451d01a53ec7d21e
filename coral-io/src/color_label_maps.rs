use std::collections::HashMap;
use std::path::Path;

use coral_core::image::RgbImage;
use coral_core::{ClassId, ClassSet, Error, LabelMap, Result, Size, UNLABELED};
use serde::{Deserialize, Serialize};

use crate::class_json::parse_object;
use crate::class_table::read_class_set;
use crate::colors::hex;
use crate::images::read_image;
use crate::text::{decode_utf8, first_byte, read_bytes, reason_of};

/// What to do with a pixel whose colour is not in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnknownColor {
    /// Refuse the file, naming the first such pixel and its colour.
    #[default]
    Error,
    /// Take the table's nearest colour (the smallest squared RGB distance; the entry that
    /// stands first among equals), for masks that went through JPEG or smooth scaling. With the eight
    /// corners of the colour cube this is the usual threshold of each channel at 128.
    Nearest,
    /// Leave the pixel [`UNLABELED`].
    Unlabeled,
}

/// Which class each colour of a colour-coded label map stands for.
///
/// # Examples
/// ```
/// use coral_core::{UNLABELED, image::{Rgb, RgbImage}, ndarray::array};
/// use coral_io::{ColorTable, UnknownColor};
/// let table = ColorTable::new([([0, 0, 0], UNLABELED), ([255, 0, 0], 0), ([255, 0, 255], 1)])?;
/// let mask = RgbImage::from_fn(3, 1, |x, _| [Rgb([255, 0, 0]), Rgb([0, 0, 0]), Rgb([250, 3, 255])][x as usize]);
/// assert_eq!(table.label_map(&mask, UnknownColor::Nearest)?, array![[0, 255, 1]]);
/// let error = table.label_map(&mask, UnknownColor::Error).unwrap_err().to_string();
/// assert_eq!(error, "invalid input `mask`: pixel (2, 0) has color #fa03ff, which is not in the table of 3 colors");
/// # Ok::<(), coral_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColorTable {
    entries: Vec<([u8; 3], ClassId)>,
}

impl ColorTable {
    /// A table of these colours, RGB. A class may have several colours; [`UNLABELED`] is allowed, too.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when there is no colour or one stands for two classes.
    pub fn new(entries: impl IntoIterator<Item = ([u8; 3], ClassId)>) -> Result<Self> {
        let entries: Vec<_> = entries.into_iter().collect();
        if entries.is_empty() {
            return Err(Error::input("colors", "at least one color is needed, got none"));
        }
        let mut seen = HashMap::new();
        for &(color, id) in &entries {
            match seen.insert(color, id) {
                Some(other) if other != id => {
                    return Err(Error::input("colors", format!("color {} stands for {other} and {id}", hex(color))));
                }
                _ => {}
            }
        }
        Ok(Self { entries })
    }

    /// The colours of a class set.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when two classes share a colour.
    pub fn from_classes(classes: &ClassSet) -> Result<Self> {
        Self::new(classes.iter().map(|class| (class.color, class.id)))
    }

    /// The colours and their classes, in the order given.
    pub fn entries(&self) -> &[([u8; 3], ClassId)] {
        &self.entries
    }

    /// The class ids, H×W, of a colour-coded picture.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for an unknown colour, with [`UnknownColor::Error`].
    pub fn label_map(&self, mask: &RgbImage, unknown: UnknownColor) -> Result<LabelMap> {
        let mut known: HashMap<[u8; 3], ClassId> = self.entries.iter().copied().collect();
        let mut ids = Vec::with_capacity(mask.as_raw().len() / 3);
        let mut last = self.entries[0];
        for (x, y, pixel) in mask.enumerate_pixels() {
            // Neighbours mostly share their colour.
            if pixel.0 != last.0 {
                let id = match (known.get(&pixel.0), unknown) {
                    (Some(&id), _) => id,
                    (None, UnknownColor::Unlabeled) => UNLABELED,
                    (None, UnknownColor::Nearest) => *known.entry(pixel.0).or_insert(self.nearest(pixel.0)),
                    (None, UnknownColor::Error) => {
                        let colors = self.entries.len();
                        let color = hex(pixel.0);
                        let reason =
                            format!("pixel ({x}, {y}) has color {color}, which is not in the table of {colors} colors");
                        return Err(Error::input("mask", reason));
                    }
                };
                last = (pixel.0, id);
            }
            ids.push(last.1);
        }
        let shape = Size::of(mask).shape();
        LabelMap::from_shape_vec(shape, ids).map_err(|error| Error::input("mask", error.to_string()))
    }

    fn nearest(&self, color: [u8; 3]) -> ClassId {
        let distance =
            |other: [u8; 3]| -> u32 { color.iter().zip(other).map(|(&a, b)| u32::from(a.abs_diff(b)).pow(2)).sum() };
        self.entries.iter().min_by_key(|(other, _)| distance(*other)).map_or(UNLABELED, |&(_, id)| id)
    }
}

/// Reads a colour table: JSON `{"(r, g, b)": id}`, where several colours may share an id, or any
/// file of classes with colours that [`read_class_set`] reads.
///
/// # Errors
/// [`Error::Io`] when the file cannot be read; [`Error::Format`] when it is no colour table or a
/// colour stands for two classes.
///
/// # Examples
/// ```
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("colors.json");
/// std::fs::write(&path, r#"{"(0, 0, 255)": 1, "(9, 9, 9)": 4, "(8, 8, 8)": 4}"#).unwrap();
/// let table = coral_io::read_color_table(&path)?;
/// assert_eq!(table.entries()[0], ([0, 0, 255], 1));
/// # Ok::<(), coral_core::Error>(())
/// ```
pub fn read_color_table(path: impl AsRef<Path>) -> Result<ColorTable> {
    let path = path.as_ref();
    let bytes = read_bytes(path)?;
    let table = if first_byte(&bytes) == Some(b'{') {
        let classes = parse_object(path, decode_utf8(path, &bytes)?)?;
        let colors: Option<Vec<_>> = classes.iter().map(|class| Some((class.color?, class.id))).collect();
        let colors = colors.ok_or_else(|| {
            Error::format(path, None, "not a color table: expected keys like (159, 18, 167) and class ids")
        })?;
        ColorTable::new(colors)
    } else {
        ColorTable::from_classes(&read_class_set(path)?)
    };
    table.map_err(|error| Error::format(path, None, reason_of(error)))
}

/// Reads a label map, H×W class ids, from a picture whose colours stand for classes: PNG, BMP or TIFF, or a
/// JPEG, whose colours have changed, with [`UnknownColor::Nearest`].
///
/// # Errors
/// As [`read_image`](crate::read_image); [`Error::Format`] naming the first pixel of an unknown
/// colour, with [`UnknownColor::Error`].
///
/// # Examples
/// ```
/// use coral_core::{image::{Rgb, RgbImage}, ndarray::array};
/// use coral_io::{ColorTable, UnknownColor, read_color_label_map, write_image};
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("mask.png");
/// write_image(&path, &RgbImage::from_pixel(2, 1, Rgb([0, 0, 255])))?;
/// let table = ColorTable::new([([0, 0, 255], 4)])?;
/// assert_eq!(read_color_label_map(&path, &table, UnknownColor::Error)?, array![[4, 4]]);
/// # Ok::<(), coral_core::Error>(())
/// ```
pub fn read_color_label_map(path: impl AsRef<Path>, table: &ColorTable, unknown: UnknownColor) -> Result<LabelMap> {
    let path = path.as_ref();
    let mask = read_image(path)?;
    table.label_map(&mask, unknown).map_err(|error| Error::format(path, None, reason_of(error)))
}
