//! Pattern functions of position and seed: lattice noise, cells, labyrinths.
//!
//! Only additions, multiplications, divisions, square roots and integer hashes are used (no function of
//! the platform's mathematics library), so that every value is the same bit for bit on every machine.

use super::geometry::P2;

/// A well-mixed hash of a lattice point.
pub(crate) fn hash(x: i32, y: i32, seed: u32) -> u32 {
    let mut h = (x as u32).wrapping_mul(0x9E37_79B1) ^ (y as u32).wrapping_mul(0x85EB_CA77) ^ seed;
    h = (h ^ (h >> 15)).wrapping_mul(0x2C1B_3C6D);
    h = (h ^ (h >> 12)).wrapping_mul(0x297A_2D39);
    h ^ (h >> 15)
}

/// The number in 0..1 that the `part`-th byte-pair of a hash stands for (part 0 or 1).
pub(crate) fn unit(hash: u32, part: u32) -> f32 {
    ((hash >> (16 * part)) & 0xFFFF) as f32 / 65_536.0
}

/// The largest whole number not above `x`; `f32::floor` is a library call on plain x86-64.
#[inline]
pub(crate) fn floor(x: f32) -> i32 {
    let cut = x as i32;
    cut.wrapping_sub(i32::from(cut as f32 > x))
}

/// Cosine of `turns` full turns, within 0.001.
pub(crate) fn cos_turns(turns: f32) -> f32 {
    let t = turns - floor(turns + 0.5) as f32;
    let y = 0.25 - t.abs();
    let parabola = 16.0 * y * (0.5 - y.abs());
    parabola * (0.775 + 0.225 * parabola.abs())
}

/// Sine of `turns` full turns, within 0.001.
pub(crate) fn sin_turns(turns: f32) -> f32 {
    cos_turns(turns - 0.25)
}

/// `e` to the power −`x` for x in 0..50, within 2 %.
pub(crate) fn exp_neg(x: f32) -> f32 {
    let mut power = (1.0 - x / 1024.0).max(0.0);
    for _ in 0..10 {
        power *= power;
    }
    power
}

/// 0 below `low`, 1 above `high`, smooth between.
pub(crate) fn smoothstep(low: f32, high: f32, x: f32) -> f32 {
    let t = ((x - low) / (high - low)).clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}

/// Gradient noise of wavelength 1, in about −1..1, mean 0.
pub(crate) fn gradient(p: P2, seed: u32) -> f32 {
    let (ix, iy) = (floor(p.x), floor(p.y));
    let (dx, dy) = (p.x - ix as f32, p.y - iy as f32);
    let corner = |x: i32, y: i32, dx: f32, dy: f32| {
        let h = hash(x, y, seed);
        let (gx, gy) = (unit(h, 0) - 0.5, unit(h, 1) - 0.5);
        gx * dx + gy * dy
    };
    let fade = |t: f32| t * t * t * (t * (t * 6.0 - 15.0) + 10.0);
    let (u, v) = (fade(dx), fade(dy));
    let (right, below) = (ix.wrapping_add(1), iy.wrapping_add(1));
    let top = corner(ix, iy, dx, dy) * (1.0 - u) + corner(right, iy, dx - 1.0, dy) * u;
    let bottom = corner(ix, below, dx, dy - 1.0) * (1.0 - u) + corner(right, below, dx - 1.0, dy - 1.0) * u;
    2.6 * (top * (1.0 - v) + bottom * v)
}

/// Noise over several scales, up to what the pixels can show.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fractal {
    /// Waves per metre of the coarsest scale.
    pub(crate) frequency: f32,
    /// How many scales, each of twice the frequency and 0.55 times the amplitude.
    pub(crate) octaves: u32,
    /// Pixels per metre: scales finer than 2.5 pixels fade out instead of aliasing.
    pub(crate) ppm: f32,
}

impl Fractal {
    /// The value at `p` (metres), in about −1..1.
    pub(crate) fn at(self, p: P2, seed: u32) -> f32 {
        let (mut sum, mut amplitude, mut frequency) = (0.0, 1.0, self.frequency);
        for octave in 0..self.octaves {
            let visible = visibility(1.0 / frequency, self.ppm);
            if visible <= 0.0 {
                break;
            }
            sum += amplitude * visible * gradient(p.scale(frequency), seed.wrapping_add(octave * 0x9E37));
            amplitude *= 0.55;
            frequency *= 2.03;
        }
        sum
    }
}

/// How far a pattern of this wavelength (metres) shows: 0 below 1.5 pixels, 1 from 3 on.
pub(crate) fn visibility(wavelength: f32, ppm: f32) -> f32 {
    ((wavelength * ppm - 1.5) / 1.5).clamp(0.0, 1.0)
}

/// The nearest random cell centres around a place.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cell {
    /// Distance to the nearest centre, in cells.
    pub(crate) nearest: f32,
    /// Distance to the second nearest.
    pub(crate) second: f32,
    /// From the nearest centre to the place.
    pub(crate) offset: P2,
    /// A hash that names the nearest cell.
    pub(crate) id: u32,
}

/// Worley noise with one jittered centre per unit square.
pub(crate) fn cells(p: P2, seed: u32) -> Cell {
    let (ix, iy) = (floor(p.x), floor(p.y));
    let (dx, dy) = (p.x - ix as f32, p.y - iy as f32);
    let (mut nearest, mut second, mut id) = (f32::MAX, f32::MAX, 0);
    let mut offset = P2 { x: 0.0, y: 0.0 };
    for oy in -1..=1 {
        for ox in -1..=1 {
            let h = hash(ix.wrapping_add(ox), iy.wrapping_add(oy), seed);
            let x = ox as f32 + 0.1 + 0.8 * unit(h, 0) - dx;
            let y = oy as f32 + 0.1 + 0.8 * unit(h, 1) - dy;
            let squared = x * x + y * y;
            if squared < nearest {
                (second, nearest, id) = (nearest, squared, h);
                offset = P2 { x: -x, y: -y };
            } else if squared < second {
                second = squared;
            }
        }
    }
    Cell { nearest: nearest.sqrt(), second: second.sqrt(), offset, id }
}

/// A sum of plane waves of one wavelength in all directions: its level lines meander like a brain coral's ridges.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Labyrinth {
    waves: [(P2, f32); 6],
}

impl Labyrinth {
    /// A pattern of wavelength 1.
    pub(crate) fn new(seed: u32) -> Self {
        let wave = |i: usize| {
            let h = hash(i as i32, 17, seed);
            let direction = (i as f32 + 1.5 * unit(h, 0)) / 12.0;
            (P2 { x: cos_turns(direction), y: sin_turns(direction) }, unit(h, 1))
        };
        Self { waves: std::array::from_fn(wave) }
    }

    /// The value at `p`, in about −1..1.
    pub(crate) fn at(&self, p: P2) -> f32 {
        self.waves.iter().map(|(k, phase)| cos_turns(k.x * p.x + k.y * p.y + phase)).sum::<f32>() * 0.45
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid(step: f32) -> impl Iterator<Item = P2> {
        (0..10_000).map(move |i| P2 { x: (i % 100) as f32 * step - 7.3, y: (i / 100) as f32 * step + 2.1 })
    }

    #[test]
    fn noise_is_centred_and_bounded() {
        let values: Vec<f32> = grid(0.31).map(|p| gradient(p, 9)).collect();
        let mean = values.iter().sum::<f32>() / values.len() as f32;
        let spread = (values.iter().map(|v| v * v).sum::<f32>() / values.len() as f32).sqrt();
        assert!(mean.abs() < 0.03, "{mean}");
        assert!((0.2..0.5).contains(&spread), "{spread}");
        assert!(values.iter().all(|v| v.abs() <= 1.5));
        assert_ne!(gradient(P2 { x: 0.4, y: 0.3 }, 1), gradient(P2 { x: 0.4, y: 0.3 }, 2));
    }

    #[test]
    fn noise_is_continuous() {
        for p in grid(0.1) {
            let near = P2 { x: p.x + 1e-3, y: p.y };
            assert!((gradient(p, 3) - gradient(near, 3)).abs() < 0.02);
            assert!((cells(p, 3).nearest - cells(near, 3).nearest).abs() < 2e-3);
        }
    }

    #[test]
    fn approximations_are_close() {
        for i in -400..400 {
            let t = i as f32 / 100.0;
            let angle = f64::from(t) * std::f64::consts::TAU;
            assert!((f64::from(cos_turns(t)) - angle.cos()).abs() < 2e-3, "{t}");
            assert!((f64::from(sin_turns(t)) - angle.sin()).abs() < 2e-3, "{t}");
            let exact = f64::from(-t.abs()).exp();
            assert!((f64::from(exp_neg(t.abs())) - exact).abs() < 0.02 * exact, "{t}");
        }
    }

    #[test]
    fn fine_scales_fade_instead_of_aliasing() {
        let fractal = Fractal { frequency: 10.0, octaves: 5, ppm: 20.0 };
        let one = Fractal { frequency: 10.0, octaves: 1, ppm: 20.0 };
        for p in grid(0.01) {
            assert_eq!(fractal.at(p, 4), one.at(p, 4));
        }
    }

    #[test]
    fn cells_agree_with_a_wide_search() {
        for p in grid(0.17) {
            let mut best = f32::MAX;
            for y in -3..=3 {
                for x in -3..=3 {
                    let (cx, cy) = (p.x.floor() as i32 + x, p.y.floor() as i32 + y);
                    let h = hash(cx, cy, 8);
                    let (ex, ey) = (cx as f32 + 0.1 + 0.8 * unit(h, 0), cy as f32 + 0.1 + 0.8 * unit(h, 1));
                    best = best.min(((ex - p.x).powi(2) + (ey - p.y).powi(2)).sqrt());
                }
            }
            assert!((cells(p, 8).nearest - best).abs() < 1e-4);
        }
    }
}
