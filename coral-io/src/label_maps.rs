use std::io::{BufRead, Seek};
use std::path::Path;

use coral_core::image::{self, DynamicImage, ExtendedColorType, ImageFormat};
use coral_core::{ClassId, ClassSet, Error, LabelMap, Result, Size};

use crate::bmp_indices::{read_bmp_indices, unpack};
use crate::images::{ImageLimits, Samples, decode_image, write_png};
use crate::text::open;

const LOSSY: &str = "a JPEG file cannot hold class ids: it changes them; expected PNG, BMP or TIFF";

/// Reads a label map, H×W class ids, from a grey or palette PNG or BMP or a grey TIFF.
///
/// The values are taken as they are stored: a palette picture gives its palette *indices*
/// and a 1-, 2- or 4-bit PNG its small numbers, never stretched to 0–255. 16-bit grey is
/// accepted when every value fits a class id. Files whose *colours* stand for classes
/// are read by [`read_color_label_map`](crate::read_color_label_map).
///
/// # Errors
/// [`Error::Io`] when the file cannot be opened; [`Error::Format`] when it is damaged,
/// larger than [`ImageLimits::default`], a colour picture, or holds a value over 255.
///
/// # Examples
/// ```
/// use coral_core::ndarray::array;
/// use coral_io::{read_label_map, write_label_map};
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("labels.png");
/// let labels = array![[0, 1, 255], [7, 1, 254]];
/// write_label_map(&path, &labels)?;
/// assert_eq!(read_label_map(&path)?, labels);
/// # Ok::<(), coral_core::Error>(())
/// ```
pub fn read_label_map(path: impl AsRef<Path>) -> Result<LabelMap> {
    read_label_map_with(path, &ImageLimits::default())
}

/// [`read_label_map`] with other limits.
///
/// # Errors
/// As [`read_label_map`].
///
/// # Examples
/// ```
/// use coral_io::{ImageLimits, read_label_map_with, write_label_map};
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("labels.png");
/// write_label_map(&path, &coral_core::LabelMap::zeros((3, 4)))?;
/// let limits = ImageLimits { max_pixels: 11, ..ImageLimits::default() };
/// assert!(read_label_map_with(&path, &limits).unwrap_err().to_string().contains("more than the limit of 11 pixels"));
/// # Ok::<(), coral_core::Error>(())
/// ```
pub fn read_label_map_with(path: impl AsRef<Path>, limits: &ImageLimits) -> Result<LabelMap> {
    let path = path.as_ref();
    let mut source = open(path)?;
    let head = source.fill_buf().map_err(|source| Error::io(path, source))?;
    match image::guess_format(head) {
        Ok(ImageFormat::Png) => read_png(path, source, limits),
        Ok(ImageFormat::Bmp) => read_bmp(path, source, limits),
        Ok(ImageFormat::Tiff) => read_tiff(path, source, limits),
        Ok(ImageFormat::Jpeg) => Err(Error::format(path, None, LOSSY)),
        _ => Err(Error::format(path, None, "not a label map: expected a PNG, BMP or TIFF file")),
    }
}

fn in_color(path: &Path, found: &str) -> Error {
    let reason = format!(
        "expected class ids in a grey or palette picture, found {found}; if its colours stand for classes, \
         read it with a colour table (read_color_label_map)"
    );
    Error::format(path, None, reason)
}

fn read_png(path: &Path, source: impl BufRead + Seek, limits: &ImageLimits) -> Result<LabelMap> {
    let damaged = |error: png::DecodingError| match error {
        png::DecodingError::LimitsExceeded => Error::format(path, None, "the label map is too large to decode"),
        error => Error::format(path, None, format!("the label map cannot be decoded: {error}")),
    };
    let bytes = usize::try_from(limits.max_bytes).unwrap_or(usize::MAX);
    let mut decoder = png::Decoder::new_with_limits(source, png::Limits { bytes });
    decoder.set_transformations(png::Transformations::IDENTITY);
    let mut reader = decoder.read_info().map_err(damaged)?;
    let (width, height) = reader.info().size();
    let size = Size { width, height };
    limits.check(path, size)?;
    let (color, depth) = (reader.info().color_type, reader.info().bit_depth);
    if !matches!(color, png::ColorType::Grayscale | png::ColorType::Indexed) {
        return Err(in_color(path, &format!("{color:?} samples")));
    }
    let bytes = reader.output_buffer_size().unwrap_or(usize::MAX);
    limits.check_bytes(path, bytes as u64)?;
    let mut samples = vec![0; bytes];
    let frame = reader.next_frame(&mut samples).map_err(damaged)?;
    if (frame.width, frame.height) != (width, height) {
        return Err(Error::format(path, None, "an animation's partial frame is not a label map"));
    }
    let rows = samples.chunks(frame.line_size.max(1));
    match depth {
        png::BitDepth::Sixteen => narrow(path, size, samples.as_chunks().0.iter().map(|&two| u16::from_be_bytes(two))),
        png::BitDepth::Eight => to_map(path, size, samples),
        depth => to_map(path, size, rows.flat_map(|row| unpack(row, depth as usize, width as usize)).collect()),
    }
}

fn read_bmp(path: &Path, source: impl BufRead + Seek, limits: &ImageLimits) -> Result<LabelMap> {
    match read_bmp_indices(path, source, limits)? {
        Some((size, ids)) => to_map(path, size, ids),
        None => Err(in_color(path, "a BMP without palette")),
    }
}

fn read_tiff(path: &Path, source: impl BufRead + Seek, limits: &ImageLimits) -> Result<LabelMap> {
    let (image, stored) = decode_image(path, source, limits)?;
    let size = Size { width: image.width(), height: image.height() };
    match (image, stored) {
        (DynamicImage::ImageLuma8(grey), ExtendedColorType::L8) => to_map(path, size, grey.into_raw()),
        (DynamicImage::ImageLuma16(grey), _) => narrow(path, size, grey.into_raw().into_iter()),
        (DynamicImage::ImageLuma8(_), _) => Err(Error::format(
            path,
            None,
            format!("{stored:?} samples: expected 8- or 16-bit grey in a TIFF label map"),
        )),
        (other, _) => Err(in_color(path, &format!("{:?} samples", other.color()))),
    }
}

fn narrow(path: &Path, size: Size, values: impl Iterator<Item = u16>) -> Result<LabelMap> {
    let ids = values.enumerate().map(|(at, value)| {
        ClassId::try_from(value).map_err(|_| {
            let (x, y) = (at % size.width as usize, at / size.width as usize);
            let reason = format!("pixel ({x}, {y}) has the value {value}: class ids are 0–254, and 255 for unlabelled");
            Error::format(path, None, reason)
        })
    });
    to_map(path, size, ids.collect::<Result<_>>()?)
}

fn to_map(path: &Path, size: Size, ids: Vec<ClassId>) -> Result<LabelMap> {
    LabelMap::from_shape_vec(size.shape(), ids).map_err(|error| Error::format(path, None, error.to_string()))
}

/// Writes a label map as 8-bit grey PNG whose values are the class ids.
///
/// # Errors
/// [`Error::InvalidParameter`] when the file name ends in something else than `.png`,
/// [`Error::InvalidInput`] for a map without pixels, [`Error::Io`] when it cannot be written.
///
/// # Examples
/// ```
/// use coral_core::LabelMap;
/// let error = coral_io::write_label_map("labels.png", &LabelMap::zeros((0, 4))).unwrap_err();
/// assert_eq!(error.to_string(), "invalid input `image`: 4x0 has no pixels, nothing to write to labels.png");
/// ```
pub fn write_label_map(path: impl AsRef<Path>, labels: &LabelMap) -> Result<()> {
    write_png(path.as_ref(), Size::of_map(labels), Samples::Grey(&samples(labels)))
}

/// Writes a label map as 8-bit palette PNG: picture viewers show the classes' colours,
/// [`read_label_map`] reads the ids.
///
/// # Errors
/// As [`write_label_map`].
///
/// # Examples
/// ```
/// use coral_core::{ClassSet, ndarray::array};
/// use coral_io::{read_image, read_label_map, write_palette_label_map};
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("labels.png");
/// let mut classes = ClassSet::from_names(["sand", "coral"])?;
/// classes.set_color(1, [250, 120, 90])?;
/// write_palette_label_map(&path, &array![[0, 1], [255, 1]], &classes)?;
/// assert_eq!(read_label_map(&path)?, array![[0, 1], [255, 1]]);
/// assert_eq!(read_image(&path)?.get_pixel(1, 1).0, [250, 120, 90]);
/// # Ok::<(), coral_core::Error>(())
/// ```
pub fn write_palette_label_map(path: impl AsRef<Path>, labels: &LabelMap, classes: &ClassSet) -> Result<()> {
    let palette: Vec<u8> = (0..=ClassId::MAX).flat_map(|id| classes.color(id)).collect();
    write_png(path.as_ref(), Size::of_map(labels), Samples::Palette(&samples(labels), palette))
}

/// The ids row by row, whatever the array's memory order.
fn samples(labels: &LabelMap) -> std::borrow::Cow<'_, [ClassId]> {
    labels.as_slice().map_or_else(|| labels.iter().copied().collect::<Vec<_>>().into(), Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bmp_indices::tests::bmp;
    use coral_core::image::{GrayImage, ImageBuffer, Luma, Rgb, RgbImage};
    use coral_core::ndarray::array;

    fn png_bytes(color: png::ColorType, depth: png::BitDepth, size: (u32, u32), data: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, size.0, size.1);
        encoder.set_color(color);
        encoder.set_depth(depth);
        if color == png::ColorType::Indexed {
            encoder.set_palette((0..16u8).flat_map(|i| [i, 200, 255 - i]).collect::<Vec<_>>());
        }
        encoder.write_header().unwrap().write_image_data(data).unwrap();
        bytes
    }

    fn read_bytes(bytes: &[u8]) -> Result<LabelMap> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("labels.dat");
        std::fs::write(&path, bytes).unwrap();
        read_label_map(path)
    }

    fn encoded(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
        let mut bytes = std::io::Cursor::new(Vec::new());
        image.into().write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    #[test]
    fn every_depth_gives_the_stored_numbers() {
        use png::{BitDepth::*, ColorType::*};
        for color in [Grayscale, Indexed] {
            let one = png_bytes(color, One, (10, 2), &[0b1000_0001, 0b0100_0000, 0, 0b1000_0000]);
            let expected = array![[1, 0, 0, 0, 0, 0, 0, 1, 0, 1], [0, 0, 0, 0, 0, 0, 0, 0, 1, 0]];
            assert_eq!(read_bytes(&one).unwrap(), expected);
            let two = png_bytes(color, Two, (3, 1), &[0b1101_1000]);
            assert_eq!(read_bytes(&two).unwrap(), array![[3, 1, 2]]);
            let four = png_bytes(color, Four, (1, 2), &[0xf0, 0x20]);
            assert_eq!(read_bytes(&four).unwrap(), array![[15], [2]]);
            let eight = png_bytes(color, Eight, (3, 1), &[9, 0, 15]);
            assert_eq!(read_bytes(&eight).unwrap(), array![[9, 0, 15]]);
        }
        let sixteen = png_bytes(Grayscale, Sixteen, (2, 1), &[0, 34, 0, 255]);
        assert_eq!(read_bytes(&sixteen).unwrap(), array![[34, 255]]);
        assert_eq!(read_bytes(&bmp(&[&[1, 9], &[15, 0]], 4)).unwrap(), array![[1, 9], [15, 0]]);
        let tiff = encoded(GrayImage::from_fn(2, 1, |x, _| Luma([x as u8 + 33])), ImageFormat::Tiff);
        assert_eq!(read_bytes(&tiff).unwrap(), array![[33, 34]]);
        let wide = ImageBuffer::from_fn(1, 2, |_, y| Luma([y as u16 * 7]));
        assert_eq!(read_bytes(&encoded(wide, ImageFormat::Tiff)).unwrap(), array![[0], [7]]);
    }

    #[test]
    fn broken_label_maps_are_explained() {
        use png::{BitDepth::*, ColorType};
        let grey = png_bytes(ColorType::Grayscale, Eight, (30, 30), &[7; 900]);
        let rgb = RgbImage::from_pixel(3, 3, Rgb([9; 3]));
        let over = ImageBuffer::from_fn(3, 2, |x, y| Luma([if (x, y) == (2, 1) { 256u16 } else { 3 }]));
        for (bytes, text) in [
            (vec![], "not a label map: expected a PNG, BMP or TIFF file"),
            (b"x,y,class".to_vec(), "not a label map"),
            (grey[..grey.len() - 20].to_vec(), "cannot be decoded"),
            (grey[..20].to_vec(), "cannot be decoded"),
            (bmp(&[&[1; 9]], 8)[..40].to_vec(), "the BMP file ends too early"),
            (
                encoded(rgb.clone(), ImageFormat::Png),
                "found Rgb samples; if its colours stand for classes, read it with",
            ),
            (encoded(rgb.clone(), ImageFormat::Bmp), "found a BMP without palette; if its colours"),
            (encoded(rgb.clone(), ImageFormat::Tiff), "found Rgb8 samples; if its colours"),
            (encoded(rgb, ImageFormat::Jpeg), "a JPEG file cannot hold class ids"),
            (encoded(over.clone(), ImageFormat::Png), "pixel (2, 1) has the value 256: class ids are 0–254"),
            (encoded(over, ImageFormat::Tiff), "pixel (2, 1) has the value 256"),
        ] {
            let error = read_bytes(&bytes).unwrap_err().to_string();
            assert!(error.contains("labels.dat: ") && error.contains(text), "{error}");
        }
    }

    #[test]
    fn maps_in_another_memory_order_are_written_the_right_way() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.png");
        let labels = array![[1, 2, 3], [4, 5, 6]].reversed_axes();
        write_label_map(&path, &labels).unwrap();
        assert_eq!(read_label_map(&path).unwrap(), array![[1, 4], [2, 5], [3, 6]]);
    }
}
