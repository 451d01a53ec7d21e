use std::ops::Range;

use coral_core::{LabelMap, PointLabel, PointPropagator, Result, Size, UNLABELED, image::RgbImage};

use super::{InverseDistanceConfig, Neighbours};
use crate::{
    nearest::nearest_labels,
    parallel::{BAND_ROWS, for_each_chunk},
    points::CanonicalPoints,
};

/// Every pixel gets the class whose taking-part points weigh most in sum.
///
/// Distances are in pixels. Equal sums go to the smallest class id; sums are compared as
/// 32-bit floats. Where no point takes part ([`Neighbours::Within`]) the nearest point decides.
///
/// # Errors
/// The errors of [`validate_points`](coral_core::validate_points) and
/// [`InverseDistanceConfig::validate`].
///
/// # Examples
/// ```
/// use coral_core::{PointLabel, Size};
/// use coral_weak::{InverseDistanceConfig, inverse_distance_labels};
/// let at = |x, y, class| PointLabel { x, y, class };
/// // One point of class 1 amid four of class 0 keeps only its surroundings.
/// let points = [at(4, 0, 0), at(0, 4, 0), at(8, 4, 0), at(4, 8, 0), at(4, 4, 1)];
/// let labels = inverse_distance_labels(Size { width: 9, height: 9 }, &points, &InverseDistanceConfig::default())?;
/// assert_eq!((labels[[4, 4]], labels[[4, 5]], labels[[4, 6]], labels[[0, 0]]), (1, 1, 0, 0));
/// # Ok::<(), coral_core::Error>(())
/// ```
pub fn inverse_distance_labels(size: Size, points: &[PointLabel], config: &InverseDistanceConfig) -> Result<LabelMap> {
    config.validate()?;
    let canonical = CanonicalPoints::new(points, size)?;
    if let Some(labels) = canonical.uniform(size) {
        return Ok(labels);
    }
    let half_power = config.power as f32 / 2.0;
    let mut labels = match config.power {
        1.0 => vote(&canonical, size, config, |square, _| 1.0 / square.sqrt()),
        2.0 => vote(&canonical, size, config, |square, _| 1.0 / square),
        4.0 => vote(&canonical, size, config, |square, _| 1.0 / (square * square)),
        // Relative to the nearest, so that no power can underflow.
        _ => vote(&canonical, size, config, |square, least| (least / square).powf(half_power)),
    };
    if matches!(config.neighbours, Neighbours::Within(_)) {
        let nearest = nearest_labels(size, points)?;
        labels.zip_mut_with(&nearest, |label, near| *label = if *label == UNLABELED { *near } else { *label });
    }
    canonical.stamp(&mut labels);
    Ok(labels)
}

/// Inverse-distance voting between labelled points ([`inverse_distance_labels`]).
///
/// # Examples
/// ```
/// use coral_core::{PointLabel, PointPropagator, image::RgbImage};
/// use coral_weak::{InverseDistanceConfig, InverseDistancePropagator, Neighbours};
/// let config = InverseDistanceConfig { neighbours: Neighbours::Nearest(4), ..Default::default() };
/// let propagator = InverseDistancePropagator::new(config)?;
/// let labels = propagator.propagate(&RgbImage::new(8, 4), &[PointLabel { x: 2, y: 1, class: 9 }])?;
/// assert_eq!(labels[[3, 7]], 9);
/// # Ok::<(), coral_core::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct InverseDistancePropagator {
    config: InverseDistanceConfig,
}

impl InverseDistancePropagator {
    /// A propagator with these settings.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`](coral_core::Error::InvalidParameter) as [`InverseDistanceConfig::validate`].
    pub fn new(config: InverseDistanceConfig) -> Result<Self> {
        config.validate()?;
        Ok(Self { config })
    }
}

impl PointPropagator for InverseDistancePropagator {
    fn propagate(&self, image: &RgbImage, points: &[PointLabel]) -> Result<LabelMap> {
        inverse_distance_labels(Size::of(image), points, &self.config)
    }
}

/// Pixels computed side by side; also the side of the blocks that share candidates.
const LANES: usize = 16;
/// Width of the regions whose candidates the blocks choose from.
const REGION: usize = 128;

type Lanes = [f32; LANES];

#[derive(Clone, Copy)]
struct Site {
    x: f32,
    y: f32,
    /// Position in the table of classes.
    class: u8,
}

/// The class of the largest sum of `weight(squared distance, least squared distance)`;
/// [`UNLABELED`] where no point takes part.
fn vote(
    canonical: &CanonicalPoints,
    size: Size,
    config: &InverseDistanceConfig,
    weight: impl Fn(f32, f32) -> f32 + Copy + Send + Sync,
) -> LabelMap {
    let site = |(p, &class): (&PointLabel, &u8)| Site { x: p.x as f32, y: p.y as f32, class };
    let mut sites: Vec<Site> = canonical.points.iter().zip(&canonical.class_index).map(site).collect();
    sites.sort_by_key(|site| site.class); // stable: a fixed order of summation
    let (width, height) = (size.width as usize, size.height as usize);
    let mut labels = LabelMap::from_elem(size.shape(), UNLABELED);
    if let Some(pixels) = labels.as_slice_mut() {
        for_each_chunk(pixels, BAND_ROWS * width, |band, rows| {
            let top = band * BAND_ROWS;
            let bottom = (top + BAND_ROWS).min(height);
            let mut voter = Voter::new(config.neighbours, weight);
            let mut nearby = Vec::new();
            for left in (0..width).step_by(REGION) {
                let region = left..(left + REGION).min(width);
                candidates(&sites, config.neighbours, (region.clone(), top..bottom), &mut nearby);
                for y in (top..bottom).step_by(LANES) {
                    for x in region.clone().step_by(LANES) {
                        let block = (x..(x + LANES).min(width), y..(y + LANES).min(bottom));
                        let mut out = Rows { pixels: rows, width, top, classes: &canonical.classes };
                        voter.block(&nearby, block, &mut out);
                    }
                }
            }
        });
    }
    labels
}

/// The part of a label map that one band writes.
struct Rows<'a> {
    pixels: &'a mut [u8],
    width: usize,
    top: usize,
    classes: &'a [u8],
}

impl Rows<'_> {
    fn row(&mut self, y: usize, columns: Range<usize>) -> &mut [u8] {
        let base = (y - self.top) * self.width;
        &mut self.pixels[base + columns.start..base + columns.end]
    }
}

/// The sites that can take part at some pixel of a box (columns, rows), in their order.
fn candidates(sites: &[Site], neighbours: Neighbours, area: (Range<usize>, Range<usize>), chosen: &mut Vec<Site>) {
    let span = |range: &Range<usize>| {
        let (first, last) = (range.start as f64, range.end as f64 - 1.0);
        ((first + last) / 2.0, (last - first) / 2.0)
    };
    let ((x, half_width), (y, half_height)) = (span(&area.0), span(&area.1));
    let reach = half_width.hypot(half_height) + 1e-3;
    let distance = |site: &Site| ((f64::from(site.x) - x).powi(2) + (f64::from(site.y) - y).powi(2)).sqrt();
    let limit = match neighbours {
        Neighbours::Within(radius) => radius + reach,
        Neighbours::Nearest(k) if k < sites.len() => {
            // A pixel's k-th nearest is at most `reach` farther from it than from the centre.
            let mut distances: Vec<f64> = sites.iter().map(distance).collect();
            *distances.select_nth_unstable_by(k - 1, f64::total_cmp).1 + 2.0 * reach
        }
        _ => f64::INFINITY,
    };
    chosen.clear();
    chosen.extend(sites.iter().filter(|site| distance(site) <= limit));
}

/// Scratch space and settings of one band.
struct Voter<W> {
    neighbours: Neighbours,
    weight: W,
    nearby: Vec<Site>,
    /// Squared distances per candidate.
    squares: Vec<Lanes>,
    /// The smallest squared distances seen so far, ascending per lane.
    smallest: Vec<Lanes>,
}

impl<W: Fn(f32, f32) -> f32 + Copy> Voter<W> {
    fn new(neighbours: Neighbours, weight: W) -> Self {
        Self { neighbours, weight, nearby: Vec::new(), squares: Vec::new(), smallest: Vec::new() }
    }

    fn block(&mut self, region: &[Site], (columns, rows): (Range<usize>, Range<usize>), out: &mut Rows<'_>) {
        let mut nearby = std::mem::take(&mut self.nearby);
        candidates(region, self.neighbours, (columns.clone(), rows.clone()), &mut nearby);
        let one_class = nearby.iter().all(|site| site.class == nearby[0].class);
        let sure = one_class && !matches!(self.neighbours, Neighbours::Within(_));
        for y in rows {
            let pixels = out.classes;
            let row = out.row(y, columns.clone());
            match nearby.first() {
                None => {}
                Some(site) if sure => row.fill(pixels[usize::from(site.class)]),
                Some(_) => {
                    let winners = self.row(&nearby, columns.start as f32, y as f32);
                    for (pixel, winner) in row.iter_mut().zip(winners) {
                        // Past the table: no point takes part.
                        *pixel = pixels.get(winner as usize).copied().unwrap_or(UNLABELED);
                    }
                }
            }
        }
        self.nearby = nearby;
    }

    /// The winning class (position in the table) of the pixels (`left`.., `y`).
    fn row(&mut self, nearby: &[Site], left: f32, y: f32) -> [u32; LANES] {
        self.squares.clear();
        for site in nearby {
            let (dx, dy) = (left - site.x, y - site.y);
            let square = |lane: usize| (dx + lane as f32) * (dx + lane as f32) + dy * dy;
            // Only labelled pixels are at distance 0, and those keep their own class.
            self.squares.push(std::array::from_fn(|lane| if square(lane) > 0.5 { square(lane) } else { 0.5 }));
        }
        let (least, limit) = self.limits();
        let mut winner = [u32::MAX; LANES];
        let mut best = [0.0; LANES];
        let mut from = 0;
        for group in nearby.chunk_by(|a, b| a.class == b.class) {
            let mut sum = [0.0; LANES];
            for squares in &self.squares[from..from + group.len()] {
                for lane in 0..LANES {
                    let weight = (self.weight)(squares[lane], least[lane]);
                    sum[lane] += if squares[lane] <= limit[lane] { weight } else { 0.0 };
                }
            }
            from += group.len();
            let class = u32::from(group[0].class);
            for lane in 0..LANES {
                let wins = sum[lane] > best[lane];
                best[lane] = if wins { sum[lane] } else { best[lane] };
                winner[lane] = if wins { class } else { winner[lane] };
            }
        }
        winner
    }

    /// Per lane the smallest squared distance, and the largest that still takes part.
    fn limits(&mut self) -> (Lanes, Lanes) {
        let keep = match self.neighbours {
            Neighbours::Nearest(k) if k < self.squares.len() => k,
            _ => 1,
        };
        self.smallest.clear();
        self.smallest.resize(keep, [f32::INFINITY; LANES]);
        for (seen, squares) in self.squares.iter().enumerate() {
            // Insertion into the sorted list, all lanes at once.
            let mut rest = *squares;
            for kept in &mut self.smallest[..keep.min(seen + 1)] {
                for lane in 0..LANES {
                    // Plain comparisons compile to one instruction each; `f32::min` minds NaN.
                    let (a, b) = (kept[lane], rest[lane]);
                    kept[lane] = if b < a { b } else { a };
                    rest[lane] = if b < a { a } else { b };
                }
            }
        }
        let limit = match self.neighbours {
            Neighbours::Nearest(k) if k < self.squares.len() => self.smallest[keep - 1],
            Neighbours::Within(radius) => [(radius * radius) as f32; LANES],
            // As many as there are, or more.
            Neighbours::Nearest(_) | Neighbours::All => [f32::INFINITY; LANES],
        };
        (self.smallest[0], limit)
    }
}
