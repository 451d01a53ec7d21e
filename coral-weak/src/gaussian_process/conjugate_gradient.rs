use coral_core::{Error, Result};
use ndarray::{Array2, ArrayView2};

use crate::parallel;

/// A system is solved once the residual is this small a part of the right-hand side.
const TOLERANCE: f64 = 1e-9;
const MAX_ITERATIONS: usize = 2_000;

/// Solves `A x = b` for every column of `right`, where `A` is symmetric and positive definite: `diagonal` plus the
/// off-diagonal `(column, value)` entries of each row. Conjugate gradients, preconditioned by the diagonal.
///
/// # Errors
/// [`Error::InvalidInput`] when a value is not finite or the system does not converge.
pub(super) fn solve(diagonal: &[f64], rows: &[Vec<(usize, f64)>], right: ArrayView2<'_, f64>) -> Result<Array2<f64>> {
    // Columns side by side in memory, so that each is solved where it stays.
    let mut solution = Array2::zeros((right.ncols(), right.nrows()));
    let columns = right.columns().into_iter().zip(solution.rows_mut()).collect();
    let solved = parallel::map(columns, |(right, mut out)| -> Result<()> {
        let column = solve_column(diagonal, rows, &right.to_vec())?;
        out.iter_mut().zip(column).for_each(|(out, value)| *out = value);
        Ok(())
    });
    solved.into_iter().collect::<Result<()>>()?;
    Ok(solution.reversed_axes())
}

fn solve_column(diagonal: &[f64], rows: &[Vec<(usize, f64)>], right: &[f64]) -> Result<Vec<f64>> {
    let mut x = vec![0.0; right.len()];
    let mut residual = right.to_vec();
    let wanted = TOLERANCE * dot(right, right).sqrt();
    let precondition = |residual: &[f64]| -> Vec<f64> { residual.iter().zip(diagonal).map(|(r, d)| r / d).collect() };
    let mut direction = precondition(&residual);
    let mut descent = dot(&residual, &direction);
    for _ in 0..MAX_ITERATIONS {
        if dot(&residual, &residual).sqrt() <= wanted {
            return Ok(x);
        }
        let image = multiply(diagonal, rows, &direction);
        let step = descent / dot(&direction, &image);
        x.iter_mut().zip(&direction).for_each(|(x, d)| *x += step * d);
        residual.iter_mut().zip(&image).for_each(|(r, i)| *r -= step * i);
        let scaled = precondition(&residual);
        let next = dot(&residual, &scaled);
        let keep = next / descent;
        direction.iter_mut().zip(&scaled).for_each(|(d, s)| *d = s + keep * *d);
        descent = next;
    }
    Err(Error::input("points", format!("the linear system did not converge in {MAX_ITERATIONS} steps")))
}

fn multiply(diagonal: &[f64], rows: &[Vec<(usize, f64)>], x: &[f64]) -> Vec<f64> {
    let row = |(i, entries): (usize, &Vec<(usize, f64)>)| {
        diagonal[i] * x[i] + entries.iter().map(|&(j, value)| value * x[j]).sum::<f64>()
    };
    rows.iter().enumerate().map(row).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use coral_core::SeededRng;

    #[test]
    fn solutions_satisfy_the_system() {
        let mut rng = SeededRng::new(4);
        let n = 60;
        let mut rows = vec![Vec::new(); n];
        let mut diagonal = vec![0.5; n];
        for _ in 0..300 {
            let (i, j, value) = (rng.below(n), rng.below(n), rng.uniform());
            if i != j {
                rows[i].push((j, -value));
                rows[j].push((i, -value));
                diagonal[i] += value;
                diagonal[j] += value;
            }
        }
        let right = Array2::from_shape_fn((n, 3), |_| rng.normal());
        let solution = solve(&diagonal, &rows, right.view()).unwrap();
        for (column, right) in solution.columns().into_iter().zip(right.columns()) {
            let image = multiply(&diagonal, &rows, &column.to_vec());
            let error = image.iter().zip(right).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(error < 1e-5, "{error}");
        }
    }

    #[test]
    fn a_zero_right_side_has_a_zero_solution() {
        let solution = solve(&[2.0, 3.0], &[vec![], vec![]], Array2::zeros((2, 1)).view()).unwrap();
        assert_eq!(solution, Array2::<f64>::zeros((2, 1)));
    }

    #[test]
    fn values_that_are_not_finite_are_an_error() {
        assert!(solve(&[f64::NAN], &[vec![]], Array2::ones((1, 1)).view()).is_err());
    }
}
