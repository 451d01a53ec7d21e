use coral_core::{ClassId, Error, LabelMap, PatchGrid, Rect, Result, Size, UNLABELED};

/// The true class of every patch, rows×columns, from the true class of every pixel.
///
/// A patch has the class that most of its pixels have besides `0`, the background, if they are at least `majority` of its
/// labelled pixels; else it is background. A patch without labelled pixels is [`UNLABELED`].
///
/// # Errors
/// [`Error::InvalidParameter`] when `majority` is not in 0..=1, or those of [`PatchGrid::patches`].
///
/// # Examples
/// ```
/// use coral_core::{PatchGrid, ndarray::array};
/// let labels = array![[0, 0, 2, 2], [0, 1, 2, 0]];
/// let grid = PatchGrid::Split { rows: 1, columns: 2 };
/// assert_eq!(coral_io::patch_truth(&labels, grid, 0.5)?, array![[0, 2]]);
/// assert_eq!(coral_io::patch_truth(&labels, grid, 0.25)?, array![[1, 2]]);
/// # Ok::<(), coral_core::Error>(())
/// ```
pub fn patch_truth(labels: &LabelMap, grid: PatchGrid, majority: f32) -> Result<LabelMap> {
    if !(0.0..=1.0).contains(&majority) {
        return Err(Error::parameter("majority", format!("expected 0..=1, got {majority}")));
    }
    let size = Size::of_map(labels);
    let class = |patch: &Rect| {
        let (x, y) = (patch.x as usize, patch.y as usize);
        let (right, bottom) = (x + patch.width as usize, y + patch.height as usize);
        let mut counts = [0_u64; 256];
        labels.slice(ndarray::s![y..bottom, x..right]).iter().for_each(|&id| counts[usize::from(id)] += 1);
        truth(&counts, majority)
    };
    let (cells, patches) = (grid.cells(size)?, grid.patches(size)?);
    let columns = cells.width as usize;
    Ok(LabelMap::from_shape_fn(cells.shape(), |(row, column)| class(&patches[row * columns + column])))
}

fn truth(counts: &[u64; 256], majority: f32) -> ClassId {
    let labeled = counts[..usize::from(UNLABELED)].iter().sum::<u64>();
    if labeled == 0 {
        return UNLABELED;
    }
    // Of equals, the lowest id.
    let most = (1..UNLABELED).rev().max_by_key(|&id| counts[usize::from(id)]).unwrap_or(0);
    let count = counts[usize::from(most)];
    if count > 0 && count as f64 >= f64::from(majority) * labeled as f64 { most } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coral_core::ndarray::array;

    #[test]
    fn unlabelled_pixels_do_not_count() {
        let labels = array![[255, 255, 255, 3], [255, 255, 255, 0]];
        let grid = PatchGrid::Split { rows: 1, columns: 2 };
        assert_eq!(patch_truth(&labels, grid, 0.5).unwrap(), array![[255, 3]]);
        assert_eq!(patch_truth(&labels, grid, 0.6).unwrap(), array![[255, 0]]);
        assert_eq!(patch_truth(&array![[2, 1]], PatchGrid::Split { rows: 1, columns: 1 }, 0.0).unwrap(), array![[1]]);
        assert_eq!(patch_truth(&array![[0]], PatchGrid::Split { rows: 1, columns: 1 }, 0.0).unwrap(), array![[0]]);
    }

    #[test]
    fn wrong_input_is_named() {
        let labels = LabelMap::zeros((2, 2));
        let text = |rows, majority| {
            patch_truth(&labels, PatchGrid::Split { rows, columns: 1 }, majority).unwrap_err().to_string()
        };
        assert!(text(1, f32::NAN).contains("`majority`: expected 0..=1, got NaN"));
        assert!(text(3, 0.5).contains("too small for 1x3 patches"));
    }
}
