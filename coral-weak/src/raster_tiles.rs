use coral_core::image::Rgb;
use coral_core::{
    Dataset, Error, ImageRaster, ImageWindow, LabelMap, LabelRaster, LabeledImage, Rect, Result, Size, UNLABELED,
};
use serde::{Deserialize, Serialize};

use crate::parallel;

/// Which tiles of an annotated raster are fit for training; the default is the published rules.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TileRules {
    /// Tiles in pixels. They do not overlap, and what is left at the right and bottom edge is not used.
    pub tile: Size,
    /// The largest share of pixels without annotation, 0 to 1.
    pub max_unlabeled: f64,
    /// The largest share of black pixels and pixels without data, 0 to 1.
    pub max_black: f64,
    /// The largest share of white pixels, 0 to 1: foam and overexposed sand.
    pub max_white: f64,
    /// Whether tiles have to lie inside the convex hull of the annotated pixels.
    pub inside_hull: bool,
}

impl Default for TileRules {
    fn default() -> Self {
        let tile = Size { width: 512, height: 512 };
        Self { tile, max_unlabeled: 0.0, max_black: 0.05, max_white: 0.10, inside_hull: true }
    }
}

impl TileRules {
    /// Checks every field against its documented range.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] naming the field.
    pub fn validate(&self) -> Result<()> {
        if self.tile.pixels() == 0 {
            return Err(Error::parameter("tile", format!("a tile of {} has no pixel", self.tile)));
        }
        let shares =
            [("max_unlabeled", self.max_unlabeled), ("max_black", self.max_black), ("max_white", self.max_white)];
        match shares.into_iter().find(|(_, share)| !(0.0..=1.0).contains(share)) {
            Some((name, share)) => Err(Error::parameter(name, format!("expected 0 to 1, got {share}"))),
            None => Ok(()),
        }
    }
}

/// The tiles that [`training_tiles`] found fit, and why the others are not; each counts for the first rule it breaks.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TrainingTiles {
    /// The tiles to train on, row by row.
    pub kept: Vec<Rect>,
    /// Tiles that the caller excluded, such as those that touch test polygons.
    pub excluded: usize,
    /// Tiles that reach out of the hull of the annotation.
    pub outside_hull: usize,
    /// Tiles with too much without annotation.
    pub unlabeled: usize,
    /// Tiles with too much black or without data.
    pub black: usize,
    /// Tiles with too much white.
    pub white: usize,
}

/// The tiles of a raster that keep all `rules` and that `excluded` does not call out.
///
/// # Errors
/// [`Error::ShapeMismatch`] when the annotation has another size than the raster; [`Error::InvalidInput`] when not one
/// tile fits the raster; [`Error::InvalidParameter`] naming a rule; the rasters' errors.
///
/// # Examples
/// ```
/// use coral_core::{LabelMap, Rect, Size, UNLABELED, image::{Rgb, RgbImage}};
/// use coral_weak::{TileRules, training_tiles};
/// let image = RgbImage::from_pixel(12, 4, Rgb([90, 120, 110]));
/// let labels = LabelMap::from_shape_fn((4, 12), |(_, x)| if x == 5 { UNLABELED } else { 1 });
/// let rules = TileRules { tile: Size { width: 4, height: 4 }, ..Default::default() };
/// let tiles = training_tiles(&image, &labels, &|_| false, &rules)?;
/// assert_eq!((tiles.kept.len(), tiles.unlabeled), (2, 1));
/// # Ok::<(), coral_core::Error>(())
/// ```
///
/// # References
/// Contini et al., *The point is the mask* (2025), tiles of the coarse training.
pub fn training_tiles(
    image: &dyn ImageRaster,
    labels: &dyn LabelRaster,
    excluded: &(dyn Fn(Rect) -> bool + Sync),
    rules: &TileRules,
) -> Result<TrainingTiles> {
    rules.validate()?;
    let size = image.size();
    size.expect("the annotation", labels.size())?;
    let Size { width, height } = rules.tile;
    let hull = if rules.inside_hull { annotated_hull(labels)? } else { Vec::new() };
    let windows: Vec<Rect> = (0..size.height / height)
        .flat_map(|row| (0..size.width / width).map(move |column| (column, row)))
        .map(|(column, row)| Rect { x: column * width, y: row * height, width, height })
        .collect();
    if windows.is_empty() {
        return Err(Error::input("raster", format!("no tile of {} fits a raster of {size}", rules.tile)));
    }
    let verdicts = parallel::map(windows, |tile| {
        let verdict = if excluded(tile) {
            Verdict::Excluded
        } else if rules.inside_hull && !holds_tile(&hull, tile) {
            Verdict::OutsideHull
        } else {
            inspect(&labels.read_labels(tile)?, &|| image.read_image(tile), rules)?
        };
        Ok((tile, verdict))
    });
    let mut tiles = TrainingTiles::default();
    for verdict in verdicts {
        match verdict? {
            (tile, Verdict::Kept) => tiles.kept.push(tile),
            (_, Verdict::Excluded) => tiles.excluded += 1,
            (_, Verdict::OutsideHull) => tiles.outside_hull += 1,
            (_, Verdict::Unlabeled) => tiles.unlabeled += 1,
            (_, Verdict::Black) => tiles.black += 1,
            (_, Verdict::White) => tiles.white += 1,
        }
    }
    Ok(tiles)
}

enum Verdict {
    Kept,
    Excluded,
    OutsideHull,
    Unlabeled,
    Black,
    White,
}

/// Looks at the picture only when the annotation is fit.
fn inspect(labels: &LabelMap, read: &dyn Fn() -> Result<ImageWindow>, rules: &TileRules) -> Result<Verdict> {
    let share = |count: usize| count as f64 / labels.len() as f64;
    if share(labels.iter().filter(|&&label| label == UNLABELED).count()) > rules.max_unlabeled {
        return Ok(Verdict::Unlabeled);
    }
    let ImageWindow { image, valid } = read()?;
    let dark = |(pixel, valid): &(&Rgb<u8>, &bool)| !**valid || pixel.0 == [0; 3];
    if share(image.pixels().zip(&valid).filter(dark).count()) > rules.max_black {
        return Ok(Verdict::Black);
    }
    let white = image.pixels().filter(|pixel| pixel.0 == [255; 3]).count();
    Ok(if share(white) > rules.max_white { Verdict::White } else { Verdict::Kept })
}

type Point = (i64, i64);

/// The convex hull of the annotated pixels' corners, counter-clockwise in pixel coordinates with y down; no corner where
/// nothing is annotated.
fn annotated_hull(labels: &dyn LabelRaster) -> Result<Vec<Point>> {
    const ROWS: u32 = 256;
    let Size { width, height } = labels.size();
    let mut corners: Vec<Point> = Vec::new();
    for y in (0..height).step_by(ROWS as usize) {
        let band = labels.read_labels(Rect { x: 0, y, width, height: ROWS.min(height - y) })?;
        for (row, line) in (i64::from(y)..).zip(band.outer_iter()) {
            let known = |label: &u8| *label != UNLABELED;
            if let (Some(first), Some(last)) = (line.iter().position(known), line.iter().rposition(known)) {
                let (left, right) = (first as i64, last as i64 + 1);
                corners.extend([(left, row), (left, row + 1), (right, row), (right, row + 1)]);
            }
        }
    }
    corners.sort_unstable();
    corners.dedup();
    let half = |points: &mut dyn Iterator<Item = Point>| {
        let mut chain: Vec<Point> = Vec::new();
        for point in points {
            while let [.., a, b] = chain[..]
                && cross(a, b, point) <= 0
            {
                chain.pop();
            }
            chain.push(point);
        }
        chain.pop();
        chain
    };
    let mut hull = half(&mut corners.iter().copied());
    hull.extend(half(&mut corners.iter().rev().copied()));
    Ok(hull)
}

fn cross(a: Point, b: Point, c: Point) -> i64 {
    (b.0 - a.0) * (c.1 - a.1) - (b.1 - a.1) * (c.0 - a.0)
}

fn holds_tile(hull: &[Point], tile: Rect) -> bool {
    let (left, top) = (i64::from(tile.x), i64::from(tile.y));
    let (right, bottom) = (left + i64::from(tile.width), top + i64::from(tile.height));
    let inside = |corner: Point| (0..hull.len()).all(|i| cross(hull[i], hull[(i + 1) % hull.len()], corner) >= 0);
    !hull.is_empty() && [(left, top), (right, top), (right, bottom), (left, bottom)].into_iter().all(inside)
}

/// Windows of a raster and its annotation as training images, read when they are asked for.
///
/// # Examples
/// ```
/// use coral_core::{Dataset, LabelMap, Rect, image::RgbImage};
/// use coral_weak::RasterTiles;
/// let windows = vec![Rect { x: 4, y: 2, width: 3, height: 2 }];
/// let tiles = RasterTiles::new(RgbImage::new(9, 9), LabelMap::zeros((9, 9)), windows)?;
/// assert_eq!((tiles.len(), tiles.name(0)?), (1, "tile_4_2".to_owned()));
/// assert_eq!(tiles.get(0)?.labels.dim(), (2, 3));
/// # Ok::<(), coral_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct RasterTiles<I, L> {
    image: I,
    labels: L,
    windows: Vec<Rect>,
}

impl<I: ImageRaster, L: LabelRaster> RasterTiles<I, L> {
    /// The `windows` of a raster and its annotation.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] when the two differ in size, [`Error::InvalidInput`] for a window that is not inside.
    pub fn new(image: I, labels: L, windows: Vec<Rect>) -> Result<Self> {
        let size = image.size();
        size.expect("the annotation", labels.size())?;
        windows.iter().try_for_each(|window| window.expect_inside("window", size))?;
        Ok(Self { image, labels, windows })
    }

    /// The window of sample `index`.
    ///
    /// # Errors
    /// [`Error::IndexOutOfRange`] past the last.
    pub fn window(&self, index: usize) -> Result<Rect> {
        let len = self.windows.len();
        self.windows.get(index).copied().ok_or_else(|| Error::IndexOutOfRange { what: "tiles".into(), index, len })
    }
}

impl<I: ImageRaster, L: LabelRaster> Dataset for RasterTiles<I, L> {
    type Item = LabeledImage;

    fn len(&self) -> usize {
        self.windows.len()
    }

    /// Pixels without data are unlabelled.
    fn get(&self, index: usize) -> Result<LabeledImage> {
        let window = self.window(index)?;
        let (ImageWindow { image, valid }, mut labels) =
            (self.image.read_image(window)?, self.labels.read_labels(window)?);
        ndarray::Zip::from(&mut labels).and(&valid).for_each(|label, &valid| {
            if !valid {
                *label = UNLABELED;
            }
        });
        Ok(LabeledImage { image, labels })
    }

    fn name(&self, index: usize) -> Result<String> {
        self.window(index).map(|window| format!("tile_{}_{}", window.x, window.y))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coral_core::image::RgbImage;

    const TILE: Size = Size { width: 4, height: 4 };

    fn rules() -> TileRules {
        TileRules { tile: TILE, ..Default::default() }
    }

    #[test]
    fn each_rule_drops_its_tile() {
        let mut image = RgbImage::from_pixel(26, 9, Rgb([80, 90, 100]));
        let labels = LabelMap::from_elem((9, 26), 2);
        for (x, color) in [(4, 0), (5, 0), (8, 255), (9, 255)] {
            image.put_pixel(x, 0, Rgb([color; 3]));
        }
        let tiles = training_tiles(&image, &labels, &|tile| tile.x == 12 && tile.y == 4, &rules()).unwrap();
        assert_eq!((tiles.black, tiles.white, tiles.excluded, tiles.kept.len()), (1, 1, 1, 9));
        assert!(tiles.kept.iter().all(|tile| tile.x <= 20 && tile.y <= 4));
        let tolerant = TileRules { max_black: 0.125, max_white: 0.125, ..rules() };
        assert_eq!(training_tiles(&image, &labels, &|_| false, &tolerant).unwrap().kept.len(), 12);
    }

    #[test]
    fn tiles_lie_inside_the_hull_of_the_annotation() {
        // A triangle of annotation in an image of 40 by 40.
        let labels = LabelMap::from_shape_fn((40, 40), |(y, x)| if x <= y { 0 } else { UNLABELED });
        let image = RgbImage::from_pixel(40, 40, Rgb([80, 90, 100]));
        let loose = TileRules { max_unlabeled: 1.0, ..rules() };
        let tiles = training_tiles(&image, &labels, &|_| false, &loose).unwrap();
        assert_eq!((tiles.kept.len(), tiles.outside_hull), (45, 55));
        assert!(tiles.kept.iter().all(|tile| tile.x < tile.y));
        let anywhere = TileRules { inside_hull: false, ..loose };
        assert_eq!(training_tiles(&image, &labels, &|_| false, &anywhere).unwrap().kept.len(), 100);
        let nothing = LabelMap::from_elem((40, 40), UNLABELED);
        assert_eq!(training_tiles(&image, &nothing, &|_| false, &loose).unwrap().outside_hull, 100);
    }

    #[test]
    fn bad_input_is_named() {
        let image = RgbImage::new(9, 9);
        let run = |labels: LabelMap, rules: TileRules| {
            training_tiles(&image, &labels, &|_| false, &rules).unwrap_err().to_string()
        };
        assert!(run(LabelMap::zeros((9, 8)), rules()).contains("the annotation"));
        assert!(run(LabelMap::zeros((9, 9)), TileRules::default()).contains("512x512"));
        assert!(run(LabelMap::zeros((9, 9)), TileRules { max_white: 2.0, ..rules() }).contains("max_white"));
        let outside = vec![Rect { x: 6, y: 0, width: 4, height: 4 }];
        assert!(RasterTiles::new(image.clone(), LabelMap::zeros((9, 9)), outside).is_err());
    }
}
