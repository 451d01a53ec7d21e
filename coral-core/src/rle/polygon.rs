use super::checked_pixels;
use super::runs::RunWriter;
use crate::{Error, Result, RleMask, Size};

/// The grid on which outlines are traced has this many cells along a pixel.
const SCALE: f64 = 5.0;
/// The cell of a pixel whose right edge is the pixel's centre line: outlines are crossed there.
const CENTRE: i64 = 2;

impl RleMask {
    /// The pixels inside any of `polygons`, rasterised as COCO does.
    ///
    /// A polygon is a closed line of at least three points `(x, y)` in pixels, pixel (0, 0) covering 0.0–1.0; parts may
    /// lie outside the image. Outlines are traced on a grid five times as fine, rounded to its cells, and counted where
    /// they cross the centre of a column; where a polygon crosses itself, the even-odd rule holds. So the mask's edge
    /// can be off by a fraction of a pixel, but it is the mask that COCO's programs see.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] naming the polygon with fewer than three points, or with a coordinate that is not finite
    /// or beyond ±400 million; or when `size` has more than [`u32::MAX`] pixels.
    ///
    /// # Examples
    /// ```
    /// use coral_core::{RleMask, Size};
    /// let square = vec![(1.0, 1.0), (3.0, 1.0), (3.0, 3.0), (1.0, 3.0)];
    /// let size = Size { width: 4, height: 4 };
    /// assert_eq!(RleMask::from_polygons(&[square], size)?.counts(), [5, 2, 2, 2, 5]);
    /// # Ok::<(), coral_core::Error>(())
    /// ```
    pub fn from_polygons(polygons: &[Vec<(f64, f64)>], size: Size) -> Result<Self> {
        checked_pixels(size)?;
        let mut masks = Vec::with_capacity(polygons.len());
        for (at, polygon) in polygons.iter().enumerate() {
            let vertices = grid_vertices(polygon).map_err(|reason| Error::input(format!("polygons[{at}]"), reason))?;
            masks.push(rasterise(&vertices, size));
        }
        Self::union_of(size, &masks)
    }
}

/// A vertex in cells of the fine grid.
type Vertex = (i64, i64);

fn grid_vertices(polygon: &[(f64, f64)]) -> std::result::Result<Vec<Vertex>, String> {
    if polygon.len() < 3 {
        return Err(format!("expected at least 3 points, got {}", polygon.len()));
    }
    let cell = |coordinate: f64| {
        let cell = SCALE * coordinate + 0.5;
        // Beyond that COCO's 32-bit cells overflow. NaN fails the comparison too.
        let fits = cell.abs() < 2e9;
        // A cast cuts towards zero, as COCO's does.
        fits.then_some(cell as i64).ok_or_else(|| format!("expected finite coordinates in pixels, got {coordinate}"))
    };
    polygon.iter().map(|&(x, y)| Ok((cell(x)?, cell(y)?))).collect()
}

/// The mask of one polygon: the pixel where the outline crosses a column toggles inside and outside from there on.
fn rasterise(vertices: &[Vertex], size: Size) -> RleMask {
    let mut toggles = Vec::new();
    let next = vertices.iter().cycle().skip(1);
    for (&from, &to) in vertices.iter().zip(next) {
        push_crossings(from, to, size, &mut toggles);
    }
    toggles.sort_unstable();
    let mut out = RunWriter::new(size);
    let (pairs, _) = toggles.as_chunks::<2>();
    pairs.iter().for_each(|&[start, end]| out.push_foreground(start, end - start));
    out.finish()
}

/// Appends where the edge crosses the centre lines of the columns, as column-major pixel indices.
///
/// COCO walks the edge cell by cell; only the steps over a centre line count, and those are computed directly here,
/// with the same arithmetic.
fn push_crossings(from: Vertex, to: Vertex, size: Size, toggles: &mut Vec<u64>) {
    let edge = Edge::new(from, to);
    let (left, right) = (from.0.min(to.0), from.0.max(to.0));
    let height = i64::from(size.height);
    let first = (left - CENTRE + SCALE as i64 - 1).div_euclid(SCALE as i64).max(0);
    let last = (right - 1 - CENTRE).div_euclid(SCALE as i64).min(i64::from(size.width) - 1);
    for x in first..=last {
        let cell = x * SCALE as i64 + CENTRE;
        let lower = edge.row_of_step(cell);
        let y = (lower as f64 + 0.5) / SCALE - 0.5;
        let y = y.clamp(0.0, height as f64).ceil() as i64;
        toggles.push((x * height + y) as u64);
    }
}

/// An edge in its walking direction: rightwards when it is wider than high, else downwards.
struct Edge {
    start: Vertex,
    steps: i64,
    slope: f64,
    wide: bool,
}

impl Edge {
    fn new(from: Vertex, to: Vertex) -> Self {
        let (dx, dy) = ((from.0 - to.0).abs(), (from.1 - to.1).abs());
        let wide = dx >= dy;
        let flip = if wide { from.0 > to.0 } else { from.1 > to.1 };
        let (start, end) = if flip { (to, from) } else { (from, to) };
        let slope = match wide {
            true => (end.1 - start.1) as f64 / dx as f64,
            false => (end.0 - start.0) as f64 / dy as f64,
        };
        Self { start, steps: dx.max(dy), slope, wide }
    }

    /// The other coordinate after `step` steps, rounded as COCO does.
    fn across(&self, step: i64) -> i64 {
        let start = if self.wide { self.start.1 } else { self.start.0 };
        (start as f64 + self.slope * step as f64 + 0.5) as i64
    }

    /// The smaller row of the two cells between which the edge steps from column `cell` to `cell + 1` of the grid.
    fn row_of_step(&self, cell: i64) -> i64 {
        if self.wide {
            let step = cell - self.start.0;
            return self.across(step).min(self.across(step + 1));
        }
        // Columns never turn back along the edge: search for the last step on the near side.
        let rightwards = self.slope > 0.0;
        let near = |step: i64| if rightwards { self.across(step) <= cell } else { self.across(step) > cell };
        let (mut low, mut high) = (0, self.steps);
        while high - low > 1 {
            let middle = (low + high) / 2;
            if near(middle) { low = middle } else { high = middle }
        }
        self.start.1 + low
    }
}
