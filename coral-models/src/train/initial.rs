use candle_core::{DType, Device, Result, Shape, Tensor};
use candle_nn::Init;
use candle_nn::init::NormalOrUniform;
use coral_core::SeededRng;

/// The value of a weight before training, as `init` wants it.
///
/// Every name has random numbers of its own, so that the order in which a network asks, or another layer more or
/// less, does not matter.
pub(super) fn draw(init: Init, shape: &Shape, name: &str, seed: u64) -> Vec<f32> {
    let mut random = SeededRng::stream(seed, name_hash(name));
    let len = shape.elem_count();
    let mut uniform = |low: f64, high: f64| (0..len).map(|_| random.range(low, high) as f32).collect();
    match init {
        Init::Const(value) => vec![value as f32; len],
        Init::Uniform { lo, up } => uniform(lo, up),
        Init::Randn { mean, stdev } => (0..len).map(|_| (mean + stdev * random.normal()) as f32).collect(),
        Init::Kaiming { dist, fan, non_linearity } => {
            let std = non_linearity.gain() / (fan.for_shape(shape) as f64).sqrt();
            match dist {
                NormalOrUniform::Uniform => uniform(-(3f64.sqrt() * std), 3f64.sqrt() * std),
                NormalOrUniform::Normal => (0..len).map(|_| (std * random.normal()) as f32).collect(),
            }
        }
    }
}

/// [`draw`] as a tensor.
pub(super) fn drawn(values: Vec<f32>, shape: Shape, dtype: DType, device: &Device) -> Result<Tensor> {
    Tensor::from_vec(values, shape, device)?.to_dtype(dtype)
}

/// FNV-1a: the same on every machine and in every version, unlike the standard library's hashes.
fn name_hash(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_nn::init::{DEFAULT_KAIMING_NORMAL, DEFAULT_KAIMING_UNIFORM};

    fn moments(values: &[f32]) -> (f64, f64) {
        let n = values.len() as f64;
        let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
        (mean, (values.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n).sqrt())
    }

    #[test]
    fn hints_are_followed() {
        let shape = Shape::from((40, 10, 3, 3));
        let expected = (2.0f64 / 90.0).sqrt();
        for (init, mean, std) in [
            (DEFAULT_KAIMING_NORMAL, 0.0, expected),
            (DEFAULT_KAIMING_UNIFORM, 0.0, expected),
            (Init::Randn { mean: 2.0, stdev: 0.5 }, 2.0, 0.5),
            (Init::Uniform { lo: -1.0, up: 3.0 }, 1.0, 4.0 / 12f64.sqrt()),
        ] {
            let (m, s) = moments(&draw(init, &shape, "layer1.0.conv1.weight", 3));
            assert!((m - mean).abs() < 0.04 * std && (s / std - 1.0).abs() < 0.04, "{init:?}: {m} {s}");
        }
        let bound = (3.0f64 * 2.0 / 90.0).sqrt() as f32;
        let uniform = draw(DEFAULT_KAIMING_UNIFORM, &shape, "a", 3);
        assert!(uniform.iter().all(|v| v.abs() <= bound));
        assert_eq!(draw(Init::Const(0.25), &Shape::from(3), "a", 3), [0.25; 3]);
    }

    #[test]
    fn names_and_seeds_make_the_difference() {
        let values = |name, seed| draw(DEFAULT_KAIMING_NORMAL, &Shape::from((2, 3)), name, seed);
        assert_eq!(values("a", 1), values("a", 1));
        assert_ne!(values("a", 1), values("b", 1));
        assert_ne!(values("a", 1), values("a", 2));
        // The published test vectors of the hash.
        assert_eq!((name_hash(""), name_hash("foobar")), (0xcbf2_9ce4_8422_2325, 0x8594_4171_f739_67e8));
    }
}
