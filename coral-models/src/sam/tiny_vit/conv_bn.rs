use candle_core::{Result, Tensor};
use candle_nn::{Init, VarBuilder};

/// A convolution's weight and the bias that it has once the batch normalisation after it is folded in. That holds for
/// inference only, where the normalisation uses its running statistics.
pub(super) fn conv_bn(shape: [usize; 4], vb: &VarBuilder<'_>) -> Result<[Tensor; 2]> {
    const EPS: f64 = 1e-5;
    let kernel = vb.pp("c").get_with_hints(&shape[..], "weight", candle_nn::init::DEFAULT_KAIMING_NORMAL)?;
    let norm = vb.pp("bn");
    let read = |name: &str, value: f64| norm.get_with_hints(shape[0], name, Init::Const(value));
    let deviation = (read("running_var", 1.0)? + EPS)?.sqrt()?;
    let scale = (read("weight", 1.0)? / deviation)?;
    let bias = (read("bias", 0.0)? - (read("running_mean", 0.0)? * &scale)?)?;
    Ok([kernel.broadcast_mul(&scale.reshape((shape[0], 1, 1, 1))?)?, bias])
}

/// A 1×1 convolution, as the out×in weight and bias of a linear layer.
pub(super) fn pointwise_bn(out: usize, inner: usize, vb: &VarBuilder<'_>) -> Result<[Tensor; 2]> {
    let [weight, bias] = conv_bn([out, inner, 1, 1], vb)?;
    Ok([weight.reshape((out, inner))?, bias])
}
