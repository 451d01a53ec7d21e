use image::RgbImage;
use ndarray::{Array2, Array3};
use serde::{Deserialize, Serialize};

use crate::{Error, LabelMap, Rect, Result, Size, UNLABELED, most_probable};

/// How a photograph is cut into patches.
///
/// # Examples
/// ```
/// use coral_core::{PatchGrid, Rect, Size};
/// let size = Size { width: 100, height: 50 };
/// let split = PatchGrid::Split { rows: 2, columns: 3 };
/// assert_eq!(split.cells(size)?, Size { width: 3, height: 2 });
/// assert_eq!(split.patches(size)?[1], Rect { x: 34, y: 0, width: 33, height: 25 });
///
/// let sliding = PatchGrid::Stride { patch: Size { width: 40, height: 40 }, stride: Size { width: 30, height: 30 } };
/// let patches = sliding.patches(size)?;
/// assert_eq!(patches.len(), 6);
/// assert_eq!(patches[5], Rect { x: 60, y: 10, width: 40, height: 40 });
/// # Ok::<(), coral_core::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PatchGrid {
    /// So many rows and columns of patches that tile the photograph; the first ones are a pixel larger where the
    /// sides do not divide evenly (as numpy's `array_split` does it).
    Split {
        /// Rows of patches.
        rows: u32,
        /// Patches per row.
        columns: u32,
    },
    /// Patches of one size every `stride` pixels. The last patch of a row or column is moved back to end at the
    /// photograph's edge, so that every pixel is covered. A stride below the patch's size makes them overlap.
    Stride {
        /// Size of every patch.
        patch: Size,
        /// From one patch to the next; at most the patch's size.
        stride: Size,
    },
}

impl PatchGrid {
    /// The grid of SeaCLIP: 5 rows of 8 patches, 578×520 pixels in the photographs of DeepSeagrass.
    pub const SEACLIP: Self = Self::Split { rows: 5, columns: 8 };

    /// How many patches fit a photograph: columns as width, rows as height.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] when a side of the grid is 0 or a stride is larger than the patch;
    /// [`Error::InvalidInput`] when the photograph is smaller than the grid or the patch.
    pub fn cells(&self, size: Size) -> Result<Size> {
        let (columns, rows) = self.spans(size)?;
        Ok(Size { width: columns.len() as u32, height: rows.len() as u32 })
    }

    /// The patches row by row.
    ///
    /// # Errors
    /// Those of [`PatchGrid::cells`].
    pub fn patches(&self, size: Size) -> Result<Vec<Rect>> {
        let (columns, rows) = self.spans(size)?;
        let row = |&(y, height)| columns.iter().map(move |&(x, width)| Rect { x, y, width, height });
        Ok(rows.iter().flat_map(row).collect())
    }

    /// The pixels of the patches row by row.
    ///
    /// # Errors
    /// Those of [`PatchGrid::cells`].
    ///
    /// # Examples
    /// ```
    /// use coral_core::{PatchGrid, image::{Rgb, RgbImage}};
    /// let photograph = RgbImage::from_fn(6, 4, |x, y| Rgb([x as u8, y as u8, 0]));
    /// let patches = PatchGrid::Split { rows: 2, columns: 3 }.cut(&photograph)?;
    /// assert_eq!((patches.len(), patches[4].dimensions()), (6, (2, 2)));
    /// assert_eq!(patches[4].get_pixel(0, 0).0, [2, 2, 0]);
    /// # Ok::<(), coral_core::Error>(())
    /// ```
    pub fn cut(&self, photograph: &RgbImage) -> Result<Vec<RgbImage>> {
        Ok(self.patches(Size::of(photograph))?.into_iter().map(|patch| patch.crop(photograph)).collect())
    }

    /// The columns and the rows.
    fn spans(&self, size: Size) -> Result<(Vec<Span>, Vec<Span>)> {
        match *self {
            Self::Split { rows, columns } => {
                if rows == 0 || columns == 0 {
                    return Err(Error::parameter("grid", format!("{rows}x{columns} patches are none")));
                }
                if size.width < columns || size.height < rows {
                    let reason = format!("a {size} photograph is too small for {columns}x{rows} patches");
                    return Err(Error::input("photograph", reason));
                }
                Ok((split(size.width, columns), split(size.height, rows)))
            }
            Self::Stride { patch, stride } => {
                let fits = |stride: u32, patch: u32| (1..=patch).contains(&stride);
                if !fits(stride.width, patch.width) || !fits(stride.height, patch.height) {
                    let reason = format!("a stride of {stride} is not within 1x1 and the patch's {patch}");
                    return Err(Error::parameter("grid", reason));
                }
                if size.width < patch.width || size.height < patch.height {
                    let reason = format!("a {size} photograph is smaller than a {patch} patch");
                    return Err(Error::input("photograph", reason));
                }
                let columns = steps(size.width, patch.width, stride.width);
                Ok((columns, steps(size.height, patch.height, stride.height)))
            }
        }
    }
}

/// Start and length along one side.
type Span = (u32, u32);

fn split(length: u32, parts: u32) -> Vec<Span> {
    let (base, longer) = (length / parts, length % parts);
    (0..parts).map(|i| (i * base + i.min(longer), base + u32::from(i < longer))).collect()
}

fn steps(length: u32, patch: u32, stride: u32) -> Vec<Span> {
    let last = length - patch;
    (0..=last.div_ceil(stride)).map(|i| ((i * stride).min(last), patch)).collect()
}

/// The band (start, length) that holds a pixel; of several the one whose middle is nearest, and the first of equals.
/// A pixel between bands belongs to the nearest.
fn band(bands: &[Span], pixel: u32) -> usize {
    let twice = 2 * u64::from(pixel) + 1;
    let distance = |&(start, length): &Span| {
        let holds = start <= pixel && pixel - start < length;
        (!holds, (2 * u64::from(start) + u64::from(length)).abs_diff(twice))
    };
    (0..bands.len()).min_by_key(|&i| distance(&bands[i])).unwrap_or(0)
}

/// Checks that patches, given row by row, form a grid inside the photograph.
fn check_patches(patches: &[Rect], columns: usize, size: Size) -> Result<()> {
    let fail = |reason| Err(Error::input("patches", reason));
    let whole = Rect::whole(size);
    if let Some(patch) = patches.iter().find(|&&patch| patch.area() == 0 || patch.intersection(whole) != Some(patch)) {
        return fail(format!("{patch:?} is not inside the {size} photograph"));
    }
    for (index, &patch) in patches.iter().enumerate() {
        let (row, column) = (index / columns, index % columns);
        // The grid is that of the first row and the first column.
        let (above, left) = (patches[column], patches[row * columns]);
        let expected = Rect { x: above.x, width: above.width, y: left.y, height: left.height };
        if patch != expected {
            let reason = format!("that of row {row}, column {column} is {patch:?}; expected {expected:?} in the grid");
            return fail(reason);
        }
    }
    Ok(())
}

/// A class per patch of a photograph.
#[derive(Debug, Clone, PartialEq)]
pub struct CoarseMap {
    /// C×rows×columns class probabilities; those of a patch sum to 1.
    pub probabilities: Array3<f32>,
    /// The rows×columns patches of a grid, row by row; they may overlap.
    pub patches: Vec<Rect>,
    /// The photograph's size in pixels.
    pub image_size: Size,
}

impl CoarseMap {
    /// Checks that shapes fit each other and that the patches form a grid inside the photograph: those of a column
    /// share their left and right edges, those of a row their upper and lower ones.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] when there is not one patch per cell; [`Error::InvalidInput`] for probabilities that
    /// are not numbers, no class or more than 255, or patches that are empty, reach beyond the photograph or form no
    /// grid.
    pub fn new(probabilities: Array3<f32>, patches: Vec<Rect>, image_size: Size) -> Result<Self> {
        let (classes, rows, columns) = probabilities.dim();
        if rows * columns != patches.len() || patches.is_empty() {
            let expected = format!("{columns}x{rows} patches");
            return Err(Error::shape("patches", expected, patches.len().to_string()));
        }
        if !(1..=usize::from(UNLABELED)).contains(&classes) {
            return Err(Error::input("probabilities", format!("{classes} classes; expected 1 to {UNLABELED}")));
        }
        if probabilities.iter().any(|p| !p.is_finite()) {
            return Err(Error::input("probabilities", "hold NaN or infinity"));
        }
        check_patches(&patches, columns, image_size)?;
        Ok(Self { probabilities, patches, image_size })
    }

    /// The most probable class of every patch, rows×columns; of equals the one with the lowest id.
    pub fn classes(&self) -> LabelMap {
        self.confident_classes(f32::NEG_INFINITY)
    }

    /// The probability of that class, rows×columns.
    pub fn confidence(&self) -> Array2<f32> {
        most_probable(self.probabilities.view(), f32::NEG_INFINITY).1
    }

    /// The classes, but [`UNLABELED`] where the confidence is below `threshold`.
    ///
    /// # Examples
    /// ```
    /// use coral_core::{CoarseMap, Rect, Size, UNLABELED, ndarray::{arr3, arr2}};
    /// let patches = vec![Rect { x: 0, y: 0, width: 2, height: 2 }, Rect { x: 2, y: 0, width: 2, height: 2 }];
    /// let probabilities = arr3(&[[[0.9, 0.4]], [[0.1, 0.6]]]);
    /// let map = CoarseMap::new(probabilities, patches, Size { width: 4, height: 2 })?;
    /// assert_eq!(map.classes(), arr2(&[[0, 1]]));
    /// assert_eq!(map.confident_classes(0.7), arr2(&[[0, UNLABELED]]));
    /// assert_eq!(map.label_map(&map.classes())?, arr2(&[[0, 0, 1, 1], [0, 0, 1, 1]]));
    /// # Ok::<(), coral_core::Error>(())
    /// ```
    pub fn confident_classes(&self, threshold: f32) -> LabelMap {
        most_probable(self.probabilities.view(), threshold).0
    }

    /// A class per pixel, H×W, from rows×columns `classes`. Where patches overlap, the one whose centre is nearest
    /// decides, so that each patch keeps its middle.
    ///
    /// # Errors
    /// [`Error::ShapeMismatch`] when there is not one class per patch.
    pub fn label_map(&self, classes: &LabelMap) -> Result<LabelMap> {
        let (_, rows, columns) = self.probabilities.dim();
        let grid = Size { width: columns as u32, height: rows as u32 };
        grid.expect("classes", Size::of_map(classes))?;
        Ok(self.pixel_cells().mapv(|cell| classes[[cell as usize / columns, cell as usize % columns]]))
    }

    /// The patch that decides about each pixel, H×W, as its position in `patches`.
    ///
    /// # Examples
    /// ```
    /// use coral_core::{CoarseMap, PatchGrid, Size, ndarray::{Array3, arr2}};
    /// let size = Size { width: 4, height: 1 };
    /// let patch = Size { width: 3, height: 1 };
    /// let patches = PatchGrid::Stride { patch, stride: Size { width: 1, height: 1 } }.patches(size)?;
    /// let map = CoarseMap::new(Array3::ones((1, 1, 2)), patches, size)?;
    /// assert_eq!(map.pixel_cells(), arr2(&[[0, 0, 1, 1]]));
    /// # Ok::<(), coral_core::Error>(())
    /// ```
    pub fn pixel_cells(&self) -> Array2<u32> {
        let columns = self.probabilities.dim().2;
        let across = self.patches[..columns].iter().map(|p| (p.x, p.width)).collect::<Vec<_>>();
        let down = self.patches.iter().step_by(columns).map(|p| (p.y, p.height)).collect::<Vec<_>>();
        let (height, width) = self.image_size.shape();
        let column: Vec<usize> = (0..width as u32).map(|x| band(&across, x)).collect();
        let row: Vec<usize> = (0..height as u32).map(|y| band(&down, y)).collect();
        Array2::from_shape_fn((height, width), |(y, x)| (row[y] * columns + column[x]) as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Size = Size { width: 11, height: 7 };

    #[test]
    fn a_split_tiles_the_photograph() {
        let patches = PatchGrid::Split { rows: 3, columns: 4 }.patches(SIZE).unwrap();
        let mut covered = Array2::<u8>::zeros(SIZE.shape());
        for patch in &patches {
            for y in patch.y..patch.y + patch.height {
                (patch.x..patch.x + patch.width).for_each(|x| covered[[y as usize, x as usize]] += 1);
            }
        }
        assert!(covered.iter().all(|&count| count == 1));
        assert_eq!(patches[..4].iter().map(|p| p.width).collect::<Vec<_>>(), [3, 3, 3, 2]);
        let seaclip = PatchGrid::SEACLIP.patches(Size { width: 4624, height: 2600 }).unwrap();
        assert!(seaclip.len() == 40 && seaclip.iter().all(|p| (p.width, p.height) == (578, 520)));
    }

    #[test]
    fn strides_reach_the_edge() {
        let size = |width, height| Size { width, height };
        let grid = PatchGrid::Stride { patch: size(4, 3), stride: size(3, 3) };
        let xs = |patches: &[Rect]| patches[..4].iter().map(|p| p.x).collect::<Vec<_>>();
        let patches = grid.patches(SIZE).unwrap();
        assert_eq!((xs(&patches), patches[11].y, patches.len()), (vec![0, 3, 6, 7], 4, 12));
        assert_eq!(grid.cells(size(4, 3)).unwrap(), size(1, 1));
    }

    #[test]
    fn misfits_are_named() {
        let text = |grid: PatchGrid| grid.cells(SIZE).unwrap_err().to_string();
        assert!(text(PatchGrid::Split { rows: 8, columns: 2 }).contains("11x7 photograph is too small for 2x8"));
        assert!(text(PatchGrid::Split { rows: 0, columns: 2 }).contains("grid"));
        let size = |width, height| Size { width, height };
        let stride = |patch, stride| text(PatchGrid::Stride { patch, stride });
        assert!(stride(size(12, 3), size(3, 3)).contains("smaller than a 12x3 patch"));
        assert!(stride(size(4, 4), size(5, 4)).contains("stride of 5x4"));
        assert!(stride(size(4, 4), size(4, 0)).contains("stride of 4x0"));
        let cell = vec![Rect { x: 8, y: 0, width: 4, height: 2 }];
        let ones = || Array3::ones((2, 1, 1));
        assert!(CoarseMap::new(ones(), cell, SIZE).unwrap_err().to_string().contains("not inside the 11x7"));
        assert!(CoarseMap::new(ones(), vec![], SIZE).is_err());
    }

    #[test]
    fn patches_that_form_no_grid_are_refused() {
        let patches = PatchGrid::Split { rows: 2, columns: 3 }.patches(SIZE).unwrap();
        let new = |patches| CoarseMap::new(Array3::ones((1, 2, 3)), patches, SIZE);
        assert!(new(patches.clone()).is_ok());
        for index in 0..6 {
            let moved = [
                |r: Rect| Rect { x: r.x.max(1) - 1, width: r.width - 1, ..r },
                |r: Rect| Rect { width: r.width - 1, ..r },
                |r: Rect| Rect { y: r.y + 1, height: r.height - 1, ..r },
                |r: Rect| Rect { height: r.height - 1, ..r },
            ];
            for change in moved {
                let mut patches = patches.clone();
                patches[index] = change(patches[index]);
                let error = new(patches).unwrap_err().to_string();
                assert!(error.starts_with("invalid input `patches`: that of row"), "{error}");
            }
        }
        let mut swapped = patches;
        swapped.swap(4, 5);
        let error = new(swapped).unwrap_err().to_string();
        assert!(error.contains("that of row 1, column 1 is Rect { x: 8, y: 4,"), "{error}");
    }

    #[test]
    fn overlapping_patches_keep_their_middle() {
        let grid = PatchGrid::Stride { patch: Size { width: 4, height: 7 }, stride: Size { width: 3, height: 7 } };
        let map = CoarseMap::new(Array3::ones((1, 1, 4)), grid.patches(SIZE).unwrap(), SIZE).unwrap();
        let labels = map.label_map(&ndarray::arr2(&[[0, 1, 2, 3]])).unwrap();
        assert_eq!(labels.row(6).to_vec(), [0, 0, 0, 0, 1, 1, 1, 2, 2, 3, 3]);
        assert!(map.label_map(&ndarray::arr2(&[[0, 1, 2]])).is_err());
    }
}
