use super::checked_pixels;
use super::runs::{RunWriter, foreground};
use crate::{Error, Rect, Result, RleMask, Size};

/// Foreground pixels below one another: (x, y) to (x, y + length − 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ColumnRun {
    /// The column.
    pub x: u32,
    /// The topmost row.
    pub y: u32,
    /// Pixels, at least one.
    pub length: u32,
}

impl RleMask {
    /// The foreground, column by column from left to right and from top to bottom.
    ///
    /// # Examples
    /// ```
    /// use coral_core::{ColumnRun, RleMask, Size};
    /// let mask = RleMask::from_counts(Size { width: 3, height: 4 }, &[2, 4, 1, 1, 4])?;
    /// let runs: Vec<_> = mask.column_runs().map(|run| (run.x, run.y, run.length)).collect();
    /// assert_eq!(runs, [(0, 2, 2), (1, 0, 2), (1, 3, 1)]);
    /// # Ok::<(), coral_core::Error>(())
    /// ```
    pub fn column_runs(&self) -> impl Iterator<Item = ColumnRun> + Clone {
        let height = u64::from(self.size.height);
        foreground(&self.counts).flat_map(move |(start, length)| {
            let end = start + length;
            (start / height..=(end - 1) / height).map(move |x| {
                let (top, bottom) = (start.max(x * height), end.min((x + 1) * height));
                ColumnRun { x: x as u32, y: (top - x * height) as u32, length: (bottom - top) as u32 }
            })
        })
    }

    /// Whether pixel (x, y) is foreground; false outside the image. Takes time proportional to the runs.
    pub fn contains(&self, x: u32, y: u32) -> bool {
        let at = u64::from(x) * u64::from(self.size.height) + u64::from(y);
        self.size.contains(x, y)
            && foreground(&self.counts).any(|(start, length)| (start..start + length).contains(&at))
    }

    /// The mask of a crop in the frame of the whole image: its pixel (0, 0) comes to (x, y) of an image of `size`.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when the crop does not lie inside the image, or that has more than [`u32::MAX`] pixels.
    ///
    /// # Examples
    /// ```
    /// use coral_core::{Rect, RleMask, Size};
    /// let crop = RleMask::from_fn(Size { width: 2, height: 2 }, |_, _| true);
    /// let whole = crop.place(3, 1, Size { width: 8, height: 4 })?;
    /// assert_eq!(whole.bounding_box(), Some(Rect { x: 3, y: 1, width: 2, height: 2 }));
    /// # Ok::<(), coral_core::Error>(())
    /// ```
    pub fn place(&self, x: u32, y: u32, size: Size) -> Result<Self> {
        checked_pixels(size)?;
        inside(Rect { x, y, width: self.size.width, height: self.size.height }, size, "mask")?;
        let height = u64::from(size.height);
        let mut out = RunWriter::new(size);
        for run in self.column_runs() {
            let start = u64::from(x + run.x) * height + u64::from(y + run.y);
            out.push_foreground(start, run.length.into());
        }
        Ok(out.finish())
    }

    /// The part of the mask inside `rect`, in the frame of that rectangle.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] when `rect` does not lie inside the image.
    ///
    /// # Examples
    /// ```
    /// use coral_core::{Rect, RleMask, Size};
    /// let mask = RleMask::from_fn(Size { width: 8, height: 4 }, |x, _| x >= 3);
    /// let crop = mask.crop(Rect { x: 2, y: 1, width: 2, height: 2 })?;
    /// assert_eq!(crop, RleMask::from_fn(Size { width: 2, height: 2 }, |x, _| x >= 1));
    /// # Ok::<(), coral_core::Error>(())
    /// ```
    pub fn crop(&self, rect: Rect) -> Result<Self> {
        inside(rect, self.size, "rect")?;
        let height = u64::from(rect.height);
        let mut out = RunWriter::new(Size { width: rect.width, height: rect.height });
        let columns = rect.x..rect.x + rect.width;
        for run in self.column_runs().filter(|run| columns.contains(&run.x)) {
            let (top, bottom) = (run.y.max(rect.y), (run.y + run.length).min(rect.y + rect.height));
            if top < bottom {
                let start = u64::from(run.x - rect.x) * height + u64::from(top - rect.y);
                out.push_foreground(start, (bottom - top).into());
            }
        }
        Ok(out.finish())
    }
}

fn inside(rect: Rect, size: Size, what: &str) -> Result<()> {
    let fits = |start: u32, length: u32, limit: u32| start.checked_add(length).is_some_and(|end| end <= limit);
    if fits(rect.x, rect.width, size.width) && fits(rect.y, rect.height, size.height) {
        return Ok(());
    }
    let Rect { x, y, width, height } = rect;
    Err(Error::input(what, format!("{width}x{height} pixels at ({x}, {y}) do not lie inside the {size} image")))
}
