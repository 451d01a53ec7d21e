//! How much light reaches each pixel of a height field.

use ndarray::Array2;

use super::{
    geometry::P2,
    noise::{gradient, smoothstep},
};

/// A sun or lamp above the top edge of the picture.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Light {
    /// Columns that the light's ray moves per row, −1..1.
    pub(crate) drift: f32,
    /// Tangent of the light's height above the horizon.
    pub(crate) elevation: f32,
}

/// Direct and ambient light per pixel, each about 1 on a flat open floor.
#[derive(Debug)]
pub(crate) struct Lit {
    pub(crate) direct: Array2<f32>,
    pub(crate) ambient: Array2<f32>,
}

/// Shades a height field given in pixels: slopes, cast shadows and the gloom of crevices.
pub(crate) fn shade(heights: &Array2<f32>, light: Light, ppm: f32) -> Lit {
    let (rows, columns) = heights.dim();
    // The sky and ripples on the surface scatter light into the rim of a shadow.
    let shadow = shadows(heights, light, (0.012 * ppm).max(0.5));
    // Direction towards the light, of unit length.
    let flat = (1.0 + light.drift * light.drift).sqrt();
    let length = (1.0 + light.elevation * light.elevation).sqrt();
    let (to_x, to_y, to_z) = (-light.drift / flat / length, -1.0 / flat / length, light.elevation / length);
    let mut direct = Array2::zeros((rows, columns));
    for y in 0..rows {
        for x in 0..columns {
            let at = |y: usize, x: usize| heights[[y, x]];
            let dx = 0.5 * (at(y, (x + 1).min(columns - 1)) - at(y, x.saturating_sub(1)));
            let dy = 0.5 * (at((y + 1).min(rows - 1), x) - at(y.saturating_sub(1), x));
            let facing = (to_z - dx * to_x - dy * to_y) / (1.0 + dx * dx + dy * dy).sqrt();
            direct[[y, x]] = (facing / to_z).clamp(0.0, 1.9) * (1.0 - shadow[[y, x]]);
        }
    }
    let narrow = 0.011 * ppm;
    let mut ambient = Array2::from_elem((rows, columns), 1.0_f32);
    for (radius, weight) in [(narrow, 0.42), (4.0 * narrow, 0.20)] {
        let mean = blur(heights, radius.max(0.5));
        for ((light, &height), &mean) in ambient.iter_mut().zip(heights).zip(&mean) {
            *light *= 1.0 - weight * ((mean - height) / (0.9 * radius.max(0.5))).clamp(-0.35, 1.0);
        }
    }
    Lit { direct, ambient }
}

/// How deep in cast shadow each pixel lies, 0..1. One sweep away from the light carries the
/// height of the shadow's upper edge from row to row, so the cost does not depend on the shadows' length.
/// A shadow is full where it is `rim` pixels deep.
fn shadows(heights: &Array2<f32>, light: Light, rim: f32) -> Array2<f32> {
    let (rows, columns) = heights.dim();
    let fall = light.elevation * (1.0 + light.drift * light.drift).sqrt();
    let mut shadow = Array2::zeros((rows, columns));
    let mut edge: Vec<f32> = heights.row(0).to_vec();
    for y in 1..rows {
        let previous = edge.clone();
        for x in 0..columns {
            let source = (x as f32 - light.drift).clamp(0.0, (columns - 1) as f32);
            let left = source as usize;
            let share = source - left as f32;
            let right = (left + 1).min(columns - 1);
            let carried = previous[left] * (1.0 - share) + previous[right] * share - fall;
            let height = heights[[y, x]];
            shadow[[y, x]] = smoothstep(0.0, rim, carried - height);
            edge[x] = carried.max(height);
        }
    }
    shadow
}

/// Approximately Gaussian blur (three box blurs) of standard deviation `sigma` pixels; edges are repeated.
pub(crate) fn blur(values: &Array2<f32>, sigma: f32) -> Array2<f32> {
    let mut blurred = values.clone();
    let (rows, columns) = values.dim();
    let variance = sigma * sigma / 3.0;
    let mut line = Vec::new();
    for _ in 0..3 {
        for y in 0..rows {
            box_line(blurred.row_mut(y), variance, &mut line);
        }
    }
    let mut turned = Array2::from_shape_fn((columns, rows), |(x, y)| blurred[[y, x]]);
    for _ in 0..3 {
        for x in 0..columns {
            box_line(turned.row_mut(x), variance, &mut line);
        }
    }
    Array2::from_shape_fn((rows, columns), |(y, x)| turned[[x, y]])
}

/// One box of the given variance, with fractional weights on its two outermost pixels.
fn box_line(mut values: ndarray::ArrayViewMut1<'_, f32>, variance: f32, line: &mut Vec<f32>) {
    let spread = |r: f32| r * (r + 1.0) * (2.0 * r + 1.0) / 3.0;
    let mut r = 0.0_f32;
    while spread(r + 1.0) <= variance * (2.0 * r + 3.0) {
        r += 1.0;
    }
    // Weight w of the outermost pixels solves (spread(r) + 2w(r+1)²) / (2r+1+2w) = variance.
    let outer = (r + 1.0) * (r + 1.0);
    let w = (variance * (2.0 * r + 1.0) - spread(r)) / (2.0 * (outer - variance)).max(1e-6);
    let (w, total) = (w.clamp(0.0, 1.0), 2.0 * r + 1.0 + 2.0 * w.clamp(0.0, 1.0));
    line.clear();
    line.extend(values.iter());
    let last = line.len() as isize - 1;
    let at = |i: isize| line[i.clamp(0, last) as usize];
    let r = r as isize;
    let mut sum: f32 = (-r..=r).map(at).sum();
    for i in 0..=last {
        values[i as usize] = (sum + w * (at(i - r - 1) + at(i + r + 1))) / total;
        sum += at(i + r + 1) - at(i - r);
    }
}

/// The light of a caustic network at a place, mean about 0: bright lines where the surface focuses the sun.
pub(crate) fn caustic(p: P2, seed: u32) -> f32 {
    let sway = P2 { x: gradient(p.scale(2.5), seed), y: gradient(p.scale(2.5), seed ^ 1) }.scale(0.5);
    let q = p.scale(3.6).add(sway);
    let line = |v: f32| (1.0 - 2.6 * v.abs()).max(0.0);
    let (a, b) = (line(gradient(q, seed ^ 2)), line(gradient(q.scale(1.7), seed ^ 3)));
    a * a + 0.6 * b * b - 0.35
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wall_throws_its_shadow_away_from_the_light() {
        let mut heights = Array2::zeros((60, 20));
        heights.row_mut(20).fill(10.0);
        let shadow = shadows(&heights, Light { drift: 0.0, elevation: 1.0 }, 3.0);
        assert_eq!(shadow[[10, 5]], 0.0);
        assert!(shadow[[23, 5]] > 0.9);
        assert_eq!(shadow[[32, 5]], 0.0);
        let lit = shade(&heights, Light { drift: 0.3, elevation: 1.0 }, 100.0);
        assert!(lit.direct[[19, 5]] > 1.1, "the wall's lit side: {}", lit.direct[[19, 5]]);
        assert!((lit.direct[[5, 5]] - 1.0).abs() < 1e-5);
        assert!(lit.ambient[[21, 5]] < 0.9 && (lit.ambient[[59, 5]] - 1.0).abs() < 0.02);
    }

    #[test]
    fn blurring_keeps_the_mass_and_has_the_wanted_width() {
        for sigma in [0.4_f32, 0.8, 2.0, 5.3] {
            let mut values = Array2::zeros((81, 91));
            values[[40, 45]] = 1.0;
            let blurred = blur(&values, sigma);
            let moment = |power: i32| -> f32 {
                blurred.indexed_iter().map(|((_, x), v)| v * (x as f32 - 45.0).powi(power)).sum()
            };
            assert!((moment(0) - 1.0).abs() < 1e-3);
            assert!((moment(2).sqrt() - sigma).abs() < 0.03 * sigma, "{sigma}: {}", moment(2).sqrt());
        }
        let flat = Array2::from_elem((1, 40), 2.5_f32);
        assert!(blur(&flat, 3.0).iter().all(|v| (v - 2.5).abs() < 1e-4));
    }
}
