//! Numbers of the TIFF tags that place a raster in the world.

/// Whether an image is a smaller version (bit 0) or a mask (bit 2) of another.
pub(super) const NEW_SUBFILE_TYPE: u16 = 254;
pub(super) const COLOR_MAP: u16 = 320;
/// Width, height and depth of a pixel in the world.
pub(super) const PIXEL_SCALE: u16 = 33550;
/// Pixel and world coordinates of known points.
pub(super) const TIE_POINTS: u16 = 33922;
/// A 4×4 matrix from pixel to world coordinates.
pub(super) const TRANSFORMATION: u16 = 34264;
pub(super) const GEO_KEYS: u16 = 34735;
pub(super) const GEO_TEXTS: u16 = 34737;
/// GDAL's names and values, as XML.
pub(super) const GDAL_METADATA: u16 = 42112;
/// GDAL's no-data value, as text.
pub(super) const GDAL_NO_DATA: u16 = 42113;
