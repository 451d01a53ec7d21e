use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::{buffer, fusible, parts_of_values, values};

/// N×C×H×W to N×H×W×C.
pub(crate) fn channels_last(planes: &Tensor) -> Result<Tensor> {
    planes.dims4()?;
    if fusible(&[planes]) && planes.elem_count() > 0 {
        return planes.contiguous()?.apply_op1_no_bwd(&ChannelsLast);
    }
    planes.permute((0, 2, 3, 1))?.contiguous()
}

struct ChannelsLast;

impl CustomOp1 for ChannelsLast {
    fn name(&self) -> &'static str {
        "channels_last"
    }

    fn cpu_fwd(&self, planes: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let planes = values(planes, layout)?;
        let (batch, channels, height, width) = layout.shape().dims4()?;
        let mut out = buffer(planes.len());
        let lines = out.par_chunks_exact_mut(width * channels);
        parts_of_values(lines, width * channels).enumerate().for_each(|(row, out)| {
            let (image, y) = (row / height, row % height);
            for channel in 0..channels {
                let plane = &planes[((image * channels + channel) * height + y) * width..][..width];
                for (pixel, &value) in out.chunks_exact_mut(channels).zip(plane) {
                    pixel[channel] = value;
                }
            }
        });
        Ok((CpuStorage::F32(out), (batch, height, width, channels).into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{assert_close, random, tracked};

    #[test]
    fn fused_equals_composed() {
        for shape in [[1, 1, 1, 1], [2, 3, 5, 4], [1, 7, 2, 9]] {
            let planes = random(&shape, 1);
            assert_close(&channels_last(&planes).unwrap(), &channels_last(&tracked(&planes)).unwrap(), 0.0);
            let turned = planes.transpose(2, 3).unwrap();
            assert_close(&channels_last(&turned).unwrap(), &channels_last(&tracked(&turned)).unwrap(), 0.0);
        }
    }
}
