use rayon::prelude::*;

use crate::ops::parts_of_values;

/// Elements of a task: about what the second-level cache holds of a weight, its gradient and its two moments.
const GRAIN: usize = 16 * 1024;

/// Runs `task` on all cores, each time on the same part of `values`, of `others` and of `source`.
pub(super) fn in_parts<const N: usize>(
    values: &mut [f32],
    others: [&mut [f32]; N],
    source: &[f32],
    task: impl Fn(&mut [f32], [&mut [f32]; N], &[f32]) + Sync,
) {
    let mut others = others.map(|other| other.chunks_mut(GRAIN));
    let parts = values.chunks_mut(GRAIN).zip(source.chunks(GRAIN)).map(|(values, source)| {
        let others = others.each_mut().map(|other| other.next().unwrap_or_default());
        (values, others, source)
    });
    let parts: Vec<_> = parts.collect();
    parts_of_values(parts.into_par_iter(), GRAIN).for_each(|(values, others, source)| {
        pulp::Arch::new().dispatch(|| task(values, others, source));
    });
}

/// The sum of squares; the same for any number of threads.
pub(super) fn sum_of_squares(values: &[f32]) -> f64 {
    let part = |part: &[f32]| pulp::Arch::new().dispatch(|| squares(part));
    parts_of_values(values.par_chunks(GRAIN), GRAIN).map(part).collect::<Vec<_>>().into_iter().sum()
}

/// Eight partial sums: the compiler may not reorder one sum into vectors by itself.
#[inline(always)]
fn squares(values: &[f32]) -> f64 {
    let (eights, rest) = values.as_chunks::<8>();
    let mut partial = [0.0f64; 8];
    for eight in eights {
        for (p, &v) in partial.iter_mut().zip(eight) {
            *p += f64::from(v) * f64::from(v);
        }
    }
    partial.iter().sum::<f64>() + rest.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_visited_once() {
        for len in [0, 1, GRAIN - 1, GRAIN, 2 * GRAIN + 7] {
            let source: Vec<f32> = (0..len).map(|i| i as f32).collect();
            let (mut values, mut other) = (vec![1.0; len], vec![2.0; len]);
            in_parts(&mut values, [&mut other], &source, |values, [other], source| {
                for ((v, o), s) in values.iter_mut().zip(other).zip(source) {
                    *v += *o * s;
                    *o = -s;
                }
            });
            assert!((0..len).all(|i| values[i] == 1.0 + 2.0 * i as f32 && other[i] == -(i as f32)), "{len}");
            let expected: f64 = source.iter().map(|&v| f64::from(v).powi(2)).sum();
            assert!((sum_of_squares(&source) - expected).abs() <= 1e-12 * expected, "{len}");
        }
    }
}
