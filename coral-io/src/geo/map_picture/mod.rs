//! Pictures of class maps and of their errors.

mod confusion;
mod decimate;
mod furniture;
mod lines;

use coral_core::image::{Rgb, RgbImage, imageops};
use coral_core::{ClassId, ClassSet, Crs, Error, LabelRaster, RasterGrid, Result, Size, UNLABELED};
use serde::{Deserialize, Serialize};

pub use self::confusion::confusion_picture;
use self::decimate::Decimated;
use self::furniture::Furniture;
use self::lines::draw_line;
use super::polygons::{ClassPolygons, rings};
use crate::pictures::{Entry, PAPER, beside, text_scale};

/// Metres of a degree of latitude; of longitude, at the equator.
const METRES_OF_A_DEGREE: f64 = 111_320.0;

/// Which of several pixels of the map a pixel of the picture shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Decimation {
    /// The class of most of them; of equals, the one with the smallest id.
    #[default]
    Majority,
    /// The one in the middle.
    Nearest,
}

/// What the legend says of a class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Amounts {
    /// The percentage of all pixels that have a class.
    #[default]
    Percent,
    /// The area.
    Area,
}

/// How a map is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MapPictureConfig {
    /// Pixels along the longer side of the map, at most; small maps are enlarged by a whole factor.
    pub size: u32,
    /// How large maps are reduced.
    pub decimation: Decimation,
    /// What stands beside the names of the classes.
    pub amounts: Amounts,
    /// Whether lines of equal coordinates are drawn and labelled; of maps alone that have north at the top.
    pub coordinates: bool,
}

impl Default for MapPictureConfig {
    fn default() -> Self {
        Self { size: 1200, decimation: Decimation::Majority, amounts: Amounts::Percent, coordinates: false }
    }
}

/// A picture of a class map with a legend, a scale bar and an arrow to the north.
///
/// # Examples
/// ```
/// use coral_core::{ClassSet, Crs, GeoTransform, LabelMap, RasterGrid, Size};
/// use coral_io::geo::{MapPicture, MapPictureConfig};
/// let map = LabelMap::from_shape_fn((300, 400), |(y, x)| if x < 2 * y { 0 } else { 1 });
/// let size = Size { width: 400, height: 300 };
/// let grid = RasterGrid { size, transform: GeoTransform::north_up(0.0, 0.0, 0.1, 0.1), crs: Crs::utm(40, true)? };
/// let config = MapPictureConfig { size: 200, ..Default::default() };
/// let classes = ClassSet::from_names(["sand", "coral"])?;
/// let picture = MapPicture::new(grid, &classes, config)?.draw(&map)?;
/// assert!(picture.width() > 200 && picture.height() > 150);
/// assert!(picture.pixels().any(|pixel| pixel.0 == classes.color(0)));
/// # Ok::<(), coral_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct MapPicture<'a> {
    grid: RasterGrid,
    classes: &'a ClassSet,
    config: MapPictureConfig,
    outlines: Option<&'a ClassPolygons>,
}

impl<'a> MapPicture<'a> {
    /// A picture of maps on a grid.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] for a grid without pixels or in a system of which the scale is not known: neither in metres
    /// nor [`Crs::WGS84`]; [`Error::InvalidParameter`] for a size of 0 or beyond 20 000 pixels.
    pub fn new(grid: RasterGrid, classes: &'a ClassSet, config: MapPictureConfig) -> Result<Self> {
        grid.validate()?;
        if !grid.crs.is_metric() && grid.crs != Crs::WGS84 {
            let reason = format!("expected coordinates in metres (e.g. UTM) or {}, got {}", Crs::WGS84, grid.crs);
            return Err(Error::input("grid", reason));
        }
        if !(1..=20_000).contains(&config.size) {
            return Err(Error::parameter("size", format!("expected 1 to 20000 pixels, got {}", config.size)));
        }
        Ok(Self { grid, classes, config, outlines: None })
    }

    /// Draws the outlines of polygons over the map, too.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when they are in another system than the map.
    pub fn with_outlines(mut self, outlines: &'a ClassPolygons) -> Result<Self> {
        self.grid.crs.expect("outlines", outlines.crs)?;
        self.outlines = Some(outlines);
        Ok(self)
    }

    /// Draws a map, which is read once from top to bottom. Pixels without a class are left blank.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] when the map has another size than the grid, and errors of the reader.
    pub fn draw(&self, labels: &dyn LabelRaster) -> Result<RgbImage> {
        self.grid.size.expect("labels", labels.size())?;
        let reduced = decimate::decimate(labels, self.config.size, self.config.decimation)?;
        let mut map = self.paint(&reduced);
        let scale = text_scale(Size::of(&map));
        if let Some(outlines) = self.outlines {
            self.draw_outlines(&mut map, outlines, reduced.pixels_each());
        }
        let furniture =
            Furniture { grid: &self.grid, metres: self.metres(), pixels_each: reduced.pixels_each(), scale };
        let framed = furniture.frame(map, self.config.coordinates);
        Ok(beside(&framed, &self.entries(&reduced.counts)))
    }

    fn paint(&self, reduced: &Decimated) -> RgbImage {
        let Size { width, height } = Size::of_map(&reduced.labels);
        let color = |x: u32, y: u32| match reduced.labels[[y as usize, x as usize]] {
            UNLABELED => PAPER,
            id => Rgb(self.classes.color(id)),
        };
        let map = RgbImage::from_fn(width, height, color);
        if reduced.zoom == 1 {
            return map;
        }
        imageops::resize(&map, width * reduced.zoom, height * reduced.zoom, imageops::FilterType::Nearest)
    }

    /// Every ring in white between two dark lines, which show on any colour.
    fn draw_outlines(&self, map: &mut RgbImage, outlines: &ClassPolygons, pixels_each: f64) {
        let thickness = f64::from(text_scale(Size::of(map)));
        for (width, color) in [(3.0 * thickness, [20; 3]), (thickness, [255; 3])] {
            for ring in outlines.polygons.iter().flat_map(|one| &one.geometry.0).flat_map(rings) {
                for line in ring.lines() {
                    let at = |at: geo::Coord<f64>| {
                        let (x, y) = self.grid.transform.pixel(at.x, at.y);
                        (x * pixels_each, y * pixels_each)
                    };
                    draw_line(map, [at(line.start), at(line.end)], width, color);
                }
            }
        }
    }

    /// Metres that a step of one coordinate unit in x and in y is long, in the middle of the map.
    fn metres(&self) -> (f64, f64) {
        if self.grid.crs != Crs::WGS84 {
            return (1.0, 1.0);
        }
        let Size { width, height } = self.grid.size;
        let (_, latitude) = self.grid.transform.world(f64::from(width) / 2.0, f64::from(height) / 2.0);
        (METRES_OF_A_DEGREE * latitude.to_radians().cos(), METRES_OF_A_DEGREE)
    }

    fn entries(&self, counts: &[u64; 256]) -> Vec<Entry> {
        let labeled: u64 = counts[..usize::from(UNLABELED)].iter().sum();
        let mut present: Vec<ClassId> = (0..UNLABELED).filter(|&id| counts[usize::from(id)] > 0).collect();
        present.sort_by_key(|&id| std::cmp::Reverse(counts[usize::from(id)]));
        let (x, y) = self.metres();
        let entry = |id: ClassId| {
            let pixels = counts[usize::from(id)] as f64;
            let amount = match self.config.amounts {
                Amounts::Percent => format!("{:.1}%", 100.0 * pixels / labeled as f64),
                Amounts::Area => area_text(pixels * self.grid.transform.pixel_area() * x * y),
            };
            Entry::new(id, self.classes, amount)
        };
        present.into_iter().map(entry).collect()
    }
}

fn area_text(square_metres: f64) -> String {
    match square_metres {
        area if area >= 1e6 => format!("{:.2} km2", area / 1e6),
        area if area >= 1e4 => format!("{:.2} ha", area / 1e4),
        area if area >= 100.0 => format!("{area:.0} m2"),
        area => format!("{area:.2} m2"),
    }
}

#[cfg(test)]
mod tests;
