//! Masks as COCO run-length encoding: column-major runs that start with background.

mod components;
mod encode;
mod geometry;
mod polygon;
mod runs;
mod set;
mod text;

#[cfg(test)]
mod tests;

pub use geometry::ColumnRun;

use ndarray::Array2;

use crate::{Error, Rect, Result, Size};
use runs::{RunWriter, foreground};

/// A binary mask as runs, in the encoding of COCO.
///
/// Pixels are counted down the columns, column after column; the first run is background (and has length 0 when
/// pixel (0, 0) is foreground), then the two values alternate. The runs are always the shortest list for the mask, so
/// that equal masks compare equal. A mask of an object needs some hundred bytes, and the set operations below take time
/// proportional to the runs, not the pixels.
///
/// # Examples
/// ```
/// use coral_core::{Rect, RleMask, ndarray::array};
/// let mask = RleMask::encode(&array![
///     [false, true, false],
///     [false, true, true],
/// ]);
/// assert_eq!(mask.counts(), [2, 2, 1, 1]);
/// assert_eq!(mask.to_coco_string(), "221O");
/// assert_eq!(mask.area(), 3);
/// assert_eq!(mask.bounding_box(), Some(Rect { x: 1, y: 0, width: 2, height: 2 }));
/// assert_eq!(mask.decode()[[1, 2]], true);
/// ```
///
/// # References
/// Lin et al., *Microsoft COCO: Common Objects in Context*, ECCV 2014. Counts, strings, areas, boxes, polygons and set
/// operations equal those of pycocotools 2.0.11 exactly.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RleMask {
    size: Size,
    counts: Vec<u32>,
}

impl RleMask {
    /// A mask without foreground.
    pub fn empty(size: Size) -> Self {
        RunWriter::new(size).finish()
    }

    /// A mask from the lengths of its runs, the first of them background. Runs of length 0 are allowed and merged away.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when the lengths do not add up to the number of pixels, or that is beyond
    /// [`u32::MAX`], COCO's limit.
    ///
    /// # Examples
    /// ```
    /// use coral_core::{RleMask, Size};
    /// let size = Size { width: 3, height: 2 };
    /// assert_eq!(RleMask::from_counts(size, &[1, 2, 0, 1, 2])?.counts(), [1, 3, 2]);
    /// let error = RleMask::from_counts(size, &[1, 2]).unwrap_err();
    /// assert_eq!(error.to_string(), "invalid input `counts`: the runs hold 3 pixels, expected 6 for a 3x2 mask");
    /// # Ok::<(), coral_core::Error>(())
    /// ```
    pub fn from_counts(size: Size, counts: &[u32]) -> Result<Self> {
        let pixels = checked_pixels(size)?;
        let total: u64 = counts.iter().map(|&count| u64::from(count)).sum();
        if total != pixels {
            let reason = format!("the runs hold {total} pixels, expected {pixels} for a {size} mask");
            return Err(Error::input("counts", reason));
        }
        let mut out = RunWriter::new(size);
        counts.iter().enumerate().for_each(|(at, &count)| out.push(at % 2 == 1, count.into()));
        Ok(out.finish())
    }

    /// The mask as an H×W array, true inside.
    pub fn decode(&self) -> Array2<bool> {
        let (height, width) = self.size.shape();
        // Marks where the value changes down a column, then lets every row take over from the one above: far faster
        // than painting columns of a row-major array.
        let mut pixels = vec![false; height * width];
        for run in self.column_runs() {
            for y in [run.y as usize, run.y as usize + run.length as usize] {
                if y < height {
                    pixels[y * width + run.x as usize] ^= true;
                }
            }
        }
        for y in 1..height {
            let (above, row) = pixels[(y - 1) * width..(y + 1) * width].split_at_mut(width);
            row.iter_mut().zip(above).for_each(|(pixel, above)| *pixel ^= *above);
        }
        Array2::from_shape_vec((height, width), pixels).unwrap_or_default()
    }

    /// The lengths of the runs: background, foreground, background, … Always at least one.
    pub fn counts(&self) -> &[u32] {
        &self.counts
    }

    /// Width and height of the image that the mask belongs to.
    pub fn size(&self) -> Size {
        self.size
    }

    /// Foreground pixels.
    pub fn area(&self) -> u64 {
        self.counts.iter().skip(1).step_by(2).map(|&count| u64::from(count)).sum()
    }

    /// Whether no pixel is foreground.
    pub fn is_empty(&self) -> bool {
        // Not by the number of counts: background beyond 2^32 pixels has several.
        foreground(&self.counts).next().is_none()
    }

    /// The smallest box around the foreground; `None` when there is none.
    pub fn bounding_box(&self) -> Option<Rect> {
        let height = u64::from(self.size.height);
        let (mut left, mut right, mut top, mut bottom) = (u64::MAX, 0, u64::MAX, 0);
        for (start, length) in foreground(&self.counts) {
            let last = start + length - 1;
            let (x0, x1) = (start / height, last / height);
            left = left.min(x0);
            right = right.max(x1);
            // A run that goes on in the next column touches the bottom of one and the top of the other.
            let (y0, y1) = if x0 == x1 { (start % height, last % height) } else { (0, height - 1) };
            top = top.min(y0);
            bottom = bottom.max(y1);
        }
        (left <= right).then(|| Rect {
            x: left as u32,
            y: top as u32,
            width: (right - left + 1) as u32,
            height: (bottom - top + 1) as u32,
        })
    }
}

/// The pixels of a mask whose size came from outside.
pub(crate) fn checked_pixels(size: Size) -> Result<u64> {
    let pixels = u64::from(size.width) * u64::from(size.height);
    if pixels > u64::from(u32::MAX) {
        return Err(Error::input("size", format!("{size} has {pixels} pixels, expected at most {}", u32::MAX)));
    }
    Ok(pixels)
}
