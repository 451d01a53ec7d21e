use coral_core::image::RgbImage;
use coral_core::{CoarseMap, Error, GridClassifier, PatchClassifier, PatchGrid, Rect, Result, Size};
use ndarray::{Array2, Array3, ArrayView1, indices, s};

/// Cuts a photograph into the rows×columns patches of `grid` and classifies `batch` of them at a time: C×rows×columns
/// probabilities.
///
/// # Errors
/// [`Error::InvalidParameter`] when `batch` is 0; the errors of [`PatchGrid::patches`] (the photograph is too small)
/// and of the classifier; [`Error::ShapeMismatch`] or [`Error::InvalidInput`] when its answer is not one probability
/// per patch and class.
///
/// # Examples
/// ```
/// use coral_core::{PatchGrid, Size, image::RgbImage, ndarray::arr2};
/// use coral_weak::{ConstantClassifier, classify_patches};
/// let grid = PatchGrid::Split { rows: 1, columns: 2 };
/// let map = classify_patches(&ConstantClassifier::new(2, 3)?, &RgbImage::new(20, 10), &grid, 8)?;
/// assert_eq!(map.classes(), arr2(&[[2, 2]]));
/// # Ok::<(), coral_core::Error>(())
/// ```
pub fn classify_patches(
    classifier: &dyn PatchClassifier,
    image: &RgbImage,
    grid: &PatchGrid,
    batch: usize,
) -> Result<CoarseMap> {
    let size = Size::of(image);
    let (cells, patches) = (grid.cells(size)?, grid.patches(size)?);
    let columns = cells.width as usize;
    let mut probabilities = Array3::zeros((classifier.num_classes(), cells.height as usize, columns));
    in_batches(classifier, image, &patches, batch, |first, rows| {
        for (offset, row) in rows.outer_iter().enumerate() {
            let patch = first + offset;
            probabilities.slice_mut(s![.., patch / columns, patch % columns]).assign(&row);
        }
    })?;
    CoarseMap::new(probabilities, patches, size)
}

/// Classifies `batch` patches at a time and hands over each answer, N×C, with the index of its first patch.
pub(crate) fn in_batches(
    classifier: &dyn PatchClassifier,
    image: &RgbImage,
    patches: &[Rect],
    batch: usize,
    mut take: impl FnMut(usize, &Array2<f32>),
) -> Result<()> {
    if batch == 0 {
        return Err(Error::parameter("batch", "expected at least 1, got 0"));
    }
    cut_in_batches(image, patches, batch, |first, cut| {
        let probabilities = classifier.classify(cut)?;
        check_probabilities(&probabilities, cut.len(), classifier.num_classes())?;
        take(first, &probabilities);
        Ok(())
    })
}

/// Patches that are cut at a time where the caller does not say.
pub(crate) const BATCH: usize = 32;

/// Cuts `batch` patches at a time, at least 1, and hands them over with the index of the first: patches of a large
/// photograph, and all the more overlapping ones, are not held in memory together.
pub(crate) fn cut_in_batches(
    image: &RgbImage,
    patches: &[Rect],
    batch: usize,
    mut take: impl FnMut(usize, &[RgbImage]) -> Result<()>,
) -> Result<()> {
    let batch = batch.max(1);
    for (index, chunk) in patches.chunks(batch).enumerate() {
        let cut: Vec<_> = chunk.iter().map(|patch| patch.crop(image)).collect();
        take(index * batch, &cut)?;
    }
    Ok(())
}

/// Checks a classifier's answer.
pub(crate) fn check_probabilities(probabilities: &Array2<f32>, patches: usize, classes: usize) -> Result<()> {
    if probabilities.dim() != (patches, classes) {
        let actual = format!("{}x{}", probabilities.nrows(), probabilities.ncols());
        let expected = format!("{patches}x{classes} (patches, classes)");
        return Err(Error::shape("the classifier's probabilities", expected, actual));
    }
    probabilities.outer_iter().enumerate().try_for_each(|(patch, row)| check_row(&format!("patch {patch}"), row))
}

/// Checks the class probabilities of one patch or cell, with room for rounding.
fn check_row(of: &str, row: ArrayView1<'_, f32>) -> Result<()> {
    let fail = |reason| Err(Error::input("the classifier's probabilities", reason));
    if let Some((class, p)) = row.indexed_iter().find(|(_, p)| !(-1e-3..=1.001).contains(*p)) {
        return fail(format!("expected 0..=1, got {p} for class {class} of {of}"));
    }
    let sum = row.sum();
    if (sum - 1.0).abs() > 1e-2 { fail(format!("those of {of} sum to {sum}; expected 1")) } else { Ok(()) }
}

/// Classifies a whole photograph: a [`CoarseMap`] whose patches are the cells of the classifier, which tile the
/// photograph evenly ([`FeatureMap::cell`](coral_core::FeatureMap::cell)).
///
/// # Errors
/// Those of the classifier; [`Error::ShapeMismatch`] or [`Error::InvalidInput`] when its answer does not have one
/// probability per class and cell, or there are more cells than pixels.
pub fn grid_map(classifier: &dyn GridClassifier, image: &RgbImage) -> Result<CoarseMap> {
    let probabilities = classifier.classify_grid(image)?;
    let (classes, rows, columns) = probabilities.dim();
    let expected = classifier.num_classes();
    if classes != expected {
        let actual = format!("{classes}x{rows}x{columns}");
        return Err(Error::shape("the classifier's probabilities", format!("{expected}xhxw"), actual));
    }
    let size = Size::of(image);
    if rows > size.height as usize || columns > size.width as usize {
        let reason = format!("{columns}x{rows} cells for a {size} image");
        return Err(Error::input("the classifier's probabilities", reason));
    }
    for (y, x) in indices((rows, columns)) {
        check_row(&format!("cell ({x}, {y})"), probabilities.slice(s![.., y, x]))?;
    }
    let (down, across) = (edges(rows, size.height), edges(columns, size.width));
    let row = |y: &[u32]| {
        let (y, height) = (y[0], y[1] - y[0]);
        across.windows(2).map(move |x| Rect { x: x[0], y, width: x[1] - x[0], height }).collect::<Vec<_>>()
    };
    let patches = down.windows(2).flat_map(row).collect();
    CoarseMap::new(probabilities, patches, size)
}

/// Where cells that tile `pixels` evenly begin, and where the last one ends. A pixel belongs to the cell that its
/// centre lies in.
fn edges(cells: usize, pixels: u32) -> Vec<u32> {
    let cells = cells as u64;
    let start = |cell: u64| (2 * cell * u64::from(pixels)).saturating_sub(cells).div_ceil(2 * cells.max(1)) as u32;
    (0..=cells).map(|cell| if cell == cells { pixels } else { start(cell) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ConstantClassifier;
    use coral_core::{FeatureExtractor, FeatureMap};
    use proptest::prelude::*;

    /// Answers with an array of any shape.
    struct Fixed<T>(T);

    impl PatchClassifier for Fixed<Array2<f32>> {
        fn num_classes(&self) -> usize {
            2
        }
        fn classify(&self, _: &[RgbImage]) -> Result<Array2<f32>> {
            Ok(self.0.clone())
        }
    }

    impl FeatureExtractor for Fixed<Array3<f32>> {
        fn dim(&self) -> usize {
            1
        }
        fn extract(&self, image: &RgbImage) -> Result<FeatureMap> {
            Ok(FeatureMap { data: self.0.clone(), image_size: Size::of(image) })
        }
    }

    impl GridClassifier for Fixed<Array3<f32>> {
        fn num_classes(&self) -> usize {
            2
        }
        fn classify_grid(&self, _: &RgbImage) -> Result<Array3<f32>> {
            Ok(self.0.clone())
        }
    }

    #[test]
    fn wrong_answers_are_errors() {
        let image = RgbImage::new(12, 6);
        let grid = PatchGrid::Split { rows: 1, columns: 3 };
        let text = |answer| classify_patches(&Fixed(answer), &image, &grid, 3).unwrap_err().to_string();
        assert!(text(Array2::zeros((2, 2))).contains("expected shape 3x2 (patches, classes), got 2x2"));
        assert!(text(Array2::from_elem((3, 2), f32::NAN)).contains("got NaN for class 0 of patch 0"));
        assert!(text(Array2::from_elem((3, 2), 4.0)).contains("got 4"));
        assert!(text(Array2::from_elem((3, 2), 0.3)).contains("patch 0 sum to 0.6"));
        let text = |answer| grid_map(&Fixed(answer), &image).unwrap_err().to_string();
        assert!(text(Array3::zeros((3, 1, 1))).contains("expected shape 2xhxw, got 3x1x1"));
        assert!(text(Array3::zeros((2, 7, 1))).contains("1x7 cells for a 12x6 image"));
        assert!(text(Array3::from_elem((2, 1, 1), f32::INFINITY)).contains("got inf"));
        assert!(grid_map(&Fixed(Array3::zeros((2, 0, 0))), &image).is_err());
        let constant = ConstantClassifier::new(0, 2).unwrap();
        assert!(classify_patches(&constant, &image, &grid, 0).is_err());
        let large = PatchGrid::Split { rows: 7, columns: 1 };
        assert!(classify_patches(&constant, &image, &large, 1).unwrap_err().to_string().contains("too small"));
    }

    #[test]
    fn batches_keep_the_order() {
        struct Brightness;
        impl PatchClassifier for Brightness {
            fn num_classes(&self) -> usize {
                2
            }
            fn classify(&self, patches: &[RgbImage]) -> Result<Array2<f32>> {
                Ok(Array2::from_shape_fn((patches.len(), 2), |(patch, class)| {
                    let p = f32::from(patches[patch].get_pixel(0, 0)[0]) / 255.0;
                    if class == 0 { p } else { 1.0 - p }
                }))
            }
        }
        let image = RgbImage::from_fn(9, 8, |x, y| coral_core::image::Rgb([(x / 3 + 3 * (y / 2)) as u8; 3]));
        let grid = PatchGrid::Split { rows: 4, columns: 3 };
        for batch in [1, 5, 12, 100] {
            let map = classify_patches(&Brightness, &image, &grid, batch).unwrap();
            let levels: Vec<_> = map.probabilities.slice(s![0, .., ..]).iter().map(|p| (p * 255.0).round()).collect();
            assert_eq!(levels, (0..12).map(|level| level as f32).collect::<Vec<_>>());
        }
    }

    proptest! {
        #[test]
        fn cells_are_those_of_feature_maps(
            width in 1u32..40, height in 1u32..40, columns in 1usize..12, rows in 1usize..12
        ) {
            prop_assume!(columns <= width as usize && rows <= height as usize);
            let answer = Fixed(Array3::from_elem((2, rows, columns), 0.5));
            let image = RgbImage::new(width, height);
            let map = grid_map(&answer, &image).unwrap();
            let features = answer.extract(&image).unwrap();
            for y in 0..height {
                for x in 0..width {
                    let (column, row) = features.cell(x, y);
                    let patch = map.patches[row * columns + column];
                    prop_assert!((patch.x..patch.x + patch.width).contains(&x));
                    prop_assert!((patch.y..patch.y + patch.height).contains(&y));
                }
            }
        }
    }
}
