use ndarray::{Array2, ArrayView2};

/// Below this standard deviation the kernel is short enough to be applied as it is.
const DIRECT: f32 = 3.0;
/// Box filters in a row that stand for one Gaussian.
const PASSES: usize = 3;

/// The plane blurred by a Gaussian of standard deviation `sigma` pixels; the image is mirrored at its edges.
///
/// Up to a sigma of 3 the kernel is exact to 3 sigma; above, three box filters of fractional width stand for it (along each axis the
/// weights are within 6 % of the Gaussian's peak), at a cost that does not depend on sigma.
pub(crate) fn gaussian_blur(plane: ArrayView2<'_, f32>, sigma: f32) -> Array2<f32> {
    if sigma <= 0.0 || plane.is_empty() {
        return plane.to_owned();
    }
    // Columns are blurred many at a time; rows become columns by transposing.
    let (rows, columns) = plane.dim();
    let vertical = |values: Vec<f32>, columns: usize| {
        let boxed = |values: Vec<f32>, _| boxed(&values, columns, sigma);
        if sigma < DIRECT { direct(&values, columns, sigma) } else { (0..PASSES).fold(values, boxed) }
    };
    let upright = vertical(plane.iter().copied().collect(), columns);
    let turned = vertical(transposed(&upright, columns), rows);
    let mut blurred = Array2::zeros((rows, columns));
    blurred.iter_mut().zip(transposed(&turned, rows)).for_each(|(out, value)| *out = value);
    blurred
}

/// The row that stands for row `index` of an endlessly mirrored image of `rows` rows.
fn mirrored(index: isize, rows: usize) -> usize {
    let around = index.rem_euclid(2 * rows as isize) as usize;
    around.min(2 * rows - 1 - around)
}

/// The kernel as it is, down the columns of a row-major plane.
fn direct(values: &[f32], columns: usize, sigma: f32) -> Vec<f32> {
    let radius = (3.0 * sigma).round().max(1.0) as isize;
    let weight = |tap: isize| (-((tap * tap) as f32) / (2.0 * sigma * sigma)).exp();
    let total: f32 = (-radius..=radius).map(weight).sum();
    let weights: Vec<_> = (-radius..=radius).map(|tap| (tap, weight(tap) / total)).collect();
    let rows = values.len() / columns;
    let mut blurred = vec![0.0; values.len()];
    for (y, out) in blurred.chunks_mut(columns).enumerate() {
        for &(tap, weight) in &weights {
            let row = &values[mirrored(y as isize + tap, rows) * columns..][..columns];
            out.iter_mut().zip(row).for_each(|(out, value)| *out += weight * value);
        }
    }
    blurred
}

/// One box filter down the columns of a row-major plane, whose variance is a `PASSES`-th of the Gaussian's. The first and
/// the last row under it count only in part, so that any variance can be had.
fn boxed(values: &[f32], columns: usize, sigma: f32) -> Vec<f32> {
    let variance = f64::from(sigma * sigma) / PASSES as f64;
    let radius = (((12.0 * variance + 1.0).sqrt() - 1.0) / 2.0).floor();
    let part = (2.0 * radius + 1.0) * (radius * (radius + 1.0) - 3.0 * variance)
        / (6.0 * (variance - (radius + 1.0) * (radius + 1.0)));
    let scale = 1.0 / (2.0 * radius + 1.0 + 2.0 * part);
    let reach = radius as isize;
    let rows = values.len() / columns;
    let row = |y: isize| &values[mirrored(y, rows) * columns..][..columns];

    // The sum over the rows fully under the box, in f64: it is added to and taken from once a row.
    let mut sums = vec![0.0_f64; columns];
    for y in -reach..=reach {
        sums.iter_mut().zip(row(y)).for_each(|(sum, &value)| *sum += f64::from(value));
    }
    let mut blurred = vec![0.0; values.len()];
    for (out, y) in blurred.chunks_mut(columns).zip(0..) {
        let ends = row(y - reach - 1).iter().zip(row(y + reach + 1)).zip(row(y - reach));
        for ((out, sum), ((&before, &after), &last)) in out.iter_mut().zip(&mut sums).zip(ends) {
            *out = (scale * (*sum + part * f64::from(before + after))) as f32;
            *sum += f64::from(after) - f64::from(last);
        }
    }
    blurred
}

/// A row-major plane with columns as rows, in blocks that stay in the cache.
fn transposed(values: &[f32], columns: usize) -> Vec<f32> {
    const BLOCK: usize = 32;
    let rows = values.len() / columns;
    let mut turned = vec![0.0; values.len()];
    for top in (0..rows).step_by(BLOCK) {
        for left in (0..columns).step_by(BLOCK) {
            for x in left..columns.min(left + BLOCK) {
                let out = &mut turned[x * rows..][top..rows.min(top + BLOCK)];
                out.iter_mut().zip(top..).for_each(|(out, y)| *out = values[y * columns + x]);
            }
        }
    }
    turned
}

#[cfg(test)]
mod tests {
    use super::*;
    use coral_core::SeededRng;

    /// The definition: a weighted mean over the mirrored image, out to 5 sigma.
    fn naive(plane: &Array2<f32>, sigma: f32) -> Array2<f32> {
        let radius = (5.0 * sigma).ceil() as isize;
        let weight = |d: isize| f64::from(-((d * d) as f32) / (2.0 * sigma * sigma)).exp();
        let total: f64 = (-radius..=radius).map(weight).sum();
        let (rows, columns) = plane.dim();
        let rowwise = Array2::from_shape_fn((rows, columns), |(y, x)| {
            let at = |d| f64::from(plane[[y, mirrored(x as isize + d, columns)]]);
            (-radius..=radius).map(|d| weight(d) * at(d)).sum::<f64>() / total
        });
        Array2::from_shape_fn((rows, columns), |(y, x)| {
            let at = |d| rowwise[[mirrored(y as isize + d, rows), x]];
            ((-radius..=radius).map(|d| weight(d) * at(d)).sum::<f64>() / total) as f32
        })
    }

    #[test]
    fn blurring_is_near_the_definition() {
        let mut rng = SeededRng::new(1);
        for (rows, columns) in [(1, 1), (1, 30), (25, 40), (64, 3)] {
            let plane = Array2::from_shape_fn((rows, columns), |_| rng.normal() as f32);
            for (sigma, tolerance) in [(0.7, 0.01), (2.0, 0.01), (4.0, 0.06), (9.3, 0.06)] {
                let error = (gaussian_blur(plane.view(), sigma) - naive(&plane, sigma)).mapv(f32::abs);
                let worst = error.iter().copied().fold(0.0, f32::max);
                assert!(worst < tolerance, "{rows}x{columns}, sigma {sigma}: {worst}");
            }
        }
    }

    #[test]
    fn an_impulse_keeps_its_mass_and_spreads_by_sigma() {
        for sigma in [1.5, 5.0, 7.7] {
            let mut plane = Array2::zeros((101, 81));
            plane[[50, 40]] = 1.0;
            let blurred = gaussian_blur(plane.view(), sigma);
            assert!((blurred.sum() - 1.0).abs() < 1e-4);
            // The kernel down the middle column, which the columns share.
            let peak = 1.0 / (2.0 * std::f32::consts::PI * sigma * sigma);
            for (y, value) in blurred.column(40).indexed_iter() {
                let gaussian = peak * (-(y as f32 - 50.0).powi(2) / (2.0 * sigma * sigma)).exp();
                assert!((value - gaussian).abs() < 0.12 * peak, "{sigma}, row {y}: {value} {gaussian}");
            }
            let variance: f32 = blurred.indexed_iter().map(|((y, _), v)| v * (y as f32 - 50.0).powi(2)).sum();
            assert!((variance.sqrt() / sigma - 1.0).abs() < 0.02, "{sigma}: {}", variance.sqrt());
        }
    }

    #[test]
    fn flat_planes_stay_flat() {
        let plane = Array2::from_elem((40, 33), 71.3_f32);
        for sigma in [0.0, 1.0, 6.0, 50.0] {
            assert!(gaussian_blur(plane.view(), sigma).iter().all(|value| (value - 71.3).abs() < 1e-4));
        }
    }
}
