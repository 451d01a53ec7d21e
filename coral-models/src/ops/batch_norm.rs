use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::real::{Real, by_type, is_native, real_values, with_values};

/// Positions that are summed at a time; fixed, so that a sum does not depend on the number of threads.
const CHUNK: usize = 512;

/// Mean and biased variance of every channel over all positions.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct BatchStatistics {
    pub(crate) mean: Vec<f64>,
    pub(crate) variance: Vec<f64>,
    /// Positions.
    pub(crate) count: usize,
}

impl BatchStatistics {
    /// Of N×H×W×C values.
    pub(crate) fn of(x: &Tensor) -> Result<Self> {
        fn compute<T: Real>(x: &Tensor, channels: usize) -> Result<BatchStatistics> {
            with_values([x], |[x]| statistics::<T>(x, channels))
        }
        let (batch, height, width, channels) = x.dims4()?;
        if batch * height * width < 2 {
            candle_core::bail!("batch statistics need more than one value per channel, got {:?}", x.dims());
        }
        let x = x.detach().to_device(&candle_core::Device::Cpu)?.contiguous()?;
        let statistics = by_type!(x.dtype(), compute(&x, channels))?;
        // Running statistics that followed such values would stay so for ever.
        let largest = if x.dtype() == candle_core::DType::F32 { f64::from(f32::MAX) } else { f64::MAX };
        // The unbiased variance may be twice as large.
        match statistics.mean.iter().chain(&statistics.variance).all(|value| value.abs() <= largest / 2.0) {
            true => Ok(statistics),
            false => candle_core::bail!("the values to normalise hold NaN or infinity: the training diverges"),
        }
    }

    /// The variance with the divisor that makes it unbiased.
    pub(crate) fn unbiased_variance(&self) -> impl Iterator<Item = f64> {
        let factor = self.count as f64 / (self.count as f64 - 1.0);
        self.variance.iter().map(move |variance| variance * factor)
    }
}

fn statistics<T: Real>(x: &[T], channels: usize) -> BatchStatistics {
    // Sum and squared deviations of each chunk, put together afterwards (Chan, Golub and LeVeque 1979).
    let parts: Vec<_> = x.par_chunks(CHUNK * channels).map(|chunk| chunk_moments(chunk, channels)).collect();
    let (mut mean, mut squares) = (vec![0.0; channels], vec![0.0; channels]);
    let mut count = 0.0;
    for (part_mean, part_squares, part_count) in parts {
        let total = count + part_count;
        for channel in 0..channels {
            let shift = part_mean[channel] - mean[channel];
            mean[channel] += shift * part_count / total;
            squares[channel] += part_squares[channel] + shift * shift * count * part_count / total;
        }
        count = total;
    }
    let variance = squares.into_iter().map(|sum: f64| sum / count).collect();
    BatchStatistics { mean, variance, count: count as usize }
}

/// Mean, squared deviations and number of a chunk's values.
fn chunk_moments<T: Real>(chunk: &[T], channels: usize) -> (Vec<f64>, Vec<f64>, f64) {
    let count = (chunk.len() / channels) as f64;
    let [mut guess, mut rest, mut squares] = std::array::from_fn(|_| vec![T::zero(); channels]);
    pulp::Arch::new().dispatch(
        #[inline(always)]
        || {
            for pixel in chunk.chunks_exact(channels) {
                guess.iter_mut().zip(pixel).for_each(|(sum, &value)| *sum += value);
            }
            guess.iter_mut().for_each(|sum| *sum *= T::from_f64(1.0 / count));
            for pixel in chunk.chunks_exact(channels) {
                for c in 0..channels {
                    let deviation = pixel[c] - guess[c];
                    rest[c] += deviation;
                    squares[c] += deviation * deviation;
                }
            }
        },
    );
    // What rounding left of the mean is in the sum of the deviations.
    let mean = |c: usize| guess[c].to_f64() + rest[c].to_f64() / count;
    let squares_of = |c: usize| (squares[c].to_f64() - rest[c].to_f64().powi(2) / count).max(0.0);
    ((0..channels).map(mean).collect(), (0..channels).map(squares_of).collect(), count)
}

/// What values are normalised by.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Statistics<'a> {
    /// The batch's own, through which gradients pass (Ioffe and Szegedy 2015).
    Batch(&'a BatchStatistics),
    /// Those of other batches, which are constants.
    Running(&'a BatchStatistics),
}

impl<'a> Statistics<'a> {
    fn values(self) -> &'a BatchStatistics {
        match self {
            Self::Batch(values) | Self::Running(values) => values,
        }
    }
}

/// Normalises every channel of N×H×W×C values by `statistics`, scales by `weight` and adds `bias`; with `rectified`,
/// max(·, 0) follows.
pub(crate) fn batch_norm(
    x: &Tensor,
    [weight, bias]: [&Tensor; 2],
    (statistics, eps): (Statistics<'_>, f64),
    rectified: bool,
) -> Result<Tensor> {
    let (_, _, _, channels) = x.dims4()?;
    if weight.dims() != [channels] || bias.dims() != [channels] || statistics.values().mean.len() != channels {
        candle_core::bail!("batch norm of {:?} channels on {:?}", weight.dims(), x.dims());
    }
    if !is_native(&[x, weight, bias]) {
        return composed(x, [weight, bias], (statistics, eps), rectified);
    }
    let BatchStatistics { mean, variance, .. } = statistics.values();
    let inverse_deviation = variance.iter().map(|variance| 1.0 / (variance + eps).sqrt()).collect();
    let follows = matches!(statistics, Statistics::Batch(_));
    let op = BatchNorm { mean: mean.clone(), inverse_deviation, follows, rectified };
    x.contiguous()?.apply_op3(&weight.contiguous()?, &bias.contiguous()?, op)
}

/// The same from the tensor library's own operations, for other devices and types.
fn composed(
    x: &Tensor,
    [weight, bias]: [&Tensor; 2],
    (statistics, eps): (Statistics<'_>, f64),
    rectified: bool,
) -> Result<Tensor> {
    let rows = x.flatten(0, 2)?;
    let (mean, variance) = match statistics {
        Statistics::Batch(_) => {
            let mean = rows.mean_keepdim(0)?;
            let variance = rows.broadcast_sub(&mean)?.sqr()?.mean_keepdim(0)?;
            (mean, variance)
        }
        Statistics::Running(BatchStatistics { mean, variance, .. }) => {
            let row = |list: &Vec<f64>| Tensor::new(list.as_slice(), x.device())?.to_dtype(x.dtype())?.unsqueeze(0);
            (row(mean)?, row(variance)?)
        }
    };
    let normalized = rows.broadcast_sub(&mean)?.broadcast_div(&(variance + eps)?.sqrt()?)?;
    let y = normalized.broadcast_mul(weight)?.broadcast_add(bias)?.reshape(x.shape())?;
    if rectified { super::relu(&y) } else { Ok(y) }
}

struct BatchNorm {
    mean: Vec<f64>,
    inverse_deviation: Vec<f64>,
    /// Whether mean and deviation are those of the values themselves.
    follows: bool,
    rectified: bool,
}

impl BatchNorm {
    fn statistics<T: Real>(&self) -> [Vec<T>; 2] {
        [&self.mean, &self.inverse_deviation].map(|list| list.iter().map(|&v| T::from_f64(v)).collect())
    }

    fn forward<T: Real>(&self, x: &[T], weight: &[T], bias: &[T]) -> Vec<T> {
        let [mean, inverse] = self.statistics::<T>();
        let scale: Vec<T> = inverse.iter().zip(weight).map(|(&i, &w)| i * w).collect();
        let mut out = vec![T::zero(); x.len()];
        let step = CHUNK * scale.len();
        out.par_chunks_mut(step).zip(x.par_chunks(step)).for_each(|(out, x)| {
            pulp::Arch::new().dispatch(
                #[inline(always)]
                || {
                    for (out, x) in out.chunks_exact_mut(scale.len()).zip(x.chunks_exact(scale.len())) {
                        for c in 0..scale.len() {
                            let y = (x[c] - mean[c]) * scale[c] + bias[c];
                            // What is not a number stays visible.
                            out[c] = if self.rectified && y < T::zero() { T::zero() } else { y };
                        }
                    }
                },
            );
        });
        out
    }

    /// Gradients of x, if it is wanted, and of weight and bias.
    fn backward<T: Real>(&self, [x, weight, y, gradient]: [&[T]; 4], wants_x: bool) -> (Option<Vec<T>>, [Vec<T>; 2]) {
        let [mean, inverse] = self.statistics::<T>();
        let channels = weight.len();
        let step = CHUNK * channels;
        let rectified = self.rectified;
        let passed = |y: T, gradient: T| if rectified && y <= T::zero() { T::zero() } else { gradient };
        let parts: Vec<[Vec<T>; 2]> = (x.par_chunks(step), y.par_chunks(step), gradient.par_chunks(step))
            .into_par_iter()
            .map(|(x, y, gradient)| {
                let mut sums = [vec![T::zero(); channels], vec![T::zero(); channels]];
                pulp::Arch::new().dispatch(
                    #[inline(always)]
                    || {
                        let [of_weight, of_bias] = &mut sums;
                        for at in (0..x.len()).step_by(channels) {
                            let (x, y, gradient) =
                                (&x[at..][..channels], &y[at..][..channels], &gradient[at..][..channels]);
                            for c in 0..channels {
                                let gradient = passed(y[c], gradient[c]);
                                of_bias[c] += gradient;
                                of_weight[c] += gradient * (x[c] - mean[c]);
                            }
                        }
                    },
                );
                sums
            })
            .collect();
        let sum = |which: usize, channel: usize| parts.iter().map(|part| part[which][channel].to_f64()).sum::<f64>();
        let of_weight: Vec<f64> = (0..channels).map(|c| sum(0, c) * self.inverse_deviation[c]).collect();
        let of_bias: Vec<f64> = (0..channels).map(|c| sum(1, c)).collect();
        // Constants do not follow the values.
        let share = if self.follows { channels as f64 / x.len() as f64 } else { 0.0 };
        let cast = |list: &[f64], factor: f64| list.iter().map(|&v| T::from_f64(v * factor)).collect::<Vec<T>>();
        let of_parameters = [cast(&of_weight, 1.0), cast(&of_bias, 1.0)];
        if !wants_x {
            return (None, of_parameters);
        }
        let (mean_weight, mean_bias) = (cast(&of_weight, share), cast(&of_bias, share));
        let mut of_x = vec![T::zero(); x.len()];
        (of_x.par_chunks_mut(step), x.par_chunks(step), y.par_chunks(step), gradient.par_chunks(step))
            .into_par_iter()
            .for_each(|(out, x, y, gradient)| {
                pulp::Arch::new().dispatch(
                    #[inline(always)]
                    || {
                        for at in (0..x.len()).step_by(channels) {
                            let (x, y, gradient) =
                                (&x[at..][..channels], &y[at..][..channels], &gradient[at..][..channels]);
                            let out = &mut out[at..][..channels];
                            for c in 0..channels {
                                let normalized = (x[c] - mean[c]) * inverse[c];
                                let rest = passed(y[c], gradient[c]) - mean_bias[c] - normalized * mean_weight[c];
                                out[c] = weight[c] * inverse[c] * rest;
                            }
                        }
                    },
                );
            });
        (Some(of_x), of_parameters)
    }
}

impl CustomOp3 for BatchNorm {
    fn name(&self) -> &'static str {
        "batch_norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        fn compute<T: Real>(op: &BatchNorm, arguments: [(&CpuStorage, &Layout); 3]) -> Result<CpuStorage> {
            let [x, weight, bias] = arguments.map(|(storage, layout)| real_values::<T>(storage, layout));
            Ok(T::to_cpu_storage_owned(op.forward(x?, weight?, bias?)))
        }
        let arguments = [(x, x_layout), (weight, weight_layout), (bias, bias_layout)];
        Ok((by_type!(x.dtype(), compute(self, arguments))?, x_layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        y: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        fn compute<T: Real>(op: &BatchNorm, tensors: [&Tensor; 4]) -> Result<(Option<Tensor>, [Tensor; 2])> {
            let [x, weight, ..] = tensors;
            let (of_x, parameters) = with_values(tensors, |values| op.backward::<T>(values, x.track_op()))?;
            let tensor = |list: Vec<T>, like: &Tensor| Tensor::from_vec(list, like.shape(), like.device());
            let [of_weight, of_bias] = parameters;
            let of_x = of_x.map(|list| tensor(list, x)).transpose()?;
            Ok((of_x, [tensor(of_weight, weight)?, tensor(of_bias, weight)?]))
        }
        let tensors = [x, weight, y, &gradient.contiguous()?];
        let (of_x, [of_weight, of_bias]) = by_type!(x.dtype(), compute(self, tensors))?;
        let wanted = |tensor: &Tensor, gradient| tensor.track_op().then_some(gradient);
        Ok((of_x, wanted(weight, of_weight), wanted(bias, of_bias)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gradient_check::assert_gradients;
    use crate::ops::testing::{assert_close, random, tracked};
    use candle_core::DType;

    #[test]
    fn statistics_of_what_is_no_number_are_refused() {
        for bad in [f32::NAN, f32::INFINITY] {
            let x = Tensor::new(&[[[[1f32, 2.0], [bad, 0.0]]]], &candle_core::Device::Cpu).unwrap();
            assert!(BatchStatistics::of(&x).unwrap_err().to_string().contains("NaN or infinity"));
            // Finite as it is, but not its square.
            let x = Tensor::new(&[[[[1e20f32], [-1e20]]]], &candle_core::Device::Cpu).unwrap();
            assert!(BatchStatistics::of(&x).is_err());
        }
    }

    #[test]
    fn statistics_are_mean_and_variance() {
        let x = (random(&[3, 20, 31, 5], 1) + 100.0).unwrap();
        let ours = BatchStatistics::of(&x).unwrap();
        let rows = x.to_dtype(DType::F64).unwrap().flatten(0, 2).unwrap();
        let (mean, variance) = (rows.mean(0).unwrap().to_vec1::<f64>().unwrap(), rows.var(0).unwrap());
        let unbiased: Vec<f64> = ours.unbiased_variance().collect();
        for (c, expected) in variance.to_vec1::<f64>().unwrap().into_iter().enumerate() {
            assert!((ours.mean[c] - mean[c]).abs() < 1e-5 && (unbiased[c] - expected).abs() < 1e-5);
        }
        assert_eq!(ours.count, 1860);
        assert!(BatchStatistics::of(&random(&[1, 1, 1, 4], 1)).is_err());
    }

    #[test]
    fn gradients_pass_through_the_statistics() {
        for shape in [[2, 3, 5, 4], [1, 1, 2, 1], [3, 1, 1, 7]] {
            let [x, weight, bias] = [(&shape[..], 1), (&shape[3..], 2), (&shape[3..], 3)]
                .map(|(shape, seed)| random(shape, seed).to_dtype(DType::F64).unwrap());
            for rectified in [false, true] {
                let own = |v: &[Tensor]| BatchStatistics::of(&v[0]);
                assert_gradients(&[&x, &weight, &bias], |v| {
                    batch_norm(&v[0], [&v[1], &v[2]], (Statistics::Batch(&own(v)?), 1e-5), rectified)
                });
                assert_gradients(&[&x, &weight, &bias], |v| {
                    composed(&v[0], [&v[1], &v[2]], (Statistics::Batch(&own(v)?), 1e-5), rectified)
                });
                let (mean, variance) = (vec![0.1; shape[3]], vec![0.7; shape[3]]);
                let other = BatchStatistics { mean, variance, count: 9 };
                let running = (Statistics::Running(&other), 1e-5);
                assert_gradients(&[&x, &weight, &bias], |v| batch_norm(&v[0], [&v[1], &v[2]], running, rectified));
                assert_gradients(&[&x, &weight, &bias], |v| composed(&v[0], [&v[1], &v[2]], running, rectified));
                let fused = batch_norm(&x, [&weight, &bias], running, rectified).unwrap();
                let composed = composed(&x, [&weight, &bias], running, rectified).unwrap();
                assert!(
                    (fused - composed)
                        .unwrap()
                        .abs()
                        .unwrap()
                        .flatten_all()
                        .unwrap()
                        .max(0)
                        .unwrap()
                        .to_scalar::<f64>()
                        .unwrap()
                        < 1e-12
                );
            }
        }
    }

    #[test]
    fn large_batches_agree_with_the_composed_form() {
        let [x, weight, bias] = [(&[4, 21, 30, 6][..], 1), (&[6], 2), (&[6], 3)].map(|(s, seed)| random(s, seed));
        let [x, weight, bias] = [x, weight, bias].map(|t| tracked(&t));
        let own = BatchStatistics::of(&x).unwrap();
        let statistics = (Statistics::Batch(&own), 1e-5);
        let ours = batch_norm(&x, [&weight, &bias], statistics, true).unwrap();
        let expected = composed(&x, [&weight, &bias], statistics, true).unwrap();
        assert_close(&ours, &expected, 1e-5);
        let gradients = |y: &Tensor| (y * random(y.dims(), 9)).unwrap().sum_all().unwrap().backward().unwrap();
        let (ours, expected) = (gradients(&ours), gradients(&expected));
        for variable in [&x, &weight, &bias] {
            assert_close(ours.get(variable).unwrap(), expected.get(variable).unwrap(), 1e-3);
        }
    }
}
