use candle_core::{DType, Tensor};
use coral_core::{Error, Result};

use super::targets::check_floating;
use crate::ops::{IndexTargets, cross_entropy_sum};
use crate::tensor::unit_rows;

/// The contrastive loss of SimCLR (NT-Xent), as a scalar tensor: each of 2N embeddings has to tell its other view from
/// all the rest.
///
/// `features` are 2N×D, rows N to 2N being other views of the rows 0 to N; they are scaled to unit length here. A row of
/// zeros has similarity 0 with every other and gets no gradient. The loss is the mean over all 2N rows.
///
/// # Errors
/// [`Error::ShapeMismatch`] unless there is an even number of rows, at least 2; [`Error::InvalidInput`] when they are not
/// floating; [`Error::InvalidParameter`] unless the temperature is positive and finite.
///
/// # Examples
/// ```
/// use coral_models::candle_core::{Device, Tensor};
/// use coral_models::nt_xent;
/// let views = Tensor::new(&[[1f32, 0.0], [0.0, 1.0], [2.0, 0.0], [0.0, 3.0]], &Device::Cpu)?;
/// assert!(nt_xent(&views, 0.07)?.to_scalar::<f32>()? < 1e-5); // each view points where its partner does
/// let confused = Tensor::ones((4, 2), views.dtype(), &Device::Cpu)?;
/// assert!((nt_xent(&confused, 0.07)?.to_scalar::<f32>()? - 3f32.ln()).abs() < 1e-5); // no way to tell three candidates apart
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # References
/// Chen et al., *A Simple Framework for Contrastive Learning of Visual Representations*, ICML 2020; the values of the
/// program that SeaFeats was pre-trained with, loss within 1e-5, gradients within 1e-6.
pub fn nt_xent(features: &Tensor, temperature: f64) -> Result<Tensor> {
    let rows = match *features.dims() {
        [rows, dim] if rows >= 2 && rows % 2 == 0 && dim > 0 => rows,
        ref other => return Err(Error::shape("features", "2NxD with N and D of at least 1", format!("{other:?}"))),
    };
    if !temperature.is_finite() || temperature <= 0.0 {
        return Err(Error::parameter("temperature", format!("expected a positive number, got {temperature}")));
    }
    check_floating("features", features)?;
    loss(features, rows, temperature).map_err(Error::model)
}

fn loss(features: &Tensor, rows: usize, temperature: f64) -> candle_core::Result<Tensor> {
    let unit = unit_rows(features)?;
    let similarity = (unit.matmul(&unit.t()?)? / temperature)?;
    // Far below any similarity, so that the exponential of a row with itself vanishes.
    let far = 2.0 / temperature + 200.0;
    let far = if features.dtype() == DType::F16 { far.min(6e4) } else { far };
    let diagonal = Tensor::eye(rows, features.dtype(), features.device())?;
    let logits = (similarity - (diagonal * far)?)?;
    let indices = (0..rows).map(|row| ((row + rows / 2) % rows) as u32).collect();
    let targets = IndexTargets { indices, class_weights: vec![1.0; rows], smoothing: 0.0, scale: 1.0 / rows as f64 };
    cross_entropy_sum(&logits.unsqueeze(2)?, targets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gradient_check::{assert_gradient, gradient, list, random};
    use candle_core::Device;

    fn wrapped(features: &Tensor) -> candle_core::Result<Tensor> {
        nt_xent(features, 0.5).map_err(candle_core::Error::wrap)
    }

    #[test]
    fn gradients_are_right() {
        assert_gradient(&random(&[6, 5], 1), wrapped);
        assert_gradient(&random(&[2, 3], 1), wrapped);
    }

    #[test]
    fn more_rows_than_a_class_id_holds() {
        let features = random(&[2 * 150, 4], 2);
        let unit = features.broadcast_div(&features.sqr().unwrap().sum_keepdim(1).unwrap().sqrt().unwrap()).unwrap();
        let similar = (unit.matmul(&unit.t().unwrap()).unwrap() / 0.5).unwrap().to_vec2::<f64>().unwrap();
        let row_loss = |(row, similar): (usize, &Vec<f64>)| {
            let rest: f64 = similar.iter().enumerate().filter(|(i, _)| *i != row).map(|(_, s)| s.exp()).sum();
            rest.ln() - similar[(row + 150) % 300]
        };
        let expected = similar.iter().enumerate().map(row_loss).sum::<f64>() / 300.0;
        assert!((list(&wrapped(&features).unwrap())[0] - expected).abs() < 1e-9);
    }

    #[test]
    fn a_row_of_zeros_does_no_harm() {
        let rows = [[0f32, 0.0], [1.0, 0.5], [0.3, 0.1], [-1.0, 0.2]];
        let features = Tensor::new(&rows, &Device::Cpu).unwrap();
        let gradient = list(&gradient(&features, wrapped));
        assert!(gradient.iter().all(|v| v.is_finite()) && gradient[..2] == [0.0, 0.0] && gradient[2] != 0.0);
    }

    #[test]
    fn no_row_is_its_own_partner_at_low_temperatures() {
        let rows = [[1f32, 0.0], [0.8, 0.6], [0.0, 1.0], [0.6, 0.8]];
        let features = Tensor::new(&rows, &Device::Cpu).unwrap();
        for temperature in [1e-2, 1e-6] {
            let loss = nt_xent(&features, temperature).unwrap().to_scalar::<f32>().unwrap();
            // Rows 0 and 2 have a cosine of 0 with their views and 0.8 with others; for rows 1 and 3 the view is nearest.
            assert!((f64::from(loss) * temperature - 0.4).abs() < 1e-2, "{temperature}: {loss}");
        }
    }

    #[test]
    fn misfits_are_errors() {
        let text = |dims: &[usize], temperature| nt_xent(&random(dims, 1), temperature).unwrap_err().to_string();
        assert_eq!(text(&[3, 2], 0.1), "features: expected shape 2NxD with N and D of at least 1, got [3, 2]");
        assert!(text(&[0, 2], 0.1).contains("[0, 2]") && text(&[4], 0.1).contains("[4]"));
        assert!(text(&[4, 2], 0.0).contains("temperature") && text(&[4, 2], f64::NAN).contains("temperature"));
    }
}
