use candle_core::{CpuStorage, CustomOp3, D, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::trained::Differentiable;
use crate::ops::jobs::parts_of_products;
use crate::ops::product::{Matrix, Output, product};
use crate::ops::real::{Real, is_native};
use crate::ops::{buffer, fusible, values};

/// Multi-head attention: `softmax(q kᵀ / √d) v` for each head of width d = C / heads.
///
/// `q` is B×Nq×C, `k` and `v` are B×Nk×C, each possibly 1×… to be shared by the batch; the result is B×Nq×C.
/// Heads are consecutive slices of the last dimension.
pub(crate) fn attention(q: &Tensor, k: &Tensor, v: &Tensor, heads: usize) -> Result<Tensor> {
    let (q_batch, _, channels) = q.dims3()?;
    let (k_batch, _, _) = k.dims3()?;
    let batch = q_batch.max(k_batch);
    let broadcasts = [q_batch, k_batch].iter().all(|&b| b == batch || b == 1);
    let heads_fit = heads > 0 && channels > 0 && channels % heads == 0;
    if !broadcasts || k.dims()[2] != channels || v.dims() != k.dims() || !heads_fit {
        candle_core::bail!("attention of {:?}, {:?}, {:?} with {heads} heads", q.dims(), k.dims(), v.dims());
    }
    let has_values = q.elem_count() * k.elem_count() > 0;
    if fusible(&[q, k, v]) && has_values {
        return q.contiguous()?.apply_op3_no_bwd(&k.contiguous()?, &v.contiguous()?, &Attention { heads });
    }
    if is_native(&[q, k, v]) && has_values {
        return q.contiguous()?.apply_op3(&k.contiguous()?, &v.contiguous()?, Differentiable { heads });
    }
    composed(q, [k, v], heads)
}

/// The same from the tensor library's own operations, for other devices and types.
pub(super) fn composed(q: &Tensor, [k, v]: [&Tensor; 2], heads: usize) -> Result<Tensor> {
    let (_, queries, channels) = q.dims3()?;
    let split = |t: &Tensor| -> Result<Tensor> {
        let (b, n, c) = t.dims3()?;
        t.reshape((b, n, heads, c / heads))?.transpose(1, 2)?.contiguous()
    };
    let scale = ((channels / heads) as f64).powf(-0.5);
    let scores = (split(q)?.broadcast_matmul(&split(k)?.t()?)? * scale)?;
    let weights = candle_nn::ops::softmax(&scores, D::Minus1)?;
    weights.broadcast_matmul(&split(v)?)?.transpose(1, 2)?.contiguous()?.reshape(((), queries, channels))
}

struct Attention {
    heads: usize,
}

impl CustomOp3 for Attention {
    fn name(&self) -> &'static str {
        "attention"
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
        let (q, k, v) = (values(q, q_layout)?, values(k, k_layout)?, values(v, v_layout)?);
        let (q_batch, queries, channels) = q_layout.shape().dims3()?;
        let (k_batch, keys, _) = k_layout.shape().dims3()?;
        let batch = q_batch.max(k_batch);
        let head = channels / self.heads;
        // Scores of one block stay within the second-level cache.
        let block = (256 * 1024 / keys).clamp(1, queries.max(1));
        let blocks = queries.div_ceil(block);
        let mut out = buffer(batch * queries * channels);
        let mut pieces: Vec<_> =
            out.chunks_mut(queries * channels).flat_map(|b| b.chunks_mut(block * channels)).collect();
        let pieces = parts_of_products(pieces.par_iter_mut(), block.min(queries) * keys * channels);
        pieces.enumerate().for_each_init(Scratch::default, |scratch, (index, piece)| {
            let (b, first) = (index / blocks, index % blocks * block);
            let rows = piece.len() / channels;
            let of = |own: usize| if own == 1 { 0 } else { b };
            let q = &q[(of(q_batch) * queries + first) * channels..][..rows * channels];
            let start = of(k_batch) * keys * channels;
            for offset in (0..channels).step_by(head) {
                let block = HeadBlock {
                    q: Matrix::new(&q[offset..], rows, head, channels),
                    k: Matrix::new(&k[start + offset..], keys, head, channels),
                    v: Matrix::new(&v[start + offset..], keys, head, channels),
                    keys,
                };
                block.attend(scratch, |_, _| (), &mut piece[offset..], channels);
            }
        });
        Ok((CpuStorage::F32(out), (batch, queries, channels).into()))
    }
}

/// Working memory of one thread.
#[derive(Default)]
pub(in crate::ops) struct Scratch {
    scores: Vec<f32>,
    inverse_sums: Vec<f32>,
}

/// Some queries of one head with all keys and values they look at.
#[derive(Clone, Copy)]
pub(in crate::ops) struct HeadBlock<'a> {
    pub(in crate::ops) q: Matrix<'a>,
    pub(in crate::ops) k: Matrix<'a>,
    pub(in crate::ops) v: Matrix<'a>,
    pub(in crate::ops) keys: usize,
}

impl HeadBlock<'_> {
    /// Writes the attended values to `out`, whose rows lie `stride` apart; `bias` adds to one query's scores.
    pub(in crate::ops) fn attend(
        self,
        scratch: &mut Scratch,
        bias: impl Fn(usize, &mut [f32]),
        out: &mut [f32],
        stride: usize,
    ) {
        let (rows, width) = (self.q.rows(), self.v.columns());
        scratch.scores.resize(rows * self.keys, 0.0);
        scratch.inverse_sums.resize(rows, 0.0);
        let scale = (self.q.columns() as f32).powf(-0.5);
        let scores = Output { data: &mut scratch.scores, row_stride: self.keys, accumulate: false };
        product(self.q, self.k.transposed(), scale, scores, 1);
        pulp::Arch::new().dispatch(|| {
            for (row, scores) in scratch.scores.chunks_exact_mut(self.keys).enumerate() {
                bias(row, scores);
                scratch.inverse_sums[row] = 1.0 / exponentiate(scores);
            }
        });
        let weights = Matrix::new(&scratch.scores, rows, self.keys, self.keys);
        product(weights, self.v, 1.0, Output { data: out, row_stride: stride, accumulate: false }, 1);
        for (row, scale) in out.chunks_mut(stride).zip(&scratch.inverse_sums) {
            row.iter_mut().take(width).for_each(|v| *v *= scale);
        }
    }
}

/// Replaces scores by exp(score − largest) and returns their sum.
#[inline(always)]
pub(super) fn exponentiate<T: Real>(scores: &mut [T]) -> T {
    let larger = |m: T, s: T| if s > m { s } else { m };
    let mut largest = [T::neg_infinity(); 16];
    let mut chunks = scores.chunks_exact(16);
    for chunk in &mut chunks {
        largest.iter_mut().zip(chunk).for_each(|(m, &s)| *m = larger(*m, s));
    }
    let rest = chunks.remainder().iter().copied().fold(T::neg_infinity(), larger);
    let largest = largest.iter().copied().fold(rest, larger);
    let mut partial = [T::zero(); 16];
    let mut chunks = scores.chunks_exact_mut(16);
    for chunk in &mut chunks {
        for (p, s) in partial.iter_mut().zip(chunk) {
            *s = (*s - largest).loop_exp();
            *p += *s;
        }
    }
    let mut sum = partial.iter().copied().sum::<T>();
    for s in chunks.into_remainder() {
        *s = (*s - largest).loop_exp();
        sum += *s;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gradient_check::assert_gradients;
    use crate::ops::testing::{assert_close, random, tracked};
    use candle_core::DType;

    #[test]
    fn fused_equals_composed() {
        for (q_batch, k_batch, queries, keys, channels, heads) in [
            (1, 1, 1, 1, 2, 1),
            (1, 3, 40, 7, 16, 4),
            (3, 1, 7, 50, 24, 3),
            (2, 2, 5000, 9, 16, 2),
            (2, 2, 9, 301, 40, 5),
        ] {
            let q = random(&[q_batch, queries, channels], 1).affine(3.0, 0.0).unwrap();
            let (k, v) = (random(&[k_batch, keys, channels], 2), random(&[k_batch, keys, channels], 3));
            let fused = attention(&q, &k, &v, heads).unwrap();
            assert_close(&fused, &attention(&tracked(&q), &k, &v, heads).unwrap(), 1e-5);
            assert_close(&fused, &composed(&q, [&k, &v], heads).unwrap(), 1e-5);
        }
    }

    /// Batch, queries, keys, channels, heads.
    const SHAPES: [[usize; 5]; 4] = [[1, 1, 1, 2, 1], [2, 7, 5, 6, 3], [1, 530, 19, 4, 2], [2, 3, 40, 6, 2]];

    #[test]
    fn gradients_are_those_of_finite_differences() {
        for [batch, queries, keys, channels, heads] in SHAPES {
            let random = |(batch, tokens, seed): (usize, usize, u64)| {
                random(&[batch, tokens, channels], seed).to_dtype(DType::F64).unwrap()
            };
            let [q, k, v] = [(batch, queries, 1), (batch, keys, 2), (batch, keys, 3)].map(random);
            assert_gradients(&[&q, &k, &v], |a| attention(&a[0], &a[1], &a[2], heads));
            // Queries, or keys and values, that all images share.
            let [one_q, one_k, one_v] = [(1, queries, 4), (1, keys, 5), (1, keys, 6)].map(random);
            assert_gradients(&[&one_q, &k, &v], |a| attention(&a[0], &a[1], &a[2], heads));
            assert_gradients(&[&q, &one_k, &one_v], |a| attention(&a[0], &a[1], &a[2], heads));
            // All three are made of one tensor.
            assert_gradients(&[&k], |a| attention(&(&a[0] * 2.0)?, &a[0], &a[0].sqr()?, heads));
        }
    }

    #[test]
    fn large_maps_agree_with_the_composed_form() {
        let tensors = [(1500, 1), (70, 2), (70, 3)].map(|(tokens, seed)| tracked(&random(&[3, tokens, 8], seed)));
        let [q, k, v] = &tensors;
        let (ours, expected) = (attention(q, k, v, 2).unwrap(), composed(q, [k, v], 2).unwrap());
        assert_close(&ours.detach(), &expected.detach(), 1e-5);
        let gradients = |y: &Tensor| (y * random(y.dims(), 9)).unwrap().sum_all().unwrap().backward().unwrap();
        let (ours, expected) = (gradients(&ours), gradients(&expected));
        for variable in &tensors {
            assert_close(ours.get(variable).unwrap(), expected.get(variable).unwrap(), 1e-4);
        }
    }

    #[test]
    fn the_number_of_threads_changes_no_bit() {
        let tensors = [(1500, 1), (70, 2), (70, 3)].map(|(tokens, seed)| tracked(&random(&[2, tokens, 6], seed)));
        let run = |threads: usize| {
            rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(|| {
                let [q, k, v] = &tensors;
                let y = attention(q, k, v, 3).unwrap();
                let gradients = y.sqr().unwrap().sum_all().unwrap().backward().unwrap();
                let list = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
                [
                    list(&y),
                    list(gradients.get(q).unwrap()),
                    list(gradients.get(k).unwrap()),
                    list(gradients.get(v).unwrap()),
                ]
            })
        };
        assert_eq!(run(1), run(3));
    }

    #[test]
    fn misfits_are_errors() {
        let (q, k) = (random(&[2, 3, 8], 1), random(&[3, 4, 8], 2));
        assert!(attention(&q, &k, &k, 2).is_err());
        assert!(attention(&q, &q, &q, 3).is_err());
        assert!(attention(&q, &q, &q, 0).is_err());
    }
}
