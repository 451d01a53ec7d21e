//! Exact nearest neighbours of many queries among a few hundred labelled features: blocks of scores by
//! matrix product, then a scan that rarely inserts.

use coral_core::{ClassId, LabelMap};
use ndarray::linalg::general_mat_mul;
use ndarray::{Array1, Array2, ArrayView2, ArrayViewMut2, Axis, s};

use super::Similarity;
use crate::parallel;

/// Queries per block and labelled features per block: a block of scores stays in the second-level cache.
const TILE: usize = 512;
const BLOCK: usize = 128;
/// Scores that are compared at once before any is looked at closely.
const LANES: usize = 16;

/// What can be searched for, row by row.
pub(super) trait Queries: Sync {
    /// Rows and queries per row.
    fn shape(&self) -> (usize, usize);
    /// The D×n features of row `y` from query `start` on.
    fn read(&self, y: usize, start: usize, out: ArrayViewMut2<'_, f32>);
}

/// The labelled features, prepared so that a larger `vector · query + bias` means nearer.
#[derive(Debug)]
pub(super) struct References {
    /// N×D.
    vectors: Array2<f32>,
    bias: Vec<f32>,
    /// What the vectors are relative to, so that large common offsets cost no precision.
    origin: Array1<f32>,
    classes: Vec<ClassId>,
    similarity: Similarity,
}

impl References {
    /// `vectors` are N×D with N and D above 0; equally near ones are preferred in their order.
    pub(super) fn new(mut vectors: Array2<f32>, classes: Vec<ClassId>, similarity: Similarity) -> Self {
        let mut origin = Array1::zeros(vectors.ncols());
        let mut bias = vec![0.0; vectors.nrows()];
        match similarity {
            Similarity::Cosine => {
                for mut row in vectors.rows_mut() {
                    let norm = row.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt();
                    row.mapv_inplace(|v| if norm > 0.0 { (f64::from(v) / norm) as f32 } else { 0.0 });
                }
            }
            Similarity::Euclidean => {
                // The points come in raster order, so that the sum does not depend on the caller's.
                for (origin, mut column) in origin.iter_mut().zip(vectors.columns_mut()) {
                    let mean = column.iter().map(|&v| f64::from(v)).sum::<f64>() / column.len() as f64;
                    *origin = mean as f32;
                    column.mapv_inplace(|v| v - *origin);
                }
                // |q − p|² = |q|² − 2 (q·p − |p|²/2), and |q|² is the same for every p.
                for (bias, row) in bias.iter_mut().zip(vectors.rows()) {
                    let dots =
                        row.iter().zip(&origin).map(|(&v, &o)| f64::from(v) * (f64::from(o) + f64::from(v) / 2.0));
                    *bias = -dots.sum::<f64>() as f32;
                }
            }
        }
        Self { vectors, bias, origin, classes, similarity }
    }

    /// The class of every query by majority of its `k` nearest, and the similarity to the nearest.
    pub(super) fn classify(&self, queries: &dyn Queries, k: usize) -> (LabelMap, Array2<f32>) {
        let (rows, width) = queries.shape();
        let mut labels = LabelMap::zeros((rows, width));
        let mut similarity = Array2::zeros((rows, width));
        // About eight tiles a task: enough to pay for its buffers.
        let band = (8 * TILE).div_ceil(width.max(1)).max(1);
        let bands = labels.axis_chunks_iter_mut(Axis(0), band).zip(similarity.axis_chunks_iter_mut(Axis(0), band));
        parallel::map(bands.enumerate().collect(), |(index, (mut labels, mut similarity))| {
            let mut tile = Tile::new(self, k, width.min(TILE));
            for (row, (mut labels, mut similarity)) in
                labels.rows_mut().into_iter().zip(similarity.rows_mut()).enumerate()
            {
                for start in (0..width).step_by(TILE) {
                    let end = (start + TILE).min(width);
                    let mut block = tile.queries.slice_mut(s![.., ..end - start]);
                    queries.read(index * band + row, start, block.view_mut());
                    tile.search(self, end - start);
                    for (at, query) in (start..end).enumerate() {
                        labels[query] = tile.vote(self, at);
                        similarity[query] = tile.similarity(self, at);
                    }
                }
            }
        });
        (labels, similarity)
    }
}

/// The working memory of one task.
struct Tile {
    /// D×n.
    queries: Array2<f32>,
    scores: Array2<f32>,
    best: Best,
    votes: Vec<ClassId>,
    /// Per query the length of its feature, for the cosine.
    norms: Vec<f32>,
}

impl Tile {
    fn new(references: &References, k: usize, width: usize) -> Self {
        let (count, dim) = references.vectors.dim();
        let k = k.min(count);
        Self {
            queries: Array2::zeros((dim, width)),
            scores: Array2::zeros((count.min(BLOCK), width)),
            best: Best { k, entries: vec![(0.0, 0); k * width], worst: vec![0.0; width] },
            votes: Vec::with_capacity(k),
            norms: vec![0.0; width],
        }
    }

    /// Finds the `k` nearest of the first `len` queries.
    fn search(&mut self, references: &References, len: usize) {
        self.best.clear();
        let queries = self.queries.slice(s![.., ..len]);
        if references.similarity == Similarity::Cosine {
            self.norms.fill(0.0);
            for row in queries.rows() {
                self.norms.iter_mut().zip(row).for_each(|(norm, &value)| *norm += value * value);
            }
            self.norms.iter_mut().for_each(|norm| *norm = norm.sqrt());
        }
        let blocks = references.vectors.axis_chunks_iter(Axis(0), BLOCK).zip(references.bias.chunks(BLOCK));
        for (block, (vectors, bias)) in blocks.enumerate() {
            let mut scores = self.scores.slice_mut(s![..vectors.nrows(), ..len]);
            general_mat_mul(1.0, &vectors, &queries, 0.0, &mut scores);
            for (row, (scores, &bias)) in scores.rows().into_iter().zip(bias).enumerate() {
                if let Some(scores) = scores.as_slice() {
                    self.best.insert(scores, bias, (block * BLOCK + row) as u32);
                }
            }
        }
    }

    /// The most frequent class of the neighbours of query `at`; ties go to the smallest id.
    fn vote(&mut self, references: &References, at: usize) -> ClassId {
        let neighbours = self.best.of(at);
        if let [(_, only)] = neighbours {
            return references.classes[*only as usize];
        }
        self.votes.clear();
        self.votes.extend(neighbours.iter().map(|&(_, index)| references.classes[index as usize]));
        self.votes.sort_unstable();
        let mut winner: &[ClassId] = &[];
        for run in self.votes.chunk_by(|a, b| a == b) {
            if run.len() > winner.len() {
                winner = run;
            }
        }
        winner.first().copied().unwrap_or(references.classes[0])
    }

    fn similarity(&self, references: &References, at: usize) -> f32 {
        let (score, index) = self.best.of(at)[0];
        match references.similarity {
            Similarity::Cosine => {
                let norm = self.norms[at];
                if norm > 0.0 { score / norm } else { 0.0 }
            }
            // From the differences themselves, so that equal features are exactly 0 apart.
            Similarity::Euclidean => {
                let (query, vector) = (self.queries.column(at), references.vectors.row(index as usize));
                let differences = query.iter().zip(&references.origin).zip(vector).map(|((q, o), v)| (q - o) - v);
                -differences.map(|d| d * d).sum::<f32>().sqrt()
            }
        }
    }
}

/// The best candidates of every query so far.
struct Best {
    k: usize,
    /// Per query `k` scores and candidates, best first.
    entries: Vec<(f32, u32)>,
    /// Per query the score that a further candidate must exceed.
    worst: Vec<f32>,
}

impl Best {
    fn clear(&mut self) {
        self.entries.fill((f32::NEG_INFINITY, 0));
        self.worst.fill(f32::NEG_INFINITY);
    }

    fn of(&self, query: usize) -> &[(f32, u32)] {
        &self.entries[query * self.k..(query + 1) * self.k]
    }

    /// Enters candidate `index` where it beats the worst of the best: strictly, so that of equally good ones
    /// the first stays.
    fn insert(&mut self, scores: &[f32], bias: f32, index: u32) {
        for (chunk, (scores, worst)) in scores.chunks(LANES).zip(self.worst.chunks_mut(LANES)).enumerate() {
            if !scores.iter().zip(worst.iter()).fold(false, |any, (&score, &worst)| any | (score + bias > worst)) {
                continue;
            }
            for (lane, (&score, worst)) in scores.iter().zip(worst.iter_mut()).enumerate() {
                let score = score + bias;
                if score > *worst {
                    let query = chunk * LANES + lane;
                    let entries = &mut self.entries[query * self.k..(query + 1) * self.k];
                    let place = entries.partition_point(|&(other, _)| other >= score);
                    entries[place..].rotate_right(1);
                    entries[place] = (score, index);
                    *worst = entries[self.k - 1].0;
                }
            }
        }
    }
}

/// D×N features that are at hand, as one row of queries.
impl Queries for ArrayView2<'_, f32> {
    fn shape(&self) -> (usize, usize) {
        (1, self.ncols())
    }

    fn read(&self, _row: usize, start: usize, mut out: ArrayViewMut2<'_, f32>) {
        let end = start + out.ncols();
        out.assign(&self.slice(s![.., start..end]));
    }
}
