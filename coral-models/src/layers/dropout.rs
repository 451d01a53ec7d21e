//! What training leaves out at random.

use candle_core::{Result, Tensor};
use coral_core::SeededRng;

/// Sets a `share` of all values to 0 and enlarges the others, so that the mean stays (Srivastava et al. 2014); without
/// random numbers nothing happens.
pub(crate) fn drop_values(x: Tensor, share: f64, random: Option<&mut SeededRng>) -> Result<Tensor> {
    let shape = x.dims().to_vec();
    drop_parts(x, (share, &shape), random)
}

/// The same for whole samples, the first dimension: stochastic depth (Huang et al., ECCV 2016).
pub(crate) fn drop_samples(x: Tensor, share: f64, random: Option<&mut SeededRng>) -> Result<Tensor> {
    let mut shape = vec![1; x.rank()];
    shape[0] = x.dims()[0];
    drop_parts(x, (share, &shape), random)
}

/// Drops what lies under each entry of a mask of this shape.
fn drop_parts(x: Tensor, (share, shape): (f64, &[usize]), random: Option<&mut SeededRng>) -> Result<Tensor> {
    let Some(random) = random.filter(|_| share > 0.0) else { return Ok(x) };
    let kept = (1.0 / (1.0 - share)) as f32;
    let mask = (0..shape.iter().product()).map(|_| if random.chance(share) { 0.0 } else { kept });
    let mask = Tensor::from_iter(mask, x.device())?.to_dtype(x.dtype())?.reshape(shape)?;
    x.broadcast_mul(&mask)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};

    fn ones(shape: &[usize]) -> Tensor {
        Tensor::ones(shape, DType::F32, &Device::Cpu).unwrap()
    }

    fn list(x: &Tensor) -> Vec<f32> {
        x.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn a_share_of_the_values_is_dropped_and_the_mean_stays() {
        let dropped = |seed| list(&drop_values(ones(&[50, 40, 5]), 0.2, Some(&mut SeededRng::new(seed))).unwrap());
        let values = dropped(1);
        assert!(values.iter().all(|v| [0.0, 1.25].contains(v)));
        let zeros = values.iter().filter(|v| **v == 0.0).count();
        assert!((1850..2150).contains(&zeros), "{zeros}");
        assert!(values == dropped(1) && values != dropped(2));
        assert_eq!(list(&drop_values(ones(&[9]), 0.2, None).unwrap()), [1.0; 9]);
        assert_eq!(list(&drop_values(ones(&[9]), 0.0, Some(&mut SeededRng::new(1))).unwrap()), [1.0; 9]);
    }

    #[test]
    fn samples_are_dropped_whole() {
        let x = drop_samples(ones(&[400, 3, 2]), 0.5, Some(&mut SeededRng::new(3))).unwrap();
        let values = list(&x);
        let rows: Vec<_> = values.chunks(6).collect();
        assert!(rows.iter().all(|row| *row == [0.0; 6] || *row == [2.0; 6]));
        let kept = rows.iter().filter(|row| row[0] > 0.0).count();
        assert!((160..240).contains(&kept), "{kept}");
    }
}
