//! Fast approximate Gaussian filtering of values at points in a space of few dimensions.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use crate::parallel::{self, for_each_chunk};

/// Dimensions of the largest space.
const MOST_DIMS: usize = 5;
/// Points or vertices that one task works on.
const BLOCK: usize = 4096;
/// Points whose simplices are held at once: those of all points would need more memory than the lattice.
const PART: usize = 16 * BLOCK;
/// A vertex by its first D coordinates (those after are 0; all D + 1 sum to 0).
type Key = [i32; MOST_DIMS];

/// The permutohedral lattice around N points in D dimensions: values at the points are spread to the D + 1 vertices of
/// the simplex that each lies in, blurred along the lattice's D + 1 directions and gathered again.
pub(super) struct Lattice {
    /// D + 1, the vertices of a simplex.
    corners: usize,
    vertices: usize,
    /// N×(D + 1): vertex and share.
    places: Vec<(u32, f32)>,
    /// For every vertex where its points begin in `members`, and the end.
    starts: Vec<u32>,
    /// Point and share, vertex after vertex, in the points' order.
    members: Vec<(u32, f32)>,
    /// For each direction the two neighbours of all vertices; `vertices` stands for one that is not there.
    neighbours: Vec<Vec<[u32; 2]>>,
}

impl Lattice {
    /// The lattice of points whose coordinates are in units of the Gaussian's standard deviation.
    pub(super) fn new<const D: usize>(points: &[[f32; D]]) -> Self {
        const { assert!(0 < D && D <= MOST_DIMS) };
        let corners = D + 1;
        let mut ids: HashMap<Key, u32, BuildHasherDefault<KeyHasher>> = HashMap::default();
        let mut keys: Vec<Key> = Vec::new();
        let mut places = Vec::with_capacity(points.len() * corners);
        let mut simplices = vec![Simplex::<D>::around(&[0.0; D]); points.len().min(PART)];
        for part in points.chunks(PART) {
            let simplices = &mut simplices[..part.len()];
            for_each_chunk(simplices, BLOCK, |block, simplices| {
                let around = simplices.iter_mut().zip(&part[block * BLOCK..]);
                around.for_each(|(simplex, point)| *simplex = Simplex::around(point));
            });
            // One after the other, so that vertices are always numbered alike.
            for simplex in simplices {
                for corner in 0..corners {
                    let key = simplex.key(corner);
                    let id = *ids.entry(key).or_insert_with(|| {
                        keys.push(key);
                        keys.len() as u32 - 1
                    });
                    places.push((id, simplex.shares[corner]));
                }
            }
        }
        let vertices = keys.len();
        let find = |key: Key| ids.get(&key).copied().unwrap_or(vertices as u32);
        let direction = |axis: usize| {
            let along = |key: &Key, sign: i32| {
                let coordinate = |i: usize| key[i] + if i == axis { sign * D as i32 } else { -sign };
                find(std::array::from_fn(|i| if i < D { coordinate(i) } else { 0 }))
            };
            keys.iter().map(|key| [along(key, 1), along(key, -1)]).collect()
        };
        let neighbours = parallel::map((0..corners).collect(), direction);
        let (starts, members) = members(&places, corners, vertices);
        Self { corners, vertices, places, starts, members, neighbours }
    }

    /// For every point Σⱼ k(i, j)·value(j), up to a constant factor, where k is about exp(−|i − j|²/2); `values` are
    /// N×`channels`.
    pub(super) fn filter(&self, values: &[f32], channels: usize) -> Vec<f32> {
        // The last vertex stands for all that are not there: always 0.
        let mut current = vec![0.0; (self.vertices + 1) * channels];
        for_each_chunk(&mut current[..self.vertices * channels], BLOCK * channels, |block, sums| {
            for (sums, vertex) in sums.chunks_exact_mut(channels).zip(block * BLOCK..) {
                for &(point, share) in &self.members[self.starts[vertex] as usize..self.starts[vertex + 1] as usize] {
                    add_scaled(sums, share, &values[point as usize * channels..][..channels]);
                }
            }
        });
        let mut next = current.clone();
        for neighbours in &self.neighbours {
            for_each_chunk(&mut next[..self.vertices * channels], BLOCK * channels, |block, sums| {
                for (sums, vertex) in sums.chunks_exact_mut(channels).zip(block * BLOCK..) {
                    let at = |vertex: usize| &current[vertex * channels..][..channels];
                    sums.copy_from_slice(at(vertex));
                    neighbours[vertex].iter().for_each(|&neighbour| add_scaled(sums, 0.5, at(neighbour as usize)));
                }
            });
            std::mem::swap(&mut current, &mut next);
        }
        let mut result = vec![0.0; values.len()];
        for_each_chunk(&mut result, BLOCK * channels, |block, sums| {
            for (sums, point) in sums.chunks_exact_mut(channels).zip(block * BLOCK..) {
                for &(vertex, share) in &self.places[point * self.corners..][..self.corners] {
                    add_scaled(sums, share, &current[vertex as usize * channels..][..channels]);
                }
            }
        });
        result
    }
}

fn add_scaled(sums: &mut [f32], scale: f32, values: &[f32]) {
    sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += scale * value);
}

/// The points of every vertex: `places` the other way round.
fn members(places: &[(u32, f32)], corners: usize, vertices: usize) -> (Vec<u32>, Vec<(u32, f32)>) {
    let mut starts = vec![0u32; vertices + 1];
    places.iter().for_each(|&(vertex, _)| starts[vertex as usize + 1] += 1);
    for vertex in 0..vertices {
        starts[vertex + 1] += starts[vertex];
    }
    let mut next = starts.clone();
    let mut members = vec![(0, 0.0); places.len()];
    for (place, &(vertex, share)) in places.iter().enumerate() {
        let at = &mut next[vertex as usize];
        members[*at as usize] = ((place / corners) as u32, share);
        *at += 1;
    }
    (starts, members)
}

/// The simplex of the lattice that a point lies in.
#[derive(Clone)]
struct Simplex<const D: usize> {
    /// The first D coordinates of its corner 0.
    origin: Key,
    /// The order of the coordinates by how far they exceed corner 0, the farthest first.
    rank: Key,
    /// Barycentric coordinates, D + 1 of them.
    shares: [f32; MOST_DIMS + 1],
}

impl<const D: usize> Simplex<D> {
    fn around(point: &[f32; D]) -> Self {
        let corners = D as i32 + 1;
        // Into the hyperplane of coordinate sum 0, scaled so that splat, blur and slice together have variance 1.
        let mut elevated = [0.0f64; MOST_DIMS + 1];
        let mut sum = 0.0;
        for j in (1..=D).rev() {
            let spread = (2.0f64 / 3.0).sqrt() * f64::from(corners) / ((j * (j + 1)) as f64).sqrt();
            let coordinate = f64::from(point[j - 1]) * spread;
            elevated[j] = sum - j as f64 * coordinate;
            sum += coordinate;
        }
        elevated[0] = sum;
        // The nearest point whose coordinates are multiples of D + 1, brought back to coordinate sum 0.
        let mut origin = [0i32; MOST_DIMS + 1];
        let mut excess = 0;
        for i in 0..=D {
            let multiple = (elevated[i] / f64::from(corners)).round() as i32;
            origin[i] = multiple * corners;
            excess += multiple;
        }
        let mut rank = [0i32; MOST_DIMS + 1];
        let above = |i: usize, origin: &[i32]| elevated[i] - f64::from(origin[i]);
        for i in 0..=D {
            for j in i + 1..=D {
                rank[if above(i, &origin) < above(j, &origin) { i } else { j }] += 1;
            }
        }
        for (rank, origin) in rank.iter_mut().zip(&mut origin).take(D + 1) {
            *rank += excess;
            let turn = if *rank < 0 { corners } else { -corners * i32::from(*rank > D as i32) };
            *rank += turn;
            *origin += turn;
        }
        let mut shares = [0.0f64; MOST_DIMS + 2];
        for (i, &rank) in rank.iter().enumerate().take(D + 1) {
            let share = above(i, &origin) / f64::from(corners);
            let place = D - rank as usize;
            shares[place] += share;
            shares[place + 1] -= share;
        }
        shares[0] += 1.0 + shares[D + 1];
        let first = |all: [i32; MOST_DIMS + 1]| std::array::from_fn(|i| if i < D { all[i] } else { 0 });
        let shares = std::array::from_fn(|i| if i <= D { shares[i] as f32 } else { 0.0 });
        Self { origin: first(origin), rank: first(rank), shares }
    }

    /// The vertex at a corner.
    fn key(&self, corner: usize) -> Key {
        let corner = corner as i32;
        let step = |rank: i32| if rank <= D as i32 - corner { corner } else { corner - D as i32 - 1 };
        std::array::from_fn(|i| if i < D { self.origin[i] + step(self.rank[i]) } else { 0 })
    }
}

/// A fast hash of few integers that nobody chooses with ill intent.
#[derive(Default)]
struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.0 = (self.0.rotate_left(5) ^ u64::from_le_bytes(word)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        }
    }

    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coral_core::SeededRng;

    /// The weighted mean around every point, by the definition.
    fn naive<const D: usize>(points: &[[f32; D]], values: &[f32]) -> Vec<f32> {
        let mean = |p: &[f32; D]| {
            let weight =
                |q: &[f32; D]| (-p.iter().zip(q).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>() / 2.0).exp();
            let sum: f64 = points.iter().zip(values).map(|(q, &value)| weight(q) * f64::from(value)).sum();
            (sum / points.iter().map(weight).sum::<f64>()) as f32
        };
        points.iter().map(mean).collect()
    }

    /// The mean and the largest error of weighted means of random values.
    fn errors<const D: usize>(points: &[[f32; D]]) -> (f32, f32) {
        let mut rng = SeededRng::new(points.len() as u64);
        let values: Vec<f32> =
            points.iter().map(|p| (0.7 * p[0] + p[D - 1]).sin() + rng.range(-0.5, 0.5) as f32).collect();
        let lattice = Lattice::new(points);
        let (sums, totals) = (lattice.filter(&values, 1), lattice.filter(&vec![1.0; points.len()], 1));
        let expected = naive(points, &values);
        let errors =
            sums.iter().zip(&totals).zip(&expected).map(|((sum, total), expected)| (sum / total - expected).abs());
        let errors: Vec<f32> = errors.collect();
        (errors.iter().sum::<f32>() / errors.len() as f32, errors.iter().copied().fold(0.0, f32::max))
    }

    #[test]
    fn filters_like_a_gaussian() {
        let plane: Vec<[f32; 2]> = (0..45 * 31).map(|i| [(i % 45) as f32 / 3.0, (i / 45) as f32 / 3.0]).collect();
        let (mean, most) = errors(&plane);
        assert!(mean < 0.02 && most < 0.1, "{mean} {most}");
        let bilateral = |i: usize| {
            let (x, y) = (i % 45, i / 45);
            let edge = if x + y < 40 { 0.0 } else { 3.0 };
            [x as f32 / 10.0, y as f32 / 10.0, edge + (x as f32 / 9.0).sin(), edge, (y as f32 / 7.0).cos() - edge]
        };
        let (mean, most) = errors(&(0..45 * 31).map(bilateral).collect::<Vec<_>>());
        assert!(mean < 0.05 && most < 0.25, "{mean} {most}");
    }

    #[test]
    fn corners_hold_the_point_between_them() {
        let mut rng = SeededRng::new(3);
        for _ in 0..500 {
            let point: [f32; 5] = std::array::from_fn(|_| rng.range(-40.0, 40.0) as f32);
            let simplex = Simplex::around(&point);
            assert!(simplex.shares.iter().all(|share| (-1e-4..=1.0001).contains(share)), "{:?}", simplex.shares);
            assert!((simplex.shares.iter().sum::<f32>() - 1.0).abs() < 1e-4);
            // All coordinates of corner r leave the remainder r modulo D + 1.
            for corner in 0..6 {
                assert!(simplex.key(corner).iter().all(|c| c.rem_euclid(6) == corner as i32));
            }
        }
    }

    #[test]
    fn channels_are_filtered_alike() {
        let points: Vec<[f32; 2]> = (0..60).map(|i| [(i % 10) as f32, (i / 10) as f32]).collect();
        let lattice = Lattice::new(&points);
        let mut rng = SeededRng::new(8);
        let values: Vec<f32> = (0..180).map(|_| rng.range(0.0, 1.0) as f32).collect();
        let together = lattice.filter(&values, 3);
        for channel in 0..3 {
            let alone: Vec<f32> = values.iter().copied().skip(channel).step_by(3).collect();
            let expected: Vec<f32> = together.iter().copied().skip(channel).step_by(3).collect();
            assert_eq!(lattice.filter(&alone, 1), expected);
        }
    }
}
