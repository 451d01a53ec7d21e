use std::io::{BufRead, Seek};
use std::path::Path;

use coral_core::image::{
    DynamicImage, ExtendedColorType, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, RgbImage,
};
use coral_core::{Error, Result, Size};
use serde::{Deserialize, Serialize};

use crate::jpeg_end::expect_jpeg_end;
use crate::png_name::expect_png_name;
use crate::text::open;

/// How large an image may be before a reader refuses to decode it.
///
/// A file of a few kilobytes can claim to be an image of many gigabytes; the claim is
/// checked before memory is reserved.
///
/// # Examples
/// ```
/// use coral_io::ImageLimits;
/// assert_eq!(ImageLimits::default().max_pixels, 400_000_000);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ImageLimits {
    /// Most pixels (width × height). Default 400 million, a 20000×20000 mosaic.
    pub max_pixels: u64,
    /// Most bytes that a decoder may reserve. Default 4 GiB.
    pub max_bytes: u64,
}

impl Default for ImageLimits {
    fn default() -> Self {
        Self { max_pixels: 400_000_000, max_bytes: 4 << 30 }
    }
}

impl ImageLimits {
    /// Checks what a file claims to be.
    pub(crate) fn check(&self, path: &Path, size: Size) -> Result<()> {
        if size.width == 0 || size.height == 0 {
            return Err(Error::format(path, None, format!("the image has no pixels ({size})")));
        }
        let pixels = u64::from(size.width) * u64::from(size.height);
        if pixels > self.max_pixels {
            let reason =
                format!("the image is {size} = {pixels} pixels, more than the limit of {} pixels", self.max_pixels);
            return Err(Error::format(path, None, reason));
        }
        Ok(())
    }

    /// Checks the memory that the decoded samples will take.
    pub(crate) fn check_bytes(&self, path: &Path, bytes: u64) -> Result<()> {
        if bytes > self.max_bytes {
            let reason =
                format!("the image is too large to decode: {bytes} bytes, the limit is {} bytes", self.max_bytes);
            return Err(Error::format(path, None, reason));
        }
        Ok(())
    }

    pub(crate) fn for_decoder(&self) -> Limits {
        let mut limits = Limits::default();
        limits.max_alloc = Some(self.max_bytes);
        limits
    }
}

/// Reads a PNG, JPEG, TIFF or BMP photograph as 8-bit RGB, with the default [`ImageLimits`].
///
/// The format is told by the content, not the file name. 16-bit channels are scaled to
/// 8 bits, grey is repeated in all channels, an alpha channel is left out.
///
/// An EXIF orientation is **not** applied: the coordinates of point labels and label maps
/// count the pixels as they are stored.
///
/// # Errors
/// [`Error::Io`] when the file cannot be opened; [`Error::Format`] when it is not an
/// image of these formats, is damaged or is larger than the limits.
///
/// # Examples
/// ```
/// use coral_core::image::{Rgb, RgbImage};
/// use coral_io::{read_image, write_image};
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("reef.png");
/// let reef = RgbImage::from_pixel(4, 3, Rgb([20, 90, 110]));
/// write_image(&path, &reef)?;
/// assert_eq!(read_image(&path)?, reef);
/// # Ok::<(), coral_core::Error>(())
/// ```
pub fn read_image(path: impl AsRef<Path>) -> Result<RgbImage> {
    read_image_with(path, &ImageLimits::default())
}

/// [`read_image`] with other limits.
///
/// # Errors
/// As [`read_image`].
///
/// # Examples
/// ```
/// use coral_io::{ImageLimits, read_image_with, write_image};
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("reef.png");
/// write_image(&path, &coral_core::image::RgbImage::new(4, 3))?;
/// let limits = ImageLimits { max_pixels: 11, ..ImageLimits::default() };
/// let error = read_image_with(&path, &limits).unwrap_err().to_string();
/// assert!(error.ends_with("the image is 4x3 = 12 pixels, more than the limit of 11 pixels"));
/// # Ok::<(), coral_core::Error>(())
/// ```
pub fn read_image_with(path: impl AsRef<Path>, limits: &ImageLimits) -> Result<RgbImage> {
    let path = path.as_ref();
    Ok(decode_image(path, open(path)?, limits)?.0.into_rgb8())
}

/// The size of a PNG, JPEG, TIFF or BMP image in pixels as stored, without decoding it.
///
/// # Errors
/// [`Error::Io`] when the file cannot be opened; [`Error::Format`] when it is not an
/// image of these formats.
///
/// # Examples
/// ```
/// use coral_io::{image_size, write_image};
/// let folder = tempfile::tempdir().unwrap();
/// let path = folder.path().join("reef.png");
/// write_image(&path, &coral_core::image::RgbImage::new(4, 3))?;
/// assert_eq!(image_size(&path)?.to_string(), "4x3");
/// # Ok::<(), coral_core::Error>(())
/// ```
pub fn image_size(path: impl AsRef<Path>) -> Result<Size> {
    let path = path.as_ref();
    let reader = guess(path, open(path)?)?;
    let (width, height) = reader.into_dimensions().map_err(|error| not_an_image(path, error))?;
    Ok(Size { width, height })
}

/// Writes a photograph or picture as PNG, whole or not at all.
///
/// # Errors
/// [`Error::InvalidParameter`] when the file name ends in something else than `.png`,
/// [`Error::InvalidInput`] for an image without pixels, [`Error::Io`] when it cannot be written.
///
/// # Examples
/// ```
/// use coral_io::write_image;
/// let error = write_image("reef.jpg", &coral_core::image::RgbImage::new(4, 3)).unwrap_err();
/// assert!(error.to_string().contains("expected a name that ends in .png"));
/// ```
pub fn write_image(path: impl AsRef<Path>, image: &RgbImage) -> Result<()> {
    let path = path.as_ref();
    let (width, height) = image.dimensions();
    write_png(path, Size { width, height }, Samples::Rgb(image.as_raw()))
}

/// What a PNG can be made of, 8 bits a sample, row by row.
pub(crate) enum Samples<'a> {
    Rgb(&'a [u8]),
    Grey(&'a [u8]),
    /// Palette indices and the palette, three bytes a colour.
    Palette(&'a [u8], Vec<u8>),
}

/// Writes samples as PNG, whole or not at all.
pub(crate) fn write_png(path: &Path, size: Size, samples: Samples<'_>) -> Result<()> {
    expect_png_name(path)?;
    if size.pixels() == 0 {
        return Err(Error::input("image", format!("{size} has no pixels, nothing to write to {}", path.display())));
    }
    coral_core::write_atomically(path, |out| {
        let mut encoder = png::Encoder::new(out, size.width, size.height);
        encoder.set_depth(png::BitDepth::Eight);
        let data = match samples {
            Samples::Rgb(data) => {
                encoder.set_color(png::ColorType::Rgb);
                // Photographs hardly shrink by searching longer, and would take most of a program's time.
                encoder.set_compression(png::Compression::Fast);
                data
            }
            Samples::Grey(data) => {
                encoder.set_color(png::ColorType::Grayscale);
                data
            }
            Samples::Palette(data, palette) => {
                encoder.set_color(png::ColorType::Indexed);
                encoder.set_palette(palette);
                data
            }
        };
        let mut writer = encoder.write_header().map_err(std::io::Error::other)?;
        writer.write_image_data(data).map_err(std::io::Error::other)?;
        writer.finish().map_err(std::io::Error::other)
    })
}

/// Decodes an image of any supported format; also tells the samples' type in the file.
pub(crate) fn decode_image<'a>(
    path: &Path,
    source: impl Seek + BufRead + 'a,
    limits: &ImageLimits,
) -> Result<(DynamicImage, ExtendedColorType)> {
    let mut reader = guess(path, source)?;
    if reader.format() == Some(ImageFormat::Jpeg) {
        let mut source = reader.into_inner();
        expect_jpeg_end(path, &mut source)?;
        reader = ImageReader::with_format(source, ImageFormat::Jpeg);
    }
    reader.limits(limits.for_decoder());
    let decoder = reader.into_decoder().map_err(|error| not_an_image(path, error))?;
    let (width, height) = decoder.dimensions();
    limits.check(path, Size { width, height })?;
    limits.check_bytes(path, decoder.total_bytes())?;
    let stored = decoder.original_color_type();
    let image = DynamicImage::from_decoder(decoder).map_err(|error| not_an_image(path, error))?;
    Ok((image, stored))
}

fn guess<R: Seek + BufRead>(path: &Path, source: R) -> Result<ImageReader<R>> {
    let reader = ImageReader::new(source).with_guessed_format().map_err(|source| Error::io(path, source))?;
    if reader.format().is_none() {
        return Err(Error::format(path, None, "not an image: expected a PNG, JPEG, TIFF or BMP file"));
    }
    Ok(reader)
}

pub(crate) fn not_an_image(path: &Path, error: ImageError) -> Error {
    match error {
        ImageError::IoError(source) if source.kind() != std::io::ErrorKind::UnexpectedEof => Error::io(path, source),
        ImageError::IoError(_) => Error::format(path, None, "the image file ends too early"),
        ImageError::Limits(error) => Error::format(path, None, format!("the image is too large to decode: {error}")),
        other => Error::format(path, None, format!("the image cannot be decoded: {other}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coral_core::image::{GrayAlphaImage, GrayImage, ImageBuffer, Luma, LumaA, Rgb, Rgba};
    use std::io::Write;
    use std::path::PathBuf;

    fn saved(folder: &tempfile::TempDir, name: &str, image: DynamicImage, format: ImageFormat) -> PathBuf {
        let path = folder.path().join(name);
        image.save_with_format(&path, format).unwrap();
        path
    }

    #[test]
    fn every_format_and_depth_becomes_rgb() {
        let folder = tempfile::tempdir().unwrap();
        let rgb = RgbImage::from_fn(5, 3, |x, y| Rgb([x as u8 * 50, y as u8 * 100, 7]));
        let grey16 = ImageBuffer::from_pixel(3, 2, Luma([0x8080u16]));
        let rgb16 = ImageBuffer::from_pixel(1, 1, Rgb([0u16, 0x7f7f, 0xffff]));
        let rgba = ImageBuffer::from_pixel(2, 2, Rgba([1u8, 2, 3, 0]));
        let cases: Vec<(DynamicImage, Rgb<u8>)> = vec![
            (rgb.clone().into(), Rgb([0, 0, 7])),
            (GrayImage::from_pixel(1, 4, Luma([9])).into(), Rgb([9; 3])),
            (GrayAlphaImage::from_pixel(4, 1, LumaA([9, 0])).into(), Rgb([9; 3])),
            (grey16.into(), Rgb([0x80; 3])),
            (rgb16.into(), Rgb([0, 0x7f, 0xff])),
            (rgba.into(), Rgb([1, 2, 3])),
        ];
        for (image, corner) in cases {
            let size = Size { width: image.width(), height: image.height() };
            let path = saved(&folder, "a", image, ImageFormat::Png);
            assert_eq!(*read_image(&path).unwrap().get_pixel(0, 0), corner);
            assert_eq!(image_size(&path).unwrap(), size);
        }
        for format in [ImageFormat::Png, ImageFormat::Tiff, ImageFormat::Bmp] {
            // The name says JPEG: the content decides.
            let path = saved(&folder, "wrong.jpg", rgb.clone().into(), format);
            assert_eq!(read_image(&path).unwrap(), rgb, "{format:?}");
        }
        let path =
            saved(&folder, "b", DynamicImage::from(RgbImage::from_pixel(16, 8, Rgb([90; 3]))), ImageFormat::Jpeg);
        assert!(read_image(&path).unwrap().pixels().all(|p| p.0.iter().all(|v| v.abs_diff(90) < 3)));
    }

    #[test]
    fn exif_orientation_does_not_turn_the_image() {
        let folder = tempfile::tempdir().unwrap();
        let mut bytes = std::io::Cursor::new(Vec::new());
        RgbImage::new(16, 8).write_to(&mut bytes, ImageFormat::Jpeg).unwrap();
        let mut bytes = bytes.into_inner();
        // A big-endian TIFF header and one entry: tag 0x112, a short, 6 = turn by 90°.
        let mut exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0".to_vec();
        let mut segment = vec![0xff, 0xe1, 0, exif.len() as u8 + 2];
        segment.append(&mut exif);
        bytes.splice(2..2, segment);
        let path = folder.path().join("turned.jpg");
        std::fs::write(&path, bytes).unwrap();
        let mut decoder = ImageReader::open(&path).unwrap().into_decoder().unwrap();
        assert_ne!(decoder.orientation().unwrap(), coral_core::image::metadata::Orientation::NoTransforms);
        assert_eq!(image_size(&path).unwrap().to_string(), "16x8");
        assert_eq!(read_image(&path).unwrap().dimensions(), (16, 8));
    }

    #[test]
    fn broken_files_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.png");
        let noise = RgbImage::from_fn(40, 40, |x, y| Rgb([(x * y % 251) as u8, (x * 7 % 13) as u8, y as u8]));
        let whole = |format| {
            let mut bytes = std::io::Cursor::new(Vec::new());
            noise.write_to(&mut bytes, format).unwrap();
            bytes.into_inner()
        };
        use ImageFormat::{Bmp, Jpeg, Png, Tiff};
        let [png, jpeg, tiff, bmp] = [Png, Jpeg, Tiff, Bmp].map(whole);
        let half = |bytes: &[u8]| bytes[..bytes.len() / 2].to_vec();
        let early = "the image file ends too early";
        for (bytes, text) in [
            (vec![], "not an image: expected a PNG, JPEG, TIFF or BMP file"),
            (b"hello, this is text".to_vec(), "not an image: expected a PNG"),
            (b"GIF89a,,,,,".to_vec(), "the image cannot be decoded"),
            (half(&png), early),
            (png[..20].to_vec(), early),
            (half(&jpeg), early),
            (jpeg[..jpeg.len() - 2].to_vec(), "the image file ends too early: expected the end marker of a JPEG"),
            (jpeg[..20].to_vec(), early),
            (half(&tiff), early),
            (half(&bmp), early),
            (bmp[..20].to_vec(), early),
        ] {
            std::fs::write(&path, bytes).unwrap();
            let error = read_image(&path).unwrap_err().to_string();
            assert!(error.contains(&format!("x.png: {text}")), "{error}\n{text}");
        }
        for (bytes, text) in [(&b""[..], "not an image: expected a PNG"), (&png[..20], early), (&bmp[..20], early)] {
            std::fs::write(&path, bytes).unwrap();
            let error = image_size(&path).unwrap_err().to_string();
            assert!(error.contains(&format!("x.png: {text}")), "{error}\n{text}");
        }
        let missing = read_image(folder.path().join("no.png")).unwrap_err().to_string();
        assert!(missing.contains("no.png: No such file"), "{missing}");
        let is_folder = read_image(folder.path()).unwrap_err().to_string();
        assert!(is_folder.contains("is a folder, expected a file"), "{is_folder}");
    }

    #[test]
    fn a_claim_of_many_pixels_is_refused_before_decoding() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bomb.png");
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, 60_000, 60_000);
        encoder.set_color(png::ColorType::Rgb);
        // The data start but never end.
        encoder.write_header().unwrap().stream_writer().unwrap().write_all(&[0; 100_000]).unwrap();
        std::fs::write(&path, bytes).unwrap();
        let error = read_image(&path).unwrap_err().to_string();
        assert!(error.contains("60000x60000 = 3600000000 pixels, more than the limit of 400000000"), "{error}");
        let tight = ImageLimits { max_bytes: 1000, ..ImageLimits::default() };
        write_image(folder.path().join("ok.png"), &RgbImage::new(100, 100)).unwrap();
        let error = read_image_with(folder.path().join("ok.png"), &tight).unwrap_err().to_string();
        assert!(error.contains("too large to decode"), "{error}");
    }

    #[test]
    fn images_without_pixels_are_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let error = write_image(folder.path().join("a.png"), &RgbImage::new(0, 3)).unwrap_err().to_string();
        assert!(error.contains("0x3 has no pixels"), "{error}");
    }
}
