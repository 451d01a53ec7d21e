mod cpce;
mod delimited;
mod table;
mod write;

use std::path::Path;

use coral_core::{Error, Result, Size};

use crate::text::{decode_utf8, decode_windows, first_byte, read_bytes};

#[cfg(feature = "geo")]
pub(crate) use table::file_name;
pub use table::{NamedPoint, PointTable};
pub use write::write_points;

/// Reads the labelled points of one photograph from CSV, a CoralNet export or a CPCe file.
///
/// `size` is the photograph's size in pixels (see [`image_size`](crate::image_size)). The format
/// is told by the content:
///
/// - **CSV**, separated by `,`, `;` or tabs: columns `x`, `y` and `class` in any order, under these
///   or other usual names (`column`, `row`, `label`, …), or three columns without a header. The class
///   is a name or a number. With an `image` column the file may hold points of many photographs.
/// - **CoralNet** CSV: `Name`, `Row`, `Column` and `Label`, alone or within a full export. Rows and
///   columns count from 0, as CoralNet has exported them since it left 1-based positions.
/// - **CPCe** `.cpc`: positions are in units of the header's image size and are scaled to `size`.
///
/// Coordinates are pixels from the top left; `12.7` lies in pixel 12. A point that occurs
/// twice with the same class counts once; points that CPCe or CoralNet hold
/// without a label are left out and counted in [`PointTable::unlabeled`].
///
/// With `image`, the photograph's file name, only its points are read: names are compared
/// without folders (of Windows, too) and case and, failing that, without extension. Without it,
/// all points must belong to one photograph.
///
/// # Errors
/// [`Error::Io`] when the file cannot be read. [`Error::Format`] naming file and line when it is
/// of no known format or damaged, is not UTF-8 (CPCe: Windows-1252 is understood), a point lies
/// outside the image, one pixel has two classes, no labelled point is left, or
/// the points belong to other photographs or several.
///
/// # Examples
/// ```
/// use coral_core::{PointLabel, Size};
/// use coral_io::read_points;
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("points.csv");
/// std::fs::write(&path, "Name,Row,Column,Label\nreef.jpg,5,30,Sand\nreef.jpg,7,2,Porites\n").unwrap();
/// let table = read_points(&path, Size { width: 40, height: 30 }, Some("reef.jpg"))?;
/// assert_eq!((table.points[0].x, table.points[0].y), (30, 5));
///
/// // Without a class table the names found become the classes, in alphabetical order.
/// let classes = table.classes()?;
/// assert_eq!(table.to_labels(&classes)?[0], PointLabel { x: 30, y: 5, class: 1 });
/// # Ok::<(), coral_core::Error>(())
/// ```
pub fn read_points(path: impl AsRef<Path>, size: Size, image: Option<&str>) -> Result<PointTable> {
    let path = path.as_ref();
    let bytes = read_bytes(path)?;
    if first_byte(&bytes).is_none() {
        return Err(Error::format(path, None, "the file is empty: expected labelled points"));
    }
    let found = if is_cpce(path, &bytes) {
        let text = decode_windows(&bytes);
        cpce::parse_cpce(path, &text, size, image)?
    } else {
        delimited::parse_delimited(path, decode_utf8(path, &bytes)?, image)?
    };
    found.finish(path, size)
}

/// The photographs whose points a CSV, CoralNet or CPCe file holds, as it names them, sorted.
///
/// Empty for a CSV file without a column of image names.
///
/// # Errors
/// As [`read_points`], except for what depends on the photograph.
///
/// # Examples
/// ```
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("points.csv");
/// std::fs::write(&path, "image,x,y,class\nb.jpg,0,0,1\na.jpg,0,0,1\nb.jpg,1,0,1\n").unwrap();
/// assert_eq!(coral_io::point_images(&path)?, ["a.jpg", "b.jpg"]);
/// # Ok::<(), coral_core::Error>(())
/// ```
pub fn point_images(path: impl AsRef<Path>) -> Result<Vec<String>> {
    let path = path.as_ref();
    let bytes = read_bytes(path)?;
    if is_cpce(path, &bytes) {
        return Ok(vec![cpce::cpce_image(path, &decode_windows(&bytes))?]);
    }
    delimited::image_names(path, decode_utf8(path, &bytes)?)
}

/// CPCe files start with two texts (code file, image) and four numbers; a damaged one may
/// only be told by its name.
fn is_cpce(path: &Path, bytes: &[u8]) -> bool {
    let named = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("cpc"));
    named || cpce::has_cpce_header(&decode_windows(&bytes[..bytes.len().min(4096)]))
}
