use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};

use super::kernels;
use super::window::{Geometry, Window};
use crate::ops::real::{Real, by_type, real_values, with_values};

/// The convolution of N×H×W×in values with out×in×h×w weights, through which gradients pass.
pub(super) struct Differentiable(pub(super) Window);

impl Differentiable {
    fn geometry(&self, values: &Layout, weight: &Layout) -> Result<Geometry> {
        let geometry = Geometry::new(self.0, values.shape().dims4()?)?;
        let (_, inner, down, across) = weight.shape().dims4()?;
        if inner != geometry.channels || [down, across] != self.0.kernel {
            candle_core::bail!("kernel {:?} of {:?} on {:?}", weight.dims(), self.0, values.dims());
        }
        Ok(geometry)
    }
}

impl CustomOp2 for Differentiable {
    fn name(&self) -> &'static str {
        "convolution"
    }

    fn cpu_fwd(
        &self,
        values: &CpuStorage,
        values_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        fn compute<T: Real>(
            geometry: &Geometry,
            (values, values_layout): (&CpuStorage, &Layout),
            (weight, weight_layout): (&CpuStorage, &Layout),
        ) -> Result<CpuStorage> {
            let (out, inner, down, across) = weight_layout.shape().dims4()?;
            let packed = kernels::pack(real_values::<T>(weight, weight_layout)?, [out, inner, down * across]);
            let start = vec![T::zero(); out];
            let values = real_values::<T>(values, values_layout)?;
            Ok(T::to_cpu_storage_owned(kernels::convolve(geometry, values, &packed, &start, |_| ())))
        }
        let geometry = self.geometry(values_layout, weight_layout)?;
        let out = by_type!(values.dtype(), compute(&geometry, (values, values_layout), (weight, weight_layout)))?;
        let shape = (geometry.batch, geometry.rows, geometry.columns, weight_layout.dims()[0]);
        Ok((out, shape.into()))
    }

    fn bwd(
        &self,
        values: &Tensor,
        weight: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        fn of_values<T: Real>(geometry: &Geometry, weight: &Tensor, gradient: &Tensor) -> Result<Vec<T>> {
            with_values([weight, gradient], |[weight, gradient]| kernels::input_gradient(geometry, weight, gradient))
        }
        fn of_weight<T: Real>(geometry: &Geometry, values: &Tensor, gradient: &Tensor) -> Result<Vec<T>> {
            with_values([values, gradient], |[values, gradient]| kernels::weight_gradient(geometry, values, gradient))
        }
        fn both<T: Real>(geometry: &Geometry, [values, weight, gradient]: [&Tensor; 3]) -> Result<[Option<Tensor>; 2]> {
            let tensor = |list: Vec<T>, like: &Tensor| Tensor::from_vec(list, like.shape(), like.device());
            let first = values.track_op().then(|| tensor(of_values(geometry, weight, gradient)?, values));
            let second = weight.track_op().then(|| tensor(of_weight(geometry, values, gradient)?, weight));
            Ok([first.transpose()?, second.transpose()?])
        }
        let geometry = self.geometry(values.layout(), weight.layout())?;
        let gradient = gradient.contiguous()?;
        let [first, second] = by_type!(values.dtype(), both(&geometry, [values, weight, &gradient]))?;
        Ok((first, second))
    }
}
