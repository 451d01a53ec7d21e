use super::Grid;
use crate::parallel;

/// Rows per parallel task. Sums are added band by band, so that this constant, but not the
/// number of threads, may change the last bits of a centre.
const BAND_ROWS: usize = 16;
/// How far from its centre a cluster may reach, in grid cells.
const REACH: f32 = 1.5;

/// The L, a, b planes of an image, row by row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Planes<'a> {
    pub(super) l: &'a [f32],
    pub(super) a: &'a [f32],
    pub(super) b: &'a [f32],
    pub(super) width: usize,
}

impl<'a> Planes<'a> {
    pub(super) fn new(values: &'a [f32], width: usize, height: usize) -> Option<Self> {
        let (l, ab) = values.split_at_checked(width * height)?;
        let (a, b) = ab.split_at_checked(width * height)?;
        Some(Self { l, a, b: b.get(..width * height)?, width })
    }
}

/// A cluster's mean colour and position.
#[derive(Debug, Clone, Copy, Default)]
struct Center {
    l: f32,
    a: f32,
    b: f32,
    x: f32,
    y: f32,
}

/// A centre with what stays the same along a row.
#[derive(Debug, Clone, Copy)]
struct Offer {
    center: Center,
    id: u32,
    /// Lab units² per pixel².
    weight: f32,
    /// The row's part of the squared distance.
    row: f32,
}

impl Offer {
    /// Takes each pixel (L, a, b, x) that is nearer to this centre than to its best one. This is where the
    /// time goes; it compiles to SIMD because it has no branch, all slices have one length and, as it
    /// is not inlined, the two that are written are known to overlap nothing.
    #[inline(never)]
    fn make(&self, pixels: [&[f32]; 4], best: &mut [f32], labels: &mut [u32]) {
        let Offer { center, id, weight, row } = *self;
        let count = best.len();
        let [l, a, b, x] = pixels.map(|plane| &plane[..count]);
        let labels = &mut labels[..count];
        for i in 0..count {
            let (dl, da, db, dx) = (l[i] - center.l, a[i] - center.a, b[i] - center.b, x[i] - center.x);
            let distance = (dl * dl + da * da) + (db * db + (weight * (dx * dx) + row));
            // A mask, because the compiler makes a branch of a choice.
            let nearer = if distance < best[i] { u32::MAX } else { 0 };
            labels[i] = id & nearer | labels[i] & !nearer;
            best[i] = if distance < best[i] { distance } else { best[i] };
        }
    }
}

/// What a cluster's pixels add up to.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sums {
    l: f64,
    a: f64,
    b: f64,
    x: f64,
    y: f64,
    count: f64,
}

impl Sums {
    fn add(&mut self, other: &Sums) {
        self.l += other.l;
        self.a += other.a;
        self.b += other.b;
        self.x += other.x;
        self.y += other.y;
        self.count += other.count;
    }

    fn center(&self) -> Option<Center> {
        let mean = |sum: f64| (sum / self.count) as f32;
        let center = || Center { l: mean(self.l), a: mean(self.a), b: mean(self.b), x: mean(self.x), y: mean(self.y) };
        (self.count > 0.0).then(center)
    }
}

/// The clusters of one image.
#[derive(Debug)]
pub(super) struct Clustering<'a> {
    planes: Planes<'a>,
    centers: Vec<Center>,
    reach: f32,
    /// Lab units² per pixel².
    position_weight: f32,
    /// 0, 1, 2, … up to the width.
    columns: Vec<f32>,
}

impl<'a> Clustering<'a> {
    /// Clusters at the mean colour and position of the grid's cells.
    pub(super) fn new(planes: Planes<'a>, grid: &Grid, compactness: f32) -> Self {
        let mut clustering = Self {
            planes,
            centers: vec![Center::default(); grid.count()],
            reach: REACH * grid.reach(),
            position_weight: (compactness / grid.step()).powi(2),
            columns: (0..planes.width).map(|x| x as f32).collect(),
        };
        let mut labels = grid.labels();
        let sums = clustering.for_bands(&mut labels, |band, labels| clustering.sum_band(band, labels));
        clustering.update(&sums);
        clustering
    }

    /// Gives every pixel to the nearest centre within reach (a tie to the first of them; without any it stays
    /// where it is) and returns what each cluster's pixels add up to.
    pub(super) fn assign(&self, labels: &mut [u32]) -> Vec<Sums> {
        self.for_bands(labels, |band, labels| {
            self.assign_band(band, labels);
            self.sum_band(band, labels)
        })
    }

    /// Moves the centres to their means; returns how far they moved on average, in pixels.
    pub(super) fn update(&mut self, sums: &[Sums]) -> f32 {
        let mut moved = 0.0;
        for (center, sums) in self.centers.iter_mut().zip(sums) {
            let next = sums.center().unwrap_or(*center);
            moved += f64::from((next.x - center.x).hypot(next.y - center.y));
            *center = next;
        }
        (moved / self.centers.len() as f64) as f32
    }

    /// Runs `f` over bands of rows, given the first row and the band's labels, and adds up the sums.
    fn for_bands<F>(&self, labels: &mut [u32], f: F) -> Vec<Sums>
    where
        F: Fn(usize, &mut [u32]) -> (u32, Vec<Sums>) + Sync + Send,
    {
        let bands = labels.chunks_mut(BAND_ROWS * self.planes.width).enumerate();
        let mut total = vec![Sums::default(); self.centers.len()];
        for (first, sums) in parallel::map(bands.collect(), |(band, labels)| f(band * BAND_ROWS, labels)) {
            total.iter_mut().skip(first as usize).zip(&sums).for_each(|(total, sums)| total.add(sums));
        }
        total
    }

    fn assign_band(&self, first_row: usize, labels: &mut [u32]) {
        let width = self.planes.width;
        let rows = labels.len() / width;
        let (top, bottom) = (first_row as f32 - self.reach, (first_row + rows) as f32 + self.reach);
        let near = self.centers.iter().zip(0u32..).filter(|(center, _)| center.y >= top && center.y <= bottom);
        let near: Vec<_> = near.map(|(&center, id)| (center, id)).collect();
        let mut best = vec![0.0f32; width];
        for (row, labels) in labels.chunks_exact_mut(width).enumerate() {
            best.fill(f32::INFINITY);
            for (center, id) in &near {
                let dy = (first_row + row) as f32 - center.y;
                if dy.abs() <= self.reach {
                    self.assign_span((first_row + row, dy), (center, *id), &mut best, labels);
                }
            }
        }
    }

    /// Offers one row's pixels within reach to one centre.
    fn assign_span(&self, (row, dy): (usize, f32), (center, id): (&Center, u32), best: &mut [f32], labels: &mut [u32]) {
        let width = self.planes.width;
        let start = (center.x - self.reach).ceil().max(0.0) as usize;
        let end = ((center.x + self.reach).floor() as usize + 1).min(width);
        let span = |plane: &'a [f32]| &plane[row * width..][start..end];
        let pixels = [span(self.planes.l), span(self.planes.a), span(self.planes.b), &self.columns[start..end]];
        let offer = Offer { center: *center, id, weight: self.position_weight, row: self.position_weight * dy * dy };
        offer.make(pixels, &mut best[start..end], &mut labels[start..end]);
    }

    /// Adds up the pixels of a band; returns the sums from the smallest label that occurs in it.
    /// Labels follow the grid's order, so that a band meets only a short range of them.
    fn sum_band(&self, first_row: usize, labels: &[u32]) -> (u32, Vec<Sums>) {
        let Planes { l, a, b, width } = self.planes;
        let first = labels.iter().copied().fold(u32::MAX, u32::min);
        let last = labels.iter().copied().fold(0, u32::max);
        let mut sums = vec![Sums::default(); (last - first) as usize + 1];
        for (row, labels) in labels.chunks_exact(width).enumerate() {
            let y = first_row + row;
            let row = |plane: &'a [f32]| &plane[y * width..][..width];
            let (l, a, b) = (row(l), row(a), row(b));
            // Runs of one label are summed aside, which spares most of the memory traffic.
            let mut start = 0;
            while start < width {
                let label = labels[start];
                let mut run = Sums::default();
                let mut end = start;
                while end < width && labels[end] == label {
                    run.l += f64::from(l[end]);
                    run.a += f64::from(a[end]);
                    run.b += f64::from(b[end]);
                    end += 1;
                }
                run.count = (end - start) as f64;
                run.x = run.count * 0.5 * (start + end - 1) as f64;
                run.y = run.count * y as f64;
                sums[(label - first) as usize].add(&run);
                start = end;
            }
        }
        (first, sums)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coral_core::SeededRng;
    use proptest::prelude::*;

    /// Every pixel against every centre.
    fn naive(clustering: &Clustering<'_>, labels: &mut [u32]) {
        let planes = clustering.planes;
        for (i, label) in labels.iter_mut().enumerate() {
            let (x, y) = ((i % planes.width) as f32, (i / planes.width) as f32);
            let mut best = f32::INFINITY;
            for (id, c) in (0u32..).zip(&clustering.centers) {
                let (dx, dy) = (x - c.x, y - c.y);
                let (dl, da, db) = (planes.l[i] - c.l, planes.a[i] - c.a, planes.b[i] - c.b);
                let weight = clustering.position_weight;
                let distance = (dl * dl + da * da) + (db * db + (weight * (dx * dx) + weight * dy * dy));
                let inside = x >= c.x - clustering.reach && x <= c.x + clustering.reach && dy.abs() <= clustering.reach;
                if inside && distance < best {
                    (best, *label) = (distance, id);
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn fast_assignment_equals_the_naive_one(
            (width, height) in (1usize..60, 1usize..50),
            segments in 1u32..60,
            compactness in 0.5f32..40.0,
            seed in any::<u64>(),
        ) {
            let mut rng = SeededRng::new(seed);
            // Few levels, so that there are ties.
            let values: Vec<f32> = (0..3 * width * height).map(|_| 12.5 * rng.below(4) as f32).collect();
            let planes = Planes::new(&values, width, height).unwrap();
            let grid = Grid::new(width, height, segments);
            let mut clustering = Clustering::new(planes, &grid, compactness);
            let (mut fast, mut slow) = (grid.labels(), grid.labels());
            for _ in 0..3 {
                let sums = clustering.assign(&mut fast);
                naive(&clustering, &mut slow);
                prop_assert_eq!(&fast, &slow);
                for (id, sums) in sums.iter().enumerate() {
                    let members: Vec<_> = (0..fast.len()).filter(|&i| fast[i] as usize == id).collect();
                    let rows: usize = members.iter().map(|i| i / width).sum();
                    let columns: usize = members.iter().map(|i| i % width).sum();
                    let lightness: f64 = members.iter().map(|&i| f64::from(planes.l[i])).sum();
                    prop_assert_eq!((sums.count, sums.y, sums.x), (members.len() as f64, rows as f64, columns as f64));
                    prop_assert!((sums.l - lightness).abs() < 1e-6);
                }
                clustering.update(&sums);
            }
        }
    }
}
