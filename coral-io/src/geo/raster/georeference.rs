//! Where the pixels of a TIFF lie: its own tags, else a world file beside it.

use std::path::Path;

use coral_core::{GeoTransform, RasterGrid, Result};
use tiff_reader::{Ifd, TagValue};
use tiff_writer::ImageBuilder;

use super::geo_keys::{GeoKeys, OrReason, key_directory};
use super::tags;

/// Pixel to world coordinates by the image's tags, `None` without any; an error text for those that give no affine map.
pub(super) fn transform_of(ifd: &Ifd, keys: &GeoKeys) -> OrReason<Option<GeoTransform>> {
    let numbers = |tag| ifd.tag(tag).and_then(|tag| tag.value.as_f64_vec());
    let (scale, ties) = (numbers(tags::PIXEL_SCALE), numbers(tags::TIE_POINTS));
    let transform = match (numbers(tags::TRANSFORMATION), scale, ties) {
        (Some(matrix), _, _) if matrix.len() >= 8 => {
            GeoTransform { x: matrix[3], y: matrix[7], column: (matrix[0], matrix[4]), row: (matrix[1], matrix[5]) }
        }
        (_, Some(scale), Some(tie)) if scale.len() >= 2 && tie.len() >= 6 => {
            // As GDAL, the sign of the height is not trusted: rows run south.
            let (width, height) = (scale[0], scale[1].abs());
            GeoTransform::north_up(tie[3] - tie[0] * width, tie[4] + tie[1] * height, width, height)
        }
        (_, None, Some(ties)) if ties.len() > 6 => {
            let reason = format!("{} ground control points without an affine transform", ties.len() / 6);
            return Err(format!("{reason} are not supported: warp the raster first"));
        }
        _ => return Ok(None),
    };
    Ok(Some(if keys.pixel_is_point() { corner_from_center(transform) } else { transform }))
}

/// The transform of a raster whose transform gives the centre of the first pixel.
fn corner_from_center(transform: GeoTransform) -> GeoTransform {
    let (x, y) = transform.world(-0.5, -0.5);
    GeoTransform { x, y, ..transform }
}

/// The transform in a world file beside the raster: `.tfw`, `.tifw` or `.wld`.
pub(super) fn world_file(path: &Path) -> Option<GeoTransform> {
    let found = ["tfw", "tifw", "wld", "TFW"].iter().find_map(|extension| {
        let text = std::fs::read_to_string(path.with_extension(extension)).ok()?;
        let numbers: Vec<f64> = text.split_whitespace().map_while(|word| word.parse().ok()).collect();
        <[f64; 6]>::try_from(numbers).ok()
    });
    let [a, d, b, e, c, f] = found?;
    Some(corner_from_center(GeoTransform { x: c, y: f, column: (a, d), row: (b, e) }))
}

/// Adds the tags that place an image on `grid`.
///
/// # Errors
/// When the grid's coordinate reference system cannot be written.
pub(super) fn place(image: ImageBuilder, grid: &RasterGrid) -> Result<ImageBuilder> {
    let tag = |code, value| tiff_reader::Tag::new(code, value);
    let GeoTransform { x, y, column, row } = grid.transform;
    let image = image.tag(tag(tags::GEO_KEYS, key_directory(grid.crs)?));
    Ok(if grid.transform.is_north_up() {
        image
            .tag(tag(tags::PIXEL_SCALE, TagValue::Double(vec![column.0, -row.1, 0.0])))
            .tag(tag(tags::TIE_POINTS, TagValue::Double(vec![0.0, 0.0, 0.0, x, y, 0.0])))
    } else {
        let matrix = [[column.0, row.0, 0.0, x], [column.1, row.1, 0.0, y], [0.0; 4], [0.0, 0.0, 0.0, 1.0]];
        image.tag(tag(tags::TRANSFORMATION, TagValue::Double(matrix.concat())))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn world_files_give_the_first_center() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.tif");
        assert_eq!(world_file(&path), None);
        std::fs::write(folder.path().join("a.tfw"), "0.5\n0\n0\n-0.25\n100.25\n199.875\n").unwrap();
        assert_eq!(world_file(&path), Some(GeoTransform::north_up(100.0, 200.0, 0.5, 0.25)));
        std::fs::write(folder.path().join("a.tfw"), "0.5\n0\n0\n").unwrap();
        assert_eq!(world_file(&path), None);
    }
}
