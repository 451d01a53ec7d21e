use ndarray::ArrayView2;

/// How little a mask depends on its threshold: the pixels with logits above `mask_threshold + offset` as a share of
/// those above `mask_threshold - offset`; 0 when there is none. `logits` are H×W.
///
/// # Examples
/// ```
/// use coral_core::ndarray::array;
/// use coral_models::stability_score;
/// let logits = array![[5.0, 3.0, 0.5], [2.0, -0.5, -4.0]];
/// assert_eq!(stability_score(logits.view(), 0.0, 1.0), 0.6);
/// ```
///
/// # References
/// Kirillov et al., *Segment Anything*, ICCV 2023; equal to the published score, which is NaN where ours is 0.
pub fn stability_score(logits: ArrayView2<'_, f32>, mask_threshold: f64, offset: f64) -> f32 {
    let (high, low) = ((mask_threshold + offset) as f32, (mask_threshold - offset) as f32);
    let (inner, outer) = match logits.as_slice() {
        Some(values) => pulp::Arch::new().dispatch(|| count_above(values, high, low)),
        None => logits.rows().into_iter().fold((0, 0), |sum, row| {
            let inner = row.iter().filter(|&&value| value > high).count() as u64;
            let outer = row.iter().filter(|&&value| value > low).count() as u64;
            (sum.0 + inner, sum.1 + outer)
        }),
    };
    if outer == 0 { 0.0 } else { inner as f32 / outer as f32 }
}

/// Values that one pass counts in 32 bits.
const BLOCK: usize = 1 << 20;

/// How many values are above `high` and how many above `low`.
#[inline(always)]
fn count_above(values: &[f32], high: f32, low: f32) -> (u64, u64) {
    let (mut inner, mut outer) = (0, 0);
    for block in values.chunks(BLOCK) {
        let (mut above_high, mut above_low) = (0u32, 0u32);
        for &value in block {
            above_high += u32::from(value > high);
            above_low += u32::from(value > low);
        }
        inner += u64::from(above_high);
        outer += u64::from(above_low);
    }
    (inner, outer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Array2;

    #[test]
    fn both_memory_orders_count_alike() {
        let logits = Array2::from_shape_fn((37, 53), |(y, x)| ((y * 7 + x * 3) % 11) as f32 - 5.0);
        let inner = logits.iter().filter(|&&v| v > 1.5).count() as f32;
        let outer = logits.iter().filter(|&&v| v > -0.5).count() as f32;
        assert_eq!(stability_score(logits.view(), 0.5, 1.0), inner / outer);
        assert_eq!(stability_score(logits.t(), 0.5, 1.0), inner / outer);
    }

    #[test]
    fn limits_themselves_are_outside() {
        let logits = ndarray::array![[1.0, -1.0, -0.999]];
        assert_eq!(stability_score(logits.view(), 0.0, 1.0), 0.0);
        assert_eq!(stability_score(logits.view(), 0.0, 0.5), 1.0);
    }

    #[test]
    fn nothing_above_is_unstable() {
        assert_eq!(stability_score(Array2::from_elem((3, 4), -2.0).view(), 0.0, 1.0), 0.0);
        assert_eq!(stability_score(Array2::from_elem((3, 4), f32::NAN).view(), 0.0, 1.0), 0.0);
        assert_eq!(stability_score(Array2::zeros((0, 4)).view(), 0.0, 1.0), 0.0);
    }
}
