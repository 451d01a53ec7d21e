use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, DType, Device, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::real::{Real, is_native, real_values};

/// Classes that N×S entries should have, and what each entry counts.
#[derive(Debug)]
pub(crate) struct IndexTargets {
    /// A class per entry; C for entries that do not count.
    pub(crate) indices: Vec<u32>,
    /// C weights.
    pub(crate) class_weights: Vec<f64>,
    /// The share of the target that is spread evenly over all classes.
    pub(crate) smoothing: f64,
    /// The factor of the sum.
    pub(crate) scale: f64,
}

impl IndexTargets {
    fn classes(&self) -> usize {
        self.class_weights.len()
    }

    /// What every class gets of an entry that counts: its weighted share of the smoothing.
    fn spread(&self) -> Vec<f64> {
        let share = self.smoothing / self.classes() as f64;
        self.class_weights.iter().map(|weight| share * weight).collect()
    }

    /// Per target (C + 1 of them, the last for entries that do not count): what the class itself gets besides, and
    /// what all classes get together.
    fn own_and_total(&self) -> (Vec<f64>, Vec<f64>) {
        let spread: f64 = self.spread().iter().sum();
        let own: Vec<f64> = self.class_weights.iter().map(|weight| (1.0 - self.smoothing) * weight).collect();
        let total = own.iter().map(|own| own + spread).chain([0.0]).collect();
        (own.into_iter().chain([0.0]).collect(), total)
    }
}

/// `scale` × the sum over all entries of the cross-entropy between the softmax over C and the targets, for N×C×S logits.
pub(crate) fn cross_entropy_sum(logits: &Tensor, targets: IndexTargets) -> Result<Tensor> {
    let (batch, classes, entries) = logits.dims3()?;
    let valid = targets.indices.iter().all(|&index| index as usize <= classes);
    if targets.indices.len() != batch * entries || targets.classes() != classes || !valid {
        let (indices, weights) = (targets.indices.len(), targets.classes());
        candle_core::bail!("logits {:?} with {indices} targets, {weights} classes", logits.dims());
    }
    if is_native(&[logits]) {
        return logits.contiguous()?.apply_op1(CrossEntropy(Arc::new(targets)));
    }
    composed(logits, &targets)
}

/// The same from candle's operations.
fn composed(logits: &Tensor, targets: &IndexTargets) -> Result<Tensor> {
    let (batch, classes, entries) = logits.dims3()?;
    let device = logits.device();
    let (own, total) = targets.own_and_total();
    let per_entry = |table: &[f64]| {
        let values: Vec<f64> = targets.indices.iter().map(|&index| table[index as usize]).collect();
        Tensor::from_vec(values, (batch, 1, entries), &Device::Cpu)?.to_dtype(logits.dtype())?.to_device(device)
    };
    let counts: Vec<f64> = (0..=classes).map(|class| f64::from(u8::from(class < classes))).collect();
    let last = classes as u32 - 1;
    let indices = targets.indices.iter().map(|&index| index.min(last)).collect();
    let indices = Tensor::from_vec::<_, u32>(indices, (batch, 1, entries), device)?;
    let spread = Tensor::from_vec(targets.spread(), (1, classes, 1), &Device::Cpu)?;
    let spread = spread.to_dtype(logits.dtype())?.to_device(device)?;

    let shifted = logits.broadcast_sub(&logits.detach().max_keepdim(1)?)?;
    let normalizer = shifted.exp()?.sum_keepdim(1)?.log()?;
    let picked = (shifted.gather(&indices, 1)? * per_entry(&own)?)?;
    let even = (shifted.broadcast_mul(&spread)?.sum_keepdim(1)? * per_entry(&counts)?)?;
    (((normalizer * per_entry(&total)?)? - picked)? - even)?.sum_all()? * targets.scale
}

/// Entries that a thread takes at a time.
const BLOCK: usize = 2048;

/// The logits of N samples, C×S each.
#[derive(Clone, Copy)]
struct Logits<'a, T> {
    values: &'a [T],
    classes: usize,
    entries: usize,
}

impl<'a, T: Real> Logits<'a, T> {
    fn new(storage: &'a CpuStorage, layout: &Layout) -> Result<Self> {
        let (_, classes, entries) = layout.shape().dims3()?;
        Ok(Self { values: real_values(storage, layout)?, classes, entries })
    }

    /// Blocks of entries: the sample, the first entry and how many there are.
    fn blocks(self) -> impl IndexedParallelIterator<Item = (usize, usize, usize)> {
        let per_sample = self.entries.div_ceil(BLOCK);
        let samples = self.values.len() / (self.classes * self.entries);
        (0..samples * per_sample).into_par_iter().map(move |block| {
            let (sample, first) = (block / per_sample, block % per_sample * BLOCK);
            (sample, first, BLOCK.min(self.entries - first))
        })
    }

    fn sample(self, sample: usize) -> &'a [T] {
        &self.values[sample * self.classes * self.entries..][..self.classes * self.entries]
    }

    fn row(self, sample: usize, class: usize, first: usize, len: usize) -> &'a [T] {
        &self.values[(sample * self.classes + class) * self.entries + first..][..len]
    }

    /// Per entry of a block: the largest logit, and the logarithm of the sum of exponentials less that.
    fn normalizers(self, (sample, first, len): (usize, usize, usize)) -> (Vec<T>, Vec<T>) {
        if self.entries == 1 {
            let (largest, sum) = pulp::Arch::new().dispatch(|| row_normalizer(self.sample(sample)));
            return (vec![largest], vec![sum.ln()]);
        }
        let mut largest = self.row(sample, 0, first, len).to_vec();
        let mut sums = vec![T::zero(); len];
        pulp::Arch::new().dispatch(|| {
            for class in 1..self.classes {
                for (largest, &x) in largest.iter_mut().zip(self.row(sample, class, first, len)) {
                    *largest = if x > *largest { x } else { *largest };
                }
            }
            for class in 0..self.classes {
                for ((sum, &x), &largest) in sums.iter_mut().zip(self.row(sample, class, first, len)).zip(&largest) {
                    *sum += (x - largest).loop_exp();
                }
            }
        });
        sums.iter_mut().for_each(|sum| *sum = sum.ln());
        (largest, sums)
    }
}

/// The largest of the values, and the sum of their exponentials after that is taken away.
#[inline(always)]
fn row_normalizer<T: Real>(row: &[T]) -> (T, T) {
    // The compiler may not reorder one sum into vectors by itself.
    const LANES: usize = 16;
    let largest = row.iter().fold(row[0], |largest, &x| if x > largest { x } else { largest });
    let (blocks, rest) = row.as_chunks::<LANES>();
    let mut sums = [T::zero(); LANES];
    for block in blocks {
        for lane in 0..LANES {
            sums[lane] += (block[lane] - largest).loop_exp();
        }
    }
    let rest = rest.iter().fold(T::zero(), |sum, &x| sum + (x - largest).loop_exp());
    (largest, sums.into_iter().fold(rest, |sum, lane| sum + lane))
}

struct CrossEntropy(Arc<IndexTargets>);

impl CrossEntropy {
    fn sum<T: Real>(&self, logits: Logits<'_, T>) -> f64 {
        let (own, total) = self.0.own_and_total();
        let spread = self.0.spread();
        let block_sum = |block: (usize, usize, usize)| {
            let (sample, first, len) = block;
            let (largest, log_sums) = logits.normalizers(block);
            let indices = &self.0.indices[sample * logits.entries + first..][..len];
            let values = logits.sample(sample);
            let mut sum = 0.0;
            for (i, &index) in indices.iter().enumerate() {
                let index = index as usize;
                if index == logits.classes {
                    continue;
                }
                let shifted = |class: usize| (values[class * logits.entries + first + i] - largest[i]).to_f64();
                sum += total[index] * log_sums[i].to_f64() - own[index] * shifted(index);
                if self.0.smoothing > 0.0 {
                    sum -= spread.iter().enumerate().map(|(class, spread)| spread * shifted(class)).sum::<f64>();
                }
            }
            sum
        };
        // Collected first, so that the order of the additions does not depend on the threads.
        let sums: Vec<f64> = logits.blocks().map(block_sum).collect();
        self.0.scale * sums.iter().sum::<f64>()
    }
}

impl CustomOp1 for CrossEntropy {
    fn name(&self) -> &'static str {
        "cross_entropy"
    }

    fn cpu_fwd(&self, logits: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let loss = match logits {
            CpuStorage::F64(_) => CpuStorage::F64(vec![self.sum(Logits::<f64>::new(logits, layout)?)]),
            _ => CpuStorage::F32(vec![self.sum(Logits::<f32>::new(logits, layout)?) as f32]),
        };
        Ok((loss, ().into()))
    }

    fn bwd(&self, logits: &Tensor, _loss: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let factor = grad.to_dtype(DType::F64)?.to_scalar::<f64>()?;
        logits.apply_op1_no_bwd(&CrossEntropyGradient { targets: self.0.clone(), factor }).map(Some)
    }
}

/// `factor` × the loss's gradient. The softmax is computed again: cheaper than keeping it through the backward pass.
struct CrossEntropyGradient {
    targets: Arc<IndexTargets>,
    factor: f64,
}

impl CrossEntropyGradient {
    fn gradient<T: Real>(&self, logits: Logits<'_, T>) -> Vec<T> {
        let (classes, entries) = (logits.classes, logits.entries);
        let shares = self.shares::<T>();
        let normalizers: Vec<_> = logits.blocks().map(|block| logits.normalizers(block)).collect();
        let per_sample = entries.div_ceil(BLOCK);
        let mut out = vec![T::zero(); logits.values.len()];
        if entries == 1 {
            // Rows of classes lie together.
            out.par_chunks_mut(classes).with_min_len(BLOCK.div_ceil(classes)).enumerate().for_each(|(sample, out)| {
                let (x, (largest, log_sum)) = (logits.sample(sample), &normalizers[sample]);
                let index = self.targets.indices[sample] as usize;
                softmax_row(x, largest[0], log_sum[0], out);
                shares.row(index, out);
            });
            return out;
        }
        out.par_chunks_mut(entries).with_min_len(BLOCK.div_ceil(entries)).enumerate().for_each(|(row, out)| {
            let (sample, class) = (row / classes, row % classes);
            for (block, out) in out.chunks_mut(BLOCK).enumerate() {
                let x = logits.row(sample, class, block * BLOCK, out.len());
                let (largest, log_sums) = &normalizers[sample * per_sample + block];
                pulp::Arch::new().dispatch(|| {
                    for (((out, &x), &largest), &log_sum) in out.iter_mut().zip(x).zip(largest).zip(log_sums) {
                        *out = ((x - largest) - log_sum).loop_exp();
                    }
                });
                let indices = &self.targets.indices[sample * entries + block * BLOCK..];
                for (out, &index) in out.iter_mut().zip(indices) {
                    *out = shares.gradient(*out, class, index as usize);
                }
            }
        });
        out
    }

    fn shares<T: Real>(&self) -> Shares<T> {
        let factor = self.factor * self.targets.scale;
        let scaled = |values: Vec<f64>| values.into_iter().map(|v| T::from_f64(factor * v)).collect();
        let (own, total) = self.targets.own_and_total();
        Shares { own: scaled(own), total: scaled(total), spread: scaled(self.targets.spread()) }
    }
}

/// What a target asks for, as factors of the gradient.
struct Shares<T> {
    own: Vec<T>,
    total: Vec<T>,
    spread: Vec<T>,
}

impl<T: Real> Shares<T> {
    /// The gradient of one logit, from its probability.
    #[inline(always)]
    fn gradient(&self, probability: T, class: usize, index: usize) -> T {
        // Not a product with 0, which would keep what is not a number in an entry that does not count.
        if index == self.spread.len() {
            return T::zero();
        }
        let target = if index == class { self.spread[class] + self.own[index] } else { self.spread[class] };
        probability * self.total[index] - target
    }

    /// The gradient of one entry's logits, which lie together.
    fn row(&self, index: usize, probabilities: &mut [T]) {
        for (class, value) in probabilities.iter_mut().enumerate() {
            *value = self.gradient(*value, class, index);
        }
    }
}

fn softmax_row<T: Real>(x: &[T], largest: T, log_sum: T, out: &mut [T]) {
    pulp::Arch::new().dispatch(|| {
        for (out, &x) in out.iter_mut().zip(x) {
            *out = ((x - largest) - log_sum).loop_exp();
        }
    });
}

impl CustomOp1 for CrossEntropyGradient {
    fn name(&self) -> &'static str {
        "cross_entropy_gradient"
    }

    fn cpu_fwd(&self, logits: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let gradient = match logits {
            CpuStorage::F64(_) => CpuStorage::F64(self.gradient(Logits::new(logits, layout)?)),
            _ => CpuStorage::F32(self.gradient(Logits::new(logits, layout)?)),
        };
        Ok((gradient, layout.shape().clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gradient_check::{assert_gradient, gradient, list, random};
    use coral_core::SeededRng;

    fn targets(batch: usize, classes: usize, entries: usize) -> IndexTargets {
        let mut random = SeededRng::new(7);
        IndexTargets {
            indices: (0..batch * entries).map(|_| random.below(classes + 1) as u32).collect(),
            class_weights: (0..classes).map(|_| random.range(0.2, 2.0)).collect(),
            smoothing: 0.15,
            scale: 0.37,
        }
    }

    #[test]
    fn fused_equals_composed() {
        for (batch, classes, entries) in
            [(1, 1, 1), (5, 3, 1), (70, 37, 1), (2, 5, 33), (1, 4, BLOCK + 5), (2, 2, 2 * BLOCK)]
        {
            let logits = (random(&[batch, classes, entries], 3) * 4.0).unwrap();
            let targets = targets(batch, classes, entries);
            let slow = |x: &Tensor| composed(x, &targets);
            let fast = |x: &Tensor| {
                let copy = IndexTargets {
                    indices: targets.indices.clone(),
                    class_weights: targets.class_weights.clone(),
                    ..targets
                };
                cross_entropy_sum(x, copy)
            };
            for (dtype, tolerance) in [(DType::F64, 1e-12), (DType::F32, 3e-5)] {
                let logits = logits.to_dtype(dtype).unwrap();
                let (a, b) = (list(&fast(&logits).unwrap())[0], list(&slow(&logits).unwrap())[0]);
                assert!((a - b).abs() <= tolerance * b.abs().max(1.0), "{a} against {b}");
                let pairs = list(&gradient(&logits, fast)).into_iter().zip(list(&gradient(&logits, slow)));
                pairs.enumerate().for_each(|(i, (a, b))| assert!((a - b).abs() <= tolerance, "{i}: {a} against {b}"));
            }
        }
    }

    #[test]
    fn gradients_are_right() {
        let logits = random(&[2, 3, 5], 1);
        assert_gradient(&logits, |x| cross_entropy_sum(x, targets(2, 3, 5)));
        assert_gradient(&logits, |x| composed(x, &targets(2, 3, 5)));
        // Another function of the same input adds its gradient.
        assert_gradient(&logits, |x| cross_entropy_sum(x, targets(2, 3, 5))? + x.sqr()?.sum_all()?);
        // A view that is not contiguous.
        assert_gradient(&random(&[2, 5, 3], 1), |x| cross_entropy_sum(&x.transpose(1, 2)?, targets(2, 3, 5)));
    }

    #[test]
    fn entries_that_do_not_count_may_hold_anything() {
        let logits = Tensor::new(&[[[f32::NAN, 1.0], [0.5, -1.0]]], &Device::Cpu).unwrap();
        let targets = || IndexTargets { indices: vec![2, 0], class_weights: vec![1.0; 2], smoothing: 0.1, scale: 1.0 };
        assert!(list(&cross_entropy_sum(&logits, targets()).unwrap())[0].is_finite());
        let gradient = list(&gradient(&logits, |x| cross_entropy_sum(x, targets())));
        assert!(gradient[0] == 0.0 && gradient[2] == 0.0 && gradient[1].is_finite());
    }
}
