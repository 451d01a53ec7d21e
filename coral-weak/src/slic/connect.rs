use ndarray::Array2;

use super::assign::Planes;
use crate::Superpixels;
use crate::superpixels::touching_pairs;

/// Sets of numbers that only ever merge; each is named by its smallest member.
#[derive(Debug, Default)]
struct Merging {
    parents: Vec<u32>,
}

impl Merging {
    fn singletons(count: usize) -> Self {
        Self { parents: (0..count as u32).collect() }
    }

    fn push(&mut self) -> u32 {
        let id = self.parents.len() as u32;
        self.parents.push(id);
        id
    }

    fn root(&mut self, mut id: u32) -> u32 {
        while self.parents[id as usize] != id {
            let above = self.parents[self.parents[id as usize] as usize];
            self.parents[id as usize] = above;
            id = above;
        }
        id
    }

    fn merge(&mut self, a: u32, b: u32) -> u32 {
        let (a, b) = (self.root(a), self.root(b));
        self.parents[a.max(b) as usize] = a.min(b);
        a.min(b)
    }

    /// Numbers the sets 0, 1, 2, … by their smallest member: the number of every member, and how many sets.
    fn numbers(&mut self) -> (Vec<u32>, u32) {
        let mut numbers = vec![0; self.parents.len()];
        let mut count = 0;
        for id in 0..self.parents.len() as u32 {
            let root = self.root(id);
            // A root precedes its members, so that its number is known.
            numbers[id as usize] = if root == id { count } else { numbers[root as usize] };
            count += u32::from(root == id);
        }
        (numbers, count)
    }
}

/// Makes every superpixel connected (4 neighbours) and, while there is more than one, at least
/// `min_size` pixels large: smaller regions join the neighbour of the most similar mean colour
/// (then the one of the longest common boundary, then the first).
pub(super) fn connect(mut labels: Array2<u32>, planes: &Planes<'_>, min_size: u32) -> Superpixels {
    let count = split_into_regions(&mut labels);
    let mut regions = region_sums(&labels, planes, count);
    let pairs = touching_pairs(&labels, |a, b| {
        regions[a.min(b) as usize].is_small(min_size) || regions[b.max(a) as usize].is_small(min_size)
    });
    let mut merging = Merging::singletons(count as usize);
    let mut pairs: Vec<_> = pairs.into_iter().map(|pair| (pair.first, pair.second, pair.length)).collect();
    while !pairs.is_empty() {
        merge_small(&pairs, &mut regions, &mut merging, min_size);
        pairs = pairs
            .into_iter()
            .map(|(a, b, length)| (merging.root(a), merging.root(b), length))
            .filter(|&(a, b, _)| {
                a != b && (regions[a as usize].is_small(min_size) || regions[b as usize].is_small(min_size))
            })
            .map(|(a, b, length)| (a.min(b), a.max(b), length))
            .collect();
        pairs.sort_unstable();
        pairs.dedup_by(|next, kept| {
            let same = (next.0, next.1) == (kept.0, kept.1);
            kept.2 += if same { next.2 } else { 0 };
            same
        });
    }
    let (numbers, count) = merging.numbers();
    labels.mapv_inplace(|label| numbers[label as usize]);
    Superpixels::from_consecutive(labels, count)
}

/// Lets every small region choose a neighbour, then merges all choices. A small region that nobody
/// is small beside any more stays out, so that two large regions never merge.
fn merge_small(pairs: &[(u32, u32, u32)], regions: &mut [Region], merging: &mut Merging, min_size: u32) {
    let mut choices: Vec<Option<(f64, u32, u32)>> = vec![None; regions.len()];
    for &(a, b, length) in pairs {
        let distance = regions[a as usize].color_distance(&regions[b as usize]);
        for (from, to) in [(a, b), (b, a)] {
            let better = choices[from as usize]
                .is_none_or(|(best, longest, _)| distance < best || distance == best && length > longest);
            if regions[from as usize].is_small(min_size) && better {
                choices[from as usize] = Some((distance, length, to));
            }
        }
    }
    for (from, choice) in (0u32..).zip(choices) {
        let Some((_, _, to)) = choice else { continue };
        let (from, to) = (merging.root(from), merging.root(to));
        if from != to {
            let sum = regions[from as usize].plus(&regions[to as usize]);
            regions[merging.merge(from, to) as usize] = sum;
        }
    }
}

/// Replaces labels by the numbers of connected regions of equal labels, in the order of their
/// first pixels; returns how many there are.
fn split_into_regions(labels: &mut Array2<u32>) -> u32 {
    let width = labels.ncols();
    let mut merging = Merging::default();
    // The original labels of the row above; the map itself already holds regions there.
    let mut above_labels: Vec<u32> = Vec::new();
    let mut above_regions: Vec<u32> = Vec::new();
    for mut row in labels.rows_mut() {
        let row_labels = row.to_vec();
        let mut regions: Vec<u32> = Vec::with_capacity(width);
        for (x, &label) in row_labels.iter().enumerate() {
            let left = (x > 0 && row_labels[x - 1] == label).then(|| regions[x - 1]);
            let above = (above_labels.get(x) == Some(&label)).then(|| above_regions[x]);
            regions.push(match (left, above) {
                (Some(left), Some(above)) if left != above => merging.merge(left, above),
                (Some(region), _) | (None, Some(region)) => region,
                (None, None) => merging.push(),
            });
        }
        row.iter_mut().zip(&regions).for_each(|(pixel, &region)| *pixel = region);
        (above_labels, above_regions) = (row_labels, regions);
    }
    let (numbers, count) = merging.numbers();
    labels.mapv_inplace(|region| numbers[region as usize]);
    count
}

/// The pixels of a region and what their colours add up to.
#[derive(Debug, Clone, Copy, Default)]
struct Region {
    size: u32,
    color: [f64; 3],
}

impl Region {
    fn is_small(&self, min_size: u32) -> bool {
        self.size < min_size
    }

    fn plus(&self, other: &Region) -> Region {
        let color = std::array::from_fn(|axis| self.color[axis] + other.color[axis]);
        Region { size: self.size + other.size, color }
    }

    /// The squared distance of the mean colours.
    fn color_distance(&self, other: &Region) -> f64 {
        let mean = |region: &Region, axis: usize| region.color[axis] / f64::from(region.size);
        (0..3).map(|axis| (mean(self, axis) - mean(other, axis)).powi(2)).sum()
    }
}

fn region_sums(labels: &Array2<u32>, planes: &Planes<'_>, count: u32) -> Vec<Region> {
    let mut regions = vec![Region::default(); count as usize];
    let colors = planes.l.iter().zip(planes.a).zip(planes.b);
    for (&label, ((&l, &a), &b)) in labels.iter().zip(colors) {
        let region = &mut regions[label as usize];
        region.size += 1;
        region.color[0] += f64::from(l);
        region.color[1] += f64::from(a);
        region.color[2] += f64::from(b);
    }
    regions
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    fn connected(labels: Array2<u32>, lightness: &[f32], min_size: u32) -> Array2<u32> {
        let flat = vec![0.0; labels.len()];
        let planes = Planes { l: lightness, a: &flat, b: &flat, width: labels.ncols() };
        connect(labels, &planes, min_size).labels().clone()
    }

    #[test]
    fn parts_of_one_label_become_regions_of_their_own() {
        let labels = array![[1, 1, 0, 1], [0, 0, 0, 1], [1, 0, 1, 1]];
        let expected = array![[0, 0, 1, 2], [1, 1, 1, 2], [3, 1, 2, 2]];
        assert_eq!(connected(labels, &[0.0; 12], 0), expected);
    }

    #[test]
    fn arms_that_meet_below_are_one_region() {
        let labels = array![[5, 2, 5, 2, 5], [5, 2, 5, 2, 5], [5, 5, 5, 5, 5]];
        assert_eq!(connected(labels, &[0.0; 15], 0), array![[0, 1, 0, 2, 0], [0, 1, 0, 2, 0], [0, 0, 0, 0, 0]]);
    }

    #[test]
    fn small_regions_join_the_most_similar_neighbour() {
        // The single pixel in the middle is nearer in lightness to the right.
        let labels = array![[0, 0, 1, 2, 2]];
        assert_eq!(connected(labels.clone(), &[10.0, 10.0, 31.0, 50.0, 50.0], 2), array![[0, 0, 1, 1, 1]]);
        assert_eq!(connected(labels.clone(), &[10.0, 10.0, 29.0, 50.0, 50.0], 2), array![[0, 0, 0, 1, 1]]);
        // Everything is small: all join.
        assert_eq!(connected(labels, &[0.0; 5], 9), array![[0, 0, 0, 0, 0]]);
    }

    #[test]
    fn equally_similar_neighbours_are_chosen_by_boundary() {
        let labels = array![[0, 0, 0, 0], [0, 3, 1, 1], [0, 0, 1, 1]];
        assert_eq!(connected(labels, &[0.0; 12], 2), array![[0, 0, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]]);
    }
}
