use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::fused::exponentiate;
use crate::ops::jobs::parts_of_products;
use crate::ops::product::{Matrix, Output, product};
use crate::ops::real::{Real, by_type, real_values, with_values};

/// Attention through which gradients pass: for them scores are computed again rather than kept, which takes little time
/// and saves nearly all of the memory (Dao et al., *FlashAttention*, NeurIPS 2022).
pub(super) struct Differentiable {
    pub(super) heads: usize,
}

/// Queries whose gradients of keys and values are summed at a time; fixed, so that a sum does not depend on the number of
/// threads.
const PART: usize = 512;
/// Scores of a block, few enough for the cache.
const SCORES: usize = 32 * 1024;

#[derive(Clone, Copy)]
struct Sizes {
    queries: usize,
    keys: usize,
    channels: usize,
    heads: usize,
    /// Of queries; 1 for those that all images share.
    q_images: usize,
    /// Of keys and values likewise.
    k_images: usize,
}

impl Sizes {
    fn of(q: &Layout, k: &Layout, heads: usize) -> Result<Self> {
        let (q_images, queries, channels) = q.shape().dims3()?;
        let (k_images, keys, _) = k.shape().dims3()?;
        Ok(Self { queries, keys, channels, heads, q_images, k_images })
    }

    fn images(&self) -> usize {
        self.q_images.max(self.k_images)
    }

    /// Where an image's queries begin, and where its keys.
    fn starts(&self, image: usize) -> (usize, usize) {
        let of = |images: usize| if images == 1 { 0 } else { image };
        (of(self.q_images) * self.queries, of(self.k_images) * self.keys)
    }

    fn scale<T: Real>(&self) -> T {
        T::from_f64(((self.channels / self.heads) as f64).powf(-0.5))
    }

    /// The images, and in each the first query and the number of queries of every part.
    fn parts(&self) -> Vec<(usize, usize, usize)> {
        let firsts = (0..self.queries).step_by(PART);
        let of_image = |image| firsts.clone().map(move |first| (image, first, PART.min(self.queries - first)));
        (0..self.images()).flat_map(of_image).collect()
    }

    /// Multiplications of a part's scores.
    fn work(&self) -> usize {
        self.queries.min(PART) * self.keys * self.channels
    }

    /// The blocks of a part: head's first channel, first query within the part, queries.
    fn blocks(&self, count: usize) -> impl Iterator<Item = (usize, usize, usize)> {
        let step = (SCORES / self.keys).clamp(1, PART);
        let head = self.channels / self.heads;
        (0..self.channels)
            .step_by(head)
            .flat_map(move |offset| (0..count).step_by(step).map(move |first| (offset, first, step.min(count - first))))
    }

    /// The rows of one head, from `first` on.
    fn rows<'a, T: Real>(&self, values: &'a [T], (first, count): (usize, usize), offset: usize) -> Matrix<'a, T> {
        Matrix::new(&values[first * self.channels + offset..], count, self.channels / self.heads, self.channels)
    }

    fn output<'a, T: Real>(
        &self,
        values: &'a mut [T],
        (first, offset): (usize, usize),
        accumulate: bool,
    ) -> Output<'a, T> {
        Output { data: &mut values[first * self.channels + offset..], row_stride: self.channels, accumulate }
    }

    /// What every query of a block takes of every value.
    fn weights<T: Real>(&self, q: Matrix<'_, T>, k: Matrix<'_, T>, weights: &mut Vec<T>) {
        weights.resize(q.rows() * self.keys, T::zero());
        let out = Output { data: weights, row_stride: self.keys, accumulate: false };
        product(q, k.transposed(), self.scale(), out, 1);
        pulp::Arch::new().dispatch(
            #[inline(always)]
            || {
                for row in weights.chunks_exact_mut(self.keys) {
                    let inverse = T::one() / exponentiate(row);
                    row.iter_mut().for_each(|weight| *weight *= inverse);
                }
            },
        );
    }

    fn forward<T: Real>(&self, [q, k, v]: [&[T]; 3]) -> Vec<T> {
        let mut out = vec![T::zero(); self.images() * self.queries * self.channels];
        let parts = self.parts();
        let mut pieces = Vec::with_capacity(parts.len());
        let mut rest = out.as_mut_slice();
        for &(image, first, count) in &parts {
            let (piece, others) = rest.split_at_mut(count * self.channels);
            pieces.push((image, first, count, piece));
            rest = others;
        }
        let pieces = parts_of_products(pieces.par_iter_mut(), self.work());
        pieces.for_each_init(Vec::new, |weights, (image, first, count, out)| {
            let (queries, keys) = self.starts(*image);
            let first = queries + *first;
            for (offset, at, rows) in self.blocks(*count) {
                let q = self.rows(q, (first + at, rows), offset);
                self.weights(q, self.rows(k, (keys, self.keys), offset), weights);
                let weights = Matrix::new(weights, rows, self.keys, self.keys);
                let out = self.output(out, (at, offset), false);
                product(weights, self.rows(v, (keys, self.keys), offset), T::one(), out, 1);
            }
        });
        out
    }

    /// Gradients of queries, keys and values.
    fn backward<T: Real>(&self, [q, k, v, gradient]: [&[T]; 4]) -> [Vec<T>; 3] {
        let parts = self.parts();
        let values = [q, k, v, gradient];
        let of_part = |&part: &(usize, usize, usize)| (part, self.part_backward(values, part));
        let gradients: Vec<_> = parts_of_products(parts.par_iter(), 3 * self.work()).map(of_part).collect();
        let mut totals = [q, k, v].map(|values| vec![T::zero(); values.len()]);
        for ((image, first, _), slopes) in gradients {
            let (queries, keys) = self.starts(image);
            for ((total, slopes), start) in totals.iter_mut().zip(slopes).zip([queries + first, keys, keys]) {
                let total = &mut total[start * self.channels..];
                total.iter_mut().zip(slopes).for_each(|(total, slope)| *total += slope);
            }
        }
        totals
    }

    fn part_backward<T: Real>(&self, [q, k, v, gradient]: [&[T]; 4], part: (usize, usize, usize)) -> [Vec<T>; 3] {
        let (image, first, count) = part;
        let (queries, keys) = self.starts(image);
        let keys = (keys, self.keys);
        let zeros = |rows: usize| vec![T::zero(); rows * self.channels];
        let [mut of_q, mut of_k, mut of_v] = [count, self.keys, self.keys].map(zeros);
        let (mut weights, mut slopes) = (Vec::new(), Vec::new());
        for (offset, at, rows) in self.blocks(count) {
            let query = self.rows(q, (queries + first + at, rows), offset);
            let gradient = self.rows(gradient, (image * self.queries + first + at, rows), offset);
            let (key, value) = (self.rows(k, keys, offset), self.rows(v, keys, offset));
            self.weights(query, key, &mut weights);
            let taken = Matrix::new(&weights, rows, self.keys, self.keys);
            product(taken.transposed(), gradient, T::one(), self.output(&mut of_v, (0, offset), true), 1);
            slopes.resize(rows * self.keys, T::zero());
            let out = Output { data: &mut slopes, row_stride: self.keys, accumulate: false };
            product(gradient, value.transposed(), T::one(), out, 1);
            pulp::Arch::new().dispatch(
                #[inline(always)]
                || {
                    let rows = slopes.chunks_exact_mut(self.keys).zip(weights.chunks_exact(self.keys));
                    rows.for_each(|(slopes, weights)| through_softmax(slopes, weights));
                },
            );
            let slopes = Matrix::new(&slopes, rows, self.keys, self.keys);
            product(slopes, key, self.scale(), self.output(&mut of_q, (at, offset), false), 1);
            product(slopes.transposed(), query, self.scale(), self.output(&mut of_k, (0, offset), true), 1);
        }
        [of_q, of_k, of_v]
    }
}

/// From the slopes in the weights of one query to those in its scores.
#[inline(always)]
fn through_softmax<T: Real>(slopes: &mut [T], weights: &[T]) {
    // Sixteen partial sums: the compiler may not reorder one sum into vectors by itself.
    let mut partial = [T::zero(); 16];
    for (slopes, weights) in slopes.chunks(16).zip(weights.chunks(16)) {
        partial.iter_mut().zip(slopes).zip(weights).for_each(|((sum, &slope), &weight)| *sum += slope * weight);
    }
    let mean = partial.iter().copied().sum::<T>();
    slopes.iter_mut().zip(weights).for_each(|(slope, &weight)| *slope = weight * (*slope - mean));
}

impl CustomOp3 for Differentiable {
    fn name(&self) -> &'static str {
        "differentiable_attention"
    }

    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        q_layout: &Layout,
        k: &CpuStorage,
        k_layout: &Layout,
        v: &CpuStorage,
        v_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        fn compute<T: Real>(sizes: Sizes, arguments: [(&CpuStorage, &Layout); 3]) -> Result<CpuStorage> {
            let [q, k, v] = arguments.map(|(storage, layout)| real_values::<T>(storage, layout));
            Ok(T::to_cpu_storage_owned(sizes.forward([q?, k?, v?])))
        }
        let sizes = Sizes::of(q_layout, k_layout, self.heads)?;
        let arguments = [(q, q_layout), (k, k_layout), (v, v_layout)];
        let shape = (sizes.images(), sizes.queries, sizes.channels);
        Ok((by_type!(q.dtype(), compute(sizes, arguments))?, shape.into()))
    }

    fn bwd(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        fn compute<T: Real>(sizes: Sizes, tensors: [&Tensor; 4]) -> Result<[Option<Tensor>; 3]> {
            let [of_q, of_k, of_v] = with_values(tensors, |values| sizes.backward::<T>(values))?;
            let tensor = |list: Vec<T>, like: &Tensor| match like.track_op() {
                true => Tensor::from_vec(list, like.shape(), like.device()).map(Some),
                false => Ok(None),
            };
            Ok([tensor(of_q, tensors[0])?, tensor(of_k, tensors[1])?, tensor(of_v, tensors[2])?])
        }
        let sizes = Sizes::of(q.layout(), k.layout(), self.heads)?;
        let [of_q, of_k, of_v] = by_type!(q.dtype(), compute(sizes, [q, k, v, &gradient.contiguous()?]))?;
        Ok((of_q, of_k, of_v))
    }
}
