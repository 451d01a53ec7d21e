use rayon::prelude::*;

use super::simd;

/// Replaces the logits of `classes` planes, which lie one after the other, by their softmax over the planes.
pub(crate) fn softmax_planes(values: &mut [f32], classes: usize) {
    // The values of all classes at that many positions stay in the cache.
    const GRAIN: usize = 4096;
    if classes == 0 || values.is_empty() {
        return;
    }
    let plane = values.len() / classes;
    let mut planes: Vec<_> = values.chunks_mut(plane).map(|plane| plane.chunks_mut(GRAIN)).collect();
    let mut parts: Vec<Vec<&mut [f32]>> =
        (0..plane.div_ceil(GRAIN)).map(|_| planes.iter_mut().filter_map(Iterator::next).collect()).collect();
    parts.par_iter_mut().for_each_init(Vec::new, |scratch, part| {
        pulp::Arch::new().dispatch(
            #[inline(always)]
            || softmax_part(part, scratch),
        );
    });
}

#[inline(always)]
fn softmax_part(classes: &mut [&mut [f32]], scratch: &mut Vec<[f32; 2]>) {
    scratch.clear();
    scratch.resize(classes.first().map_or(0, |class| class.len()), [f32::NEG_INFINITY, 0.0]);
    for class in classes.iter() {
        for ([largest, _], &value) in scratch.iter_mut().zip(class.iter()) {
            *largest = if value > *largest { value } else { *largest };
        }
    }
    for class in classes.iter_mut() {
        for ([largest, sum], value) in scratch.iter_mut().zip(class.iter_mut()) {
            *value = simd::exp(*value - *largest);
            *sum += *value;
        }
    }
    for class in classes.iter_mut() {
        class.iter_mut().zip(scratch.iter()).for_each(|(value, [_, sum])| *value /= sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::random;

    #[test]
    fn the_softmax_of_every_position_is_right() {
        for (classes, pixels) in [(1, 1), (3, 5), (5, 9000), (2, 4096)] {
            let logits: Vec<f32> = random(&[classes * pixels], 1).affine(20.0, 3.0).unwrap().to_vec1().unwrap();
            let mut ours = logits.clone();
            softmax_planes(&mut ours, classes);
            for pixel in 0..pixels {
                let powers: Vec<f64> =
                    (0..classes).map(|class| f64::from(logits[class * pixels + pixel]).exp()).collect();
                let sum: f64 = powers.iter().sum();
                for (class, power) in powers.iter().enumerate() {
                    assert!((f64::from(ours[class * pixels + pixel]) - power / sum).abs() < 1e-6);
                }
            }
        }
    }

    #[test]
    fn large_logits_and_empty_planes_do_no_harm() {
        let mut values = [3e30f32, -3e30, 0.0, 0.0];
        softmax_planes(&mut values, 2);
        values.iter().zip([1.0, 0.0, 0.0, 1.0]).for_each(|(ours, expected)| assert!((ours - expected).abs() < 1e-30));
        softmax_planes(&mut [], 2);
        softmax_planes(&mut [], 0);
    }
}
