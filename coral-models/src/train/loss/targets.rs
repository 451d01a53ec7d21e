use candle_core::{DType, Device, Tensor};
use coral_core::{Error, Result, UNLABELED};

/// Class indices with N×C or N×C×H×W logits that they belong to; unlabelled entries have the index C.
pub(super) fn class_indices(logits: &Tensor, targets: &Tensor) -> Result<Vec<u32>> {
    let classes = class_count(logits)?;
    let mut expected = logits.dims().to_vec();
    expected.remove(1);
    if targets.dims() != expected {
        return Err(Error::shape("targets", format!("{expected:?}"), format!("{:?}", targets.dims())));
    }
    if classes > usize::from(UNLABELED) {
        let reason = format!("expected at most {UNLABELED} classes, since {UNLABELED} means unlabelled, got {classes}");
        return Err(Error::input("logits", reason));
    }
    let index = |value: i64| match usize::try_from(value) {
        Ok(class) if class < classes => Ok(class as u32),
        Ok(class) if class == usize::from(UNLABELED) => Ok(classes as u32),
        _ => {
            let reason = format!("expected classes 0 to {} or {UNLABELED} (unlabelled), got {value}", classes - 1);
            Err(Error::input("targets", reason))
        }
    };
    let host = targets.to_device(&Device::Cpu).and_then(|t| t.flatten_all()).map_err(Error::model)?;
    match host.dtype() {
        DType::U8 => values::<u8>(&host)?.into_iter().map(|v| index(v.into())).collect(),
        DType::U32 => values::<u32>(&host)?.into_iter().map(|v| index(v.into())).collect(),
        DType::I64 => values::<i64>(&host)?.into_iter().map(index).collect(),
        other => Err(Error::input("targets", format!("expected whole numbers (u8, u32 or i64), got {other:?}"))),
    }
}

fn values<T: candle_core::WithDType>(tensor: &Tensor) -> Result<Vec<T>> {
    tensor.to_vec1().map_err(Error::model)
}

/// The number of classes of N×C or N×C×H×W logits.
pub(super) fn class_count(logits: &Tensor) -> Result<usize> {
    let dims = logits.dims();
    if !matches!(dims.len(), 2 | 4) || logits.elem_count() == 0 {
        return Err(Error::shape("logits", "NxC or NxCxHxW, none of them 0", format!("{dims:?}")));
    }
    check_floating("logits", logits)?;
    Ok(dims[1])
}

/// Gradients need a floating type.
pub(super) fn check_floating(what: &str, tensor: &Tensor) -> Result<()> {
    if matches!(tensor.dtype(), DType::F32 | DType::F64 | DType::F16 | DType::BF16) {
        return Ok(());
    }
    Err(Error::input(what, format!("expected a floating type, got {:?}", tensor.dtype())))
}

/// 1 at each entry's class and 0 elsewhere, N×C×S in the type of the logits; 0 everywhere for unlabelled entries.
pub(super) fn one_hot(indices: &[u32], logits: &Tensor) -> candle_core::Result<Tensor> {
    let (batch, classes) = (logits.dims()[0], logits.dims()[1]);
    let entries = indices.len() / batch;
    let mut hot = vec![0u8; batch * classes * entries];
    for (pixels, planes) in indices.chunks(entries).zip(hot.chunks_mut(classes * entries)) {
        for (at, &index) in pixels.iter().enumerate().filter(|(_, index)| (**index as usize) < classes) {
            planes[index as usize * entries + at] = 1;
        }
    }
    Tensor::from_vec(hot, (batch, classes, entries), &Device::Cpu)?.to_device(logits.device())?.to_dtype(logits.dtype())
}

/// One weight per class; all 1 unless given.
pub(super) fn checked_weights(weights: Option<&[f32]>, classes: usize) -> Result<Vec<f64>> {
    let Some(weights) = weights else { return Ok(vec![1.0; classes]) };
    if weights.len() != classes {
        return Err(Error::shape("class_weights", format!("{classes} classes"), format!("{}", weights.len())));
    }
    if let Some(bad) = weights.iter().find(|w| !w.is_finite() || **w < 0.0) {
        return Err(Error::parameter("class_weights", format!("expected finite weights of at least 0, got {bad}")));
    }
    Ok(weights.iter().map(|&w| f64::from(w)).collect())
}

/// The same shape and a floating type, as losses between two tensors need.
pub(super) fn check_like(what: &str, tensor: &Tensor, logits: &Tensor) -> Result<()> {
    if tensor.dims() != logits.dims() || logits.elem_count() == 0 {
        let expected = format!("{:?} with at least one value", logits.dims());
        return Err(Error::shape(what, expected, format!("{:?}", tensor.dims())));
    }
    Ok(())
}

/// Targets that are probabilities of the logits' shape, in their type and without gradient.
pub(super) fn probabilities(logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    check_like("targets", targets, logits)?;
    let targets = targets.detach().to_dtype(logits.dtype()).map_err(Error::model)?;
    let bound = |t: candle_core::Result<Tensor>| {
        t.and_then(|t| t.to_dtype(DType::F64)?.to_scalar::<f64>()).map_err(Error::model)
    };
    // The sum is not a number if any of the values is not, unlike the extremes.
    let (low, high, sum) = (bound(targets.min_all())?, bound(targets.max_all())?, bound(targets.sum_all())?);
    if low < 0.0 || high > 1.0 + 1e-3 || !sum.is_finite() {
        let reason = format!("expected probabilities, got values from {low} to {high} with sum {sum}");
        return Err(Error::input("targets", reason));
    }
    Ok(targets)
}

/// Checks that the probabilities of all classes, dimension 1, have the sum 1.
pub(super) fn expect_sums_of_one(targets: &Tensor) -> Result<()> {
    let farthest = || targets.to_dtype(DType::F64)?.sum(1)?.affine(1.0, -1.0)?.abs()?.max_all()?.to_scalar::<f64>();
    let farthest = farthest().map_err(Error::model)?;
    let tolerance = if matches!(targets.dtype(), DType::F32 | DType::F64) { 1e-3 } else { 1e-2 };
    match farthest <= tolerance {
        true => Ok(()),
        false => {
            let reason =
                format!("expected probabilities with the sum 1 over the classes, got one that is {farthest} off");
            Err(Error::input("targets", reason))
        }
    }
}

/// N×C×S logits, 0 where `hot` of the same shape has no class: values there count nothing, even when they are no numbers.
pub(super) fn where_labeled(logits: &Tensor, hot: &Tensor) -> candle_core::Result<Tensor> {
    let labeled = hot.sum_keepdim(1)?.ne(0.0)?.broadcast_as(hot.shape())?.contiguous()?;
    labeled.where_cond(logits, &logits.detach().zeros_like()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_are_read_from_every_whole_type() {
        let logits = Tensor::zeros((2, 3, 1, 2), DType::F32, &Device::Cpu).unwrap();
        let targets = Tensor::new(&[[[2u8, 255]], [[0, 1]]], &Device::Cpu).unwrap();
        for dtype in [DType::U8, DType::U32, DType::I64] {
            assert_eq!(class_indices(&logits, &targets.to_dtype(dtype).unwrap()).unwrap(), [2, 3, 0, 1]);
        }
    }

    #[test]
    fn misfits_are_named() {
        let zeros = |dims: &[usize]| Tensor::zeros(dims, DType::F32, &Device::Cpu).unwrap();
        let logits = zeros(&[2, 3]);
        let text = |targets: Tensor| class_indices(&logits, &targets).unwrap_err().to_string();
        let indices = |values: &[i64]| Tensor::new(values, &Device::Cpu).unwrap();
        assert_eq!(text(indices(&[0])), "targets: expected shape [2], got [1]");
        assert!(text(indices(&[0, 3])).contains("expected classes 0 to 2 or 255 (unlabelled), got 3"));
        assert!(text(indices(&[-1, 0])).contains("got -1"));
        assert!(text(zeros(&[2])).contains("whole numbers"));
        assert!(class_count(&zeros(&[2])).is_err() && class_count(&zeros(&[0, 3])).is_err());
        assert!(class_indices(&zeros(&[1, 256]), &indices(&[0])).is_err());
        assert!(checked_weights(Some(&[1.0]), 2).is_err() && checked_weights(Some(&[1.0, f32::NAN]), 2).is_err());
        assert!(probabilities(&logits, &(zeros(&[2, 3]) + 2.0).unwrap()).is_err());
        for value in [0.0, 1.0] {
            let error = expect_sums_of_one(&(zeros(&[2, 3]) + value).unwrap()).unwrap_err().to_string();
            assert!(error.contains("with the sum 1 over the classes"), "{error}");
        }
        expect_sums_of_one(&(zeros(&[2, 3]) + 1.0 / 3.0).unwrap()).unwrap();
        assert!(probabilities(&logits, &(zeros(&[2, 3]) * f64::NAN).unwrap()).is_err());
    }
}
