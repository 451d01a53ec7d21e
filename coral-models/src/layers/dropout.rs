use candle_core::{Result, Tensor};
use coral_core::SeededRng;

/// Sets a `share` (0 to below 1) of the values to 0 at random, and enlarges the others, so that their mean stays.
pub(crate) fn dropout(x: &Tensor, share: f64, random: &mut SeededRng) -> Result<Tensor> {
    if share == 0.0 {
        return Ok(x.clone());
    }
    let kept = (1.0 / (1.0 - share)) as f32;
    let mask = (0..x.elem_count()).map(|_| if random.chance(share) { 0.0 } else { kept });
    let mask = Tensor::from_iter(mask, x.device())?.to_dtype(x.dtype())?;
    x * mask.reshape(x.shape())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};

    #[test]
    fn the_mean_stays() {
        let ones = Tensor::ones((100, 100), DType::F32, &Device::Cpu).unwrap();
        let dropped = dropout(&ones, 0.3, &mut SeededRng::new(1)).unwrap();
        let values = dropped.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let zeros = values.iter().filter(|&&value| value == 0.0).count();
        assert!((2800..3200).contains(&zeros), "{zeros}");
        assert!((values.iter().sum::<f32>() / 10_000.0 - 1.0).abs() < 0.03);
        let same = dropout(&ones, 0.0, &mut SeededRng::new(1)).unwrap();
        assert!(same.flatten_all().unwrap().to_vec1::<f32>().unwrap().iter().all(|&value| value == 1.0));
    }
}
