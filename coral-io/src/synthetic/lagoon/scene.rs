use coral_core::image::{Rgb, RgbImage};
use coral_core::{
    ClassId, Crs, Error, GeoTransform, ImageRaster, ImageWindow, LabelMap, LabelRaster, RasterGrid, Rect, Result, Size,
};
use ndarray::Array2;

use super::SyntheticLagoonConfig;
use super::skin::Skin;
use crate::parallel;
use crate::synthetic::geometry::P2;
use crate::synthetic::noise::{Fractal, cells, gradient, smoothstep, unit};

pub(super) const BRANCHED: ClassId = 0;
pub(super) const TABULAR: ClassId = 1;
pub(super) const MASSIVE: ClassId = 2;
pub(super) const SUB_MASSIVE: ClassId = 3;
pub(super) const SAND: ClassId = 4;

/// Shapes do not depend on the pixels that show them.
const ANY_SCALE: f32 = 1e6;

/// A made-up lagoon: thickets, plates and boulders of coral in sand, as a drone sees it and as a diver would.
///
/// Every pixel follows from the seed and its place alone, so that windows of an orthophoto of any size are drawn when
/// they are asked for ([`ImageRaster`], [`LabelRaster`]) and frames from close by show the same corals.
///
/// # Examples
/// ```
/// use coral_core::{LabelRaster, Rect, Size};
/// use coral_io::{SyntheticLagoon, SyntheticLagoonConfig};
/// let lagoon = SyntheticLagoon::new(SyntheticLagoonConfig::default(), 7)?;
/// let labels = lagoon.read_labels(Rect { x: 900, y: 10, width: 64, height: 48 })?;
/// assert_eq!(labels.dim(), (48, 64));
/// assert!(labels.iter().all(|&class| class < 5));
/// assert_eq!(lagoon.grid().crs.to_string(), "EPSG:32740");
/// # Ok::<(), coral_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct SyntheticLagoon {
    pub(super) config: SyntheticLagoonConfig,
    seed: u32,
    /// The value of the reef's noise below which there is sand.
    shore: f32,
}

/// What is at a place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cover {
    pub(super) class: ClassId,
    /// From the middle (0) of a plate to its rim (1).
    pub(super) rim: f32,
}

impl SyntheticLagoon {
    /// A lagoon drawn from `seed`.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] naming the field of `config` that is out of range.
    pub fn new(config: SyntheticLagoonConfig, seed: u64) -> Result<Self> {
        config.validate()?;
        // Both halves count.
        let seed = (seed ^ (seed >> 32)) as u32;
        let mut lagoon = Self { config, seed: seed.wrapping_mul(0x9E37_79B1) ^ 0x5EED, shore: 0.0 };
        let side = lagoon.config.zone_m * 12.0 / 64.0;
        let place = |i: u16| P2 { x: f32::from(i % 64) * side, y: f32::from(i / 64) * side };
        let mut values: Vec<f32> = (0..4096).map(|i| lagoon.reef(place(i))).collect();
        values.sort_unstable_by(f32::total_cmp);
        lagoon.shore = values[((lagoon.config.sand * 4095.0) as usize).min(4095)];
        Ok(lagoon)
    }

    /// Where the orthophoto lies: in UTM zone 40 south.
    pub fn grid(&self) -> RasterGrid {
        let side = f64::from(self.config.pixel_m);
        let transform = GeoTransform::north_up(318_400.0, 7_667_200.0, side, side);
        RasterGrid { size: self.config.size, transform, crs: Crs { epsg: 32740 } }
    }

    /// What grows at a place in the grid's coordinates.
    pub fn class_at(&self, x: f64, y: f64) -> ClassId {
        self.cover(self.local(x, y)).class
    }

    /// Metres east and south of the grid's corner.
    pub(super) fn local(&self, x: f64, y: f64) -> P2 {
        let corner = self.grid().transform;
        P2 { x: (x - corner.x) as f32, y: (corner.y - y) as f32 }
    }

    fn reef(&self, p: P2) -> f32 {
        Fractal { frequency: 1.0 / self.config.zone_m, octaves: 4, ppm: ANY_SCALE }.at(p, self.seed)
    }

    pub(super) fn cover(&self, place: P2) -> Cover {
        let noise = |wavelength: f32, part: u32| gradient(place.scale(1.0 / wavelength), self.seed.wrapping_add(part));
        let p = place.add(P2 { x: noise(1.7, 11), y: noise(1.7, 12) }.scale(0.55));
        let reef = self.reef(p) - self.shore;
        let plain = |class| Cover { class, rim: 0.0 };

        let plate = cells(p.scale(1.0 / 5.0), self.seed.wrapping_add(21));
        let radius = 0.3 + 0.18 * unit(plate.id, 0);
        if plate.nearest < radius && unit(plate.id, 1) < 0.5 * smoothstep(-0.22, 0.12, reef) {
            return Cover { class: TABULAR, rim: plate.nearest / radius };
        }
        if reef < 0.0 {
            let boulder = cells(p.scale(1.0 / 6.5), self.seed.wrapping_add(22));
            let alone = boulder.nearest < 0.14 + 0.1 * unit(boulder.id, 0) && unit(boulder.id, 1) < 0.3;
            return plain(if alone { MASSIVE } else { SAND });
        }
        let frequency = 1.7 / self.config.zone_m;
        let form = Fractal { frequency, octaves: 3, ppm: ANY_SCALE }.at(p, self.seed.wrapping_add(31));
        plain(if form < -0.1 {
            BRANCHED
        } else if form < 0.14 {
            SUB_MASSIVE
        } else {
            MASSIVE
        })
    }

    pub(super) fn skin(&self, ppm: f32) -> Skin {
        Skin { seed: self.seed, ppm, difficulty: self.config.difficulty }
    }

    fn place(&self, x: u32, y: u32) -> P2 {
        P2 { x: x as f32 + 0.5, y: y as f32 + 0.5 }.scale(self.config.pixel_m)
    }

    /// The rows of `window`, each by `draw` from the place and pixel.
    fn rows<T: Send>(&self, window: Rect, draw: impl Fn(P2, u32, u32) -> T + Sync + Send) -> Result<Vec<Vec<T>>> {
        window.expect_inside("window", self.config.size)?;
        let rows: Vec<u32> = (window.y..window.y + window.height).collect();
        let row = |&y: &u32| (window.x..window.x + window.width).map(|x| draw(self.place(x, y), x, y)).collect();
        Ok(parallel::map(&rows, row))
    }
}

impl ImageRaster for SyntheticLagoon {
    fn size(&self) -> Size {
        self.config.size
    }

    fn read_image(&self, window: Rect) -> Result<ImageWindow> {
        let skin = self.skin(1.0 / self.config.pixel_m);
        let rows = self.rows(window, |place, x, y| skin.drone(place, self.cover(place), (x, y)))?;
        let mut image = RgbImage::new(window.width, window.height);
        for (pixel, color) in image.pixels_mut().zip(rows.into_iter().flatten()) {
            *pixel = Rgb(color);
        }
        let valid = Array2::from_elem((window.height as usize, window.width as usize), true);
        Ok(ImageWindow { image, valid })
    }
}

impl LabelRaster for SyntheticLagoon {
    fn size(&self) -> Size {
        self.config.size
    }

    fn read_labels(&self, window: Rect) -> Result<LabelMap> {
        let labels = self.rows(window, |place, _, _| self.cover(place).class)?.into_iter().flatten().collect();
        let shape = (window.height as usize, window.width as usize);
        LabelMap::from_shape_vec(shape, labels).map_err(|error| Error::input("window", error.to_string()))
    }
}
