use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor};
use coral_core::{Error, Size};

use super::in_place::add_to;
use super::real::{is_native, real_values};
use super::resample::matrix;
use crate::Interpolation;
use crate::resize::PlaneMap;

/// Resizes N×C×H×W planes to `size` by bilinear interpolation, `align_corners=False`, without antialiasing, as networks
/// enlarge their logits and feature maps. Gradients flow back, in f32 and f64 on all threads of the CPU; other devices
/// and types take two matrix products.
///
/// # Errors
/// [`Error::InvalidInput`] or [`Error::InvalidParameter`] when either size has no pixels, [`Error::Model`] when the tensor
/// is not N×C×H×W.
///
/// # Examples
/// ```
/// use coral_core::Size;
/// use coral_models::candle_core::{Device, Tensor};
/// use coral_models::resize_bilinear;
/// let x = Tensor::new(&[[[[0f32, 4.0]]]], &Device::Cpu)?;
/// let wide = resize_bilinear(&x, Size { width: 4, height: 1 })?;
/// assert_eq!(wide.flatten_all()?.to_vec1::<f32>()?, [0.0, 1.0, 3.0, 4.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # References
/// PyTorch 2.15 `torch.nn.functional.interpolate(mode="bilinear")`, 1e-5 of the largest value; the weights are those of
/// f32, also for f64.
pub fn resize_bilinear(x: &Tensor, size: Size) -> coral_core::Result<Tensor> {
    resize_planes(x, size, Interpolation::Bilinear)
}

/// Resizes N×C×H×W planes to `size` by repeating, or leaving out, values: PyTorch's `nearest`, whose output i is the
/// input ⌊i × from / to⌋. Gradients flow back; see [`resize_bilinear`].
///
/// # Errors
/// As [`resize_bilinear`].
///
/// # Examples
/// ```
/// use coral_core::Size;
/// use coral_models::candle_core::{Device, Tensor};
/// use coral_models::resize_nearest;
/// let x = Tensor::new(&[[[[1f32, 2.0]]]], &Device::Cpu)?;
/// let wide = resize_nearest(&x, Size { width: 3, height: 1 })?;
/// assert_eq!(wide.flatten_all()?.to_vec1::<f32>()?, [1.0, 1.0, 2.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn resize_nearest(x: &Tensor, size: Size) -> coral_core::Result<Tensor> {
    resize_planes(x, size, Interpolation::Nearest)
}

fn resize_planes(x: &Tensor, size: Size, interpolation: Interpolation) -> coral_core::Result<Tensor> {
    let (_, _, height, width) = x.dims4().map_err(Error::model)?;
    let from = Size { width: width as u32, height: height as u32 };
    let map = PlaneMap::new(from, size, interpolation)?;
    if from == size {
        return Ok(x.clone());
    }
    let resized = if is_native(&[x]) {
        x.contiguous().and_then(|x| x.apply_op1(Resize { from, to: size, map }))
    } else {
        composed(x, size, interpolation)
    };
    resized.map_err(Error::model)
}

/// N×C×H×W planes and, added to them, `x` in their size: [`resize_bilinear`] and the sum in one. What is resized takes no
/// memory of its own, which would be kept for the gradients.
pub(crate) fn add_resized(planes: &Tensor, x: &Tensor) -> Result<Tensor> {
    let size = |tensor: &Tensor| {
        let (_, _, height, width) = tensor.dims4()?;
        Ok::<_, candle_core::Error>(Size { width: width as u32, height: height as u32 })
    };
    let (from, to) = (size(x)?, size(planes)?);
    if from == to || !is_native(&[planes, x]) || planes.dims()[..2] != x.dims()[..2] {
        return planes + resize_bilinear(x, to).map_err(candle_core::Error::wrap)?;
    }
    let map = PlaneMap::new(from, to, Interpolation::Bilinear).map_err(candle_core::Error::wrap)?;
    planes.contiguous()?.apply_op2(&x.contiguous()?, AddResized(Resize { from, to, map }))
}

/// Two matrix products, whose gradients candle knows.
fn composed(x: &Tensor, size: Size, interpolation: Interpolation) -> Result<Tensor> {
    let (batch, channels, height, width) = x.dims4()?;
    let (rows, columns) = size.shape();
    let along_x = matrix((width, columns), interpolation, x)?.t()?;
    let wide = x.reshape((batch * channels * height, width))?.matmul(&along_x.contiguous()?)?;
    let along_y = matrix((height, rows), interpolation, x)?;
    let planes = wide.reshape((batch * channels, height, columns))?;
    along_y.broadcast_matmul(&planes)?.reshape((batch, channels, rows, columns))
}

/// A linear map of the last two dimensions.
#[derive(Debug)]
struct Resize {
    from: Size,
    to: Size,
    map: PlaneMap,
}

impl CustomOp1 for Resize {
    fn name(&self) -> &'static str {
        "resize"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (batch, channels, _, _) = layout.shape().dims4()?;
        let Some((start, end)) = layout.contiguous_offsets() else {
            candle_core::bail!("a fused operation needs contiguous arguments, got strides {:?}", layout.stride());
        };
        let resized = match x {
            CpuStorage::F64(values) => CpuStorage::F64(self.map.apply(&values[start..end])),
            _ => CpuStorage::F32(self.map.apply(&x.as_slice::<f32>()?[start..end])),
        };
        let (rows, columns) = self.to.shape();
        Ok((resized, (batch, channels, rows, columns).into()))
    }

    fn bwd(&self, _x: &Tensor, _resized: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let back = Resize { from: self.to, to: self.from, map: self.map.transposed() };
        grad.contiguous()?.apply_op1(back).map(Some)
    }
}

struct AddResized(Resize);

impl CustomOp2 for AddResized {
    fn name(&self) -> &'static str {
        "add_resized"
    }

    fn cpu_fwd(
        &self,
        planes: &CpuStorage,
        planes_layout: &Layout,
        x: &CpuStorage,
        x_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (mut sums, shape) = self.0.cpu_fwd(x, x_layout)?;
        match &mut sums {
            CpuStorage::F64(sums) => add_to(sums, real_values(planes, planes_layout)?),
            CpuStorage::F32(sums) => add_to(sums, real_values(planes, planes_layout)?),
            _ => candle_core::bail!("an operation needs f32 or f64"),
        }
        Ok((sums, shape))
    }

    fn bwd(
        &self,
        planes: &Tensor,
        x: &Tensor,
        sums: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let of_x = if x.track_op() { self.0.bwd(x, sums, grad)? } else { None };
        Ok((planes.track_op().then(|| grad.clone()), of_x))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gradient_check::{assert_gradient, assert_gradients, gradient, list, random};
    use candle_core::{DType, Device};

    const SIZES: [((usize, usize), (u32, u32)); 7] = [
        ((3, 5), (11, 7)),
        ((5, 7), (3, 2)),
        ((4, 3), (4, 9)),
        ((6, 1), (1, 5)),
        ((1, 1), (3, 4)),
        ((7, 4), (5, 9)),
        ((3, 4), (3, 4)),
    ];
    const BOTH: [Interpolation; 2] = [Interpolation::Bilinear, Interpolation::Nearest];

    fn wrapped(x: &Tensor, (height, width): (u32, u32), how: Interpolation) -> Result<Tensor> {
        resize_planes(x, Size { width, height }, how).map_err(candle_core::Error::wrap)
    }

    #[test]
    fn gradients_are_right() {
        for ((height, width), to) in SIZES {
            let x = random(&[2, 3, height, width], 1);
            for how in BOTH {
                assert_gradient(&x, |x| wrapped(x, to, how));
                // Skip connections: the input also feeds other operations, before and after.
                assert_gradient(&x, |x| wrapped(x, to, how)?.sqr()?.sum_all()? * x.sqr()?.sum_all()?);
                let turned = random(&[2, 3, width, height], 2);
                assert_gradient(&turned, |x| wrapped(&x.transpose(2, 3)?, to, how));
            }
        }
    }

    #[test]
    fn fused_equals_composed() {
        for ((height, width), to) in SIZES.into_iter().chain([((33, 70), (132, 280)), ((130, 90), (40, 33))]) {
            let size = Size { width: to.1, height: to.0 };
            for (how, dtype) in BOTH.into_iter().flat_map(|how| [(how, DType::F32), (how, DType::F64)]) {
                let x = random(&[1, 2, height, width], 1).to_dtype(dtype).unwrap();
                let tolerance = if dtype == DType::F32 { 2e-5 } else { 1e-12 };
                let check = |a: &Tensor, b: &Tensor| {
                    assert_eq!(a.dims(), b.dims());
                    list(a).iter().zip(list(b)).for_each(|(a, b)| assert!((a - b).abs() <= tolerance, "{a}, {b}"));
                };
                check(&wrapped(&x, to, how).unwrap(), &composed(&x, size, how).unwrap());
                check(&gradient(&x, |x| wrapped(x, to, how)), &gradient(&x, |x| composed(x, size, how)));
            }
        }
    }

    #[test]
    fn what_is_resized_is_added() {
        for ((height, width), to) in SIZES {
            let size = Size { width: to.1, height: to.0 };
            let (planes, x) = (random(&[2, 3, to.0 as usize, to.1 as usize], 1), random(&[2, 3, height, width], 2));
            for dtype in [DType::F32, DType::F64] {
                let (planes, x) = (planes.to_dtype(dtype).unwrap(), x.to_dtype(dtype).unwrap());
                let expected = (&planes + resize_bilinear(&x, size).unwrap()).unwrap();
                assert_eq!(list(&add_resized(&planes, &x).unwrap()), list(&expected));
            }
            assert_gradients(&[&planes, &x], |v| add_resized(&v[0], &v[1]));
            assert_gradients(&[&x], |v| add_resized(&planes, &v[0]));
        }
        assert!(add_resized(&random(&[1, 2, 4, 4], 1), &random(&[1, 3, 2, 2], 1)).is_err());
    }

    #[test]
    fn values_are_those_of_pytorch() {
        // torch.nn.functional.interpolate of 0, 1, 4, 9, 16, 25 as 2×3 to 3×5.
        let x = Tensor::new(&[[[[0f32, 1.0, 4.0], [9.0, 16.0, 25.0]]]], &Device::Cpu).unwrap();
        let bilinear = [
            0.00000, 0.40000, 1.00000, 2.80000, 4.00000, 4.50000, 6.10000, 8.50000, 12.10000, 14.50000, 9.00000,
            11.80000, 16.00000, 21.40000, 25.00000,
        ];
        let nearest = [0.0, 0.0, 1.0, 1.0, 4.0, 0.0, 0.0, 1.0, 1.0, 4.0, 9.0, 9.0, 16.0, 16.0, 25.0];
        for (how, expected) in [(BOTH[0], bilinear), (BOTH[1], nearest)] {
            let ours = list(&wrapped(&x, (3, 5), how).unwrap());
            ours.iter().zip(expected).for_each(|(a, b)| assert!((a - b).abs() < 1e-4, "{ours:?}"));
        }
    }

    #[test]
    fn half_precision_takes_the_matrix_products() {
        let x = random(&[1, 1, 3, 4], 1).to_dtype(DType::F32).unwrap();
        let half = wrapped(&x.to_dtype(DType::F16).unwrap(), (5, 6), BOTH[0]).unwrap();
        assert_eq!(half.dtype(), DType::F16);
        let full = wrapped(&x, (5, 6), BOTH[0]).unwrap();
        list(&half).iter().zip(list(&full)).for_each(|(a, b)| assert!((a - b).abs() < 5e-3, "{a}, {b}"));
    }

    #[test]
    fn misfits_are_errors() {
        let size = Size { width: 4, height: 3 };
        assert!(matches!(resize_bilinear(&random(&[2, 3], 1), size), Err(Error::Model { .. })));
        assert!(matches!(resize_bilinear(&random(&[1, 1, 0, 3], 1), size), Err(Error::InvalidInput { .. })));
        let none = Size { width: 0, height: 3 };
        assert!(matches!(resize_nearest(&random(&[1, 1, 2, 3], 1), none), Err(Error::InvalidParameter { .. })));
        assert_eq!(resize_nearest(&random(&[0, 1, 2, 3], 1), size).unwrap().dims(), [0, 1, 3, 4]);
    }
}
