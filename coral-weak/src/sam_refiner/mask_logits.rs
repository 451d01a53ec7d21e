//! A mask as the logits that a network of the Segment Anything family takes for a prompt.

use coral_core::{Error, Result, Size};
use ndarray::{Array2, ArrayView2};

use super::config::MaskFrame;
use super::depth::{check_size, size_of};
use super::prompts::RefinerPrompts;
use crate::between::betweens;
use crate::parallel;

/// A mask as logits, `mask_side`×`mask_side`: ±`strength`, times the weights where these are not 0; `prompts` are those
/// that [`refiner_prompts`](crate::refiner_prompts) finds for the mask.
///
/// The mask is brought to the frame in the network's two steps, both bilinear: to the size of the image in
/// `image_side`, then, padded, to `mask_side`.
///
/// # Errors
/// [`Error::InvalidParameter`] for a side of the frame or a strength out of range, [`Error::ShapeMismatch`] when mask
/// and weights differ in size, [`Error::InvalidInput`] when they have no pixels.
///
/// # References
/// SAMRefiner (Lin et al., ICLR 2025). Agrees with the published program within 1e-3, but for cells that the edge of
/// the mask halves (golden case `samrefiner`).
pub fn refiner_mask_logits(
    mask: ArrayView2<'_, bool>,
    prompts: &RefinerPrompts,
    strength: f32,
    frame: MaskFrame,
) -> Result<Array2<f32>> {
    frame.validate()?;
    if !(strength.is_finite() && strength > 0.0) {
        return Err(Error::parameter("strength", format!("expected a number above 0, got {strength}")));
    }
    check_size(mask)?;
    let size = Size::of_map(&prompts.weight);
    size.expect("mask", size_of(mask))?;
    let axes = frame_axes(size, frame);
    let signs = resample(&mask.mapv(|inside| if inside { 1.0 } else { -1.0 }), &axes, -1.0);
    let mut logits = resample(&prompts.weight, &axes, 0.0);
    logits.zip_mut_with(&signs, |weight, &sign| {
        let logit = if sign > 0.0 { strength } else { -strength };
        *weight = if *weight > 0.0 { logit * *weight } else { logit };
    });
    Ok(logits)
}

/// The pixels of an image that a cell of the frame is interpolated from, and their shares; what the shares lack to 1 is
/// padding.
type Taps = [(usize, f32); 4];

/// The taps of the columns and of the rows of the frame.
struct Axes {
    columns: Vec<Taps>,
    rows: Vec<Taps>,
}

fn frame_axes(size: Size, frame: MaskFrame) -> Axes {
    let scale = f64::from(frame.image_side) / f64::from(size.width.max(size.height));
    let axis = |pixels: u32| {
        // As the network rounds it.
        let scaled = ((f64::from(pixels) * scale + 0.5) as usize).clamp(1, frame.image_side as usize);
        let inner = betweens(pixels as usize, scaled);
        let share = |at: usize, share: f32| match inner.get(at) {
            Some(inside) => [(inside.first, share * (1.0 - inside.share)), (inside.second, share * inside.share)],
            None => [(0, 0.0); 2],
        };
        let outer = betweens(frame.image_side as usize, frame.mask_side as usize);
        let taps = outer.into_iter().map(|cell| {
            let ([a, b], [c, d]) = (share(cell.first, 1.0 - cell.share), share(cell.second, cell.share));
            [a, b, c, d]
        });
        taps.collect()
    };
    Axes { columns: axis(size.width), rows: axis(size.height) }
}

/// Interpolates; `padding` is the value around the image.
fn resample(plane: &Array2<f32>, axes: &Axes, padding: f32) -> Array2<f32> {
    // What differs from the padding; the padding itself adds nothing.
    let rows: Vec<_> = plane.rows().into_iter().collect();
    let narrowed = parallel::map(rows, |row| -> Vec<f32> {
        let cell = |taps: &Taps| taps.iter().map(|&(x, share)| share * (row[x] - padding)).sum();
        axes.columns.iter().map(cell).collect()
    });
    Array2::from_shape_fn((axes.rows.len(), axes.columns.len()), |(y, x)| {
        padding + axes.rows[y].iter().map(|&(row, share)| share * narrowed[row][x]).sum::<f32>()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{SamRefinerConfig, refiner_prompts};
    use ndarray::s;

    #[test]
    fn the_rest_of_the_square_is_outside() {
        let mask = Array2::from_shape_fn((6, 12), |(_, x)| x < 6);
        let prompts = refiner_prompts(mask.view(), &SamRefinerConfig::default()).unwrap().unwrap();
        let frame = MaskFrame { image_side: 48, mask_side: 12 };
        let logits = refiner_mask_logits(mask.view(), &prompts, 20.0, frame).unwrap();
        assert_eq!(logits.dim(), (12, 12));
        // A cell is a pixel here; below the sixth row there is no image.
        assert!(logits.slice(s![6.., ..]).iter().chain(logits.slice(s![.., 7..])).all(|&v| v == -20.0));
        assert!(logits.slice(s![..6, ..6]).iter().all(|&v| 0.0 < v && v <= 20.0));
        assert!((logits[[3, 0]] - 20.0).abs() < 1.0 && logits[[3, 5]] < logits[[3, 1]]);
    }

    #[test]
    fn misfits_are_named() {
        let mask = Array2::from_elem((3, 4), true);
        let mut prompts = refiner_prompts(mask.view(), &SamRefinerConfig::default()).unwrap().unwrap();
        let text = |mask: &Array2<bool>, prompts: &RefinerPrompts, strength, mask_side| {
            let frame = MaskFrame { image_side: 16, mask_side };
            refiner_mask_logits(mask.view(), prompts, strength, frame).unwrap_err().to_string()
        };
        assert!(text(&mask, &prompts, 30.0, 0).contains("`frame.mask_side`"));
        assert!(text(&mask, &prompts, f32::NAN, 4).contains("`strength`"));
        assert!(text(&Array2::default((0, 0)), &prompts, 1.0, 4).contains("got 0x0"));
        prompts.weight = Array2::zeros((4, 3));
        assert_eq!(text(&mask, &prompts, 1.0, 4), "mask: expected shape 3x4, got 4x3");
    }
}
