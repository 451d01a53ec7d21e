use candle_core::{DType, Result, Tensor, Var};
use candle_nn::{Init, VarBuilder};

use crate::ops::{self, BatchStatistics, Statistics};

/// Whether a network is being trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Batch normalisation uses the statistics of the batch and keeps a running mean of them.
    Train,
    /// It uses the running statistics.
    Eval,
}

/// Batch normalisation with running statistics (Ioffe and Szegedy 2015), with PyTorch's constants.
#[derive(Debug, Clone)]
pub(crate) struct BatchNorm {
    weight: Tensor,
    bias: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    batches: Tensor,
}

const EPS: f64 = 1e-5;
/// Share of the newest batch in the running statistics.
const MOMENTUM: f64 = 0.1;

impl BatchNorm {
    /// Reads `weight`, `bias` and the statistics.
    pub(crate) fn new(channels: usize, vb: &VarBuilder) -> Result<Self> {
        let get = |name, value| vb.get_with_hints(channels, name, Init::Const(value));
        Ok(Self {
            weight: get("weight", 1.0)?,
            bias: get("bias", 0.0)?,
            running_mean: get("running_mean", 0.0)?,
            running_var: get("running_var", 1.0)?,
            batches: vb.get_with_hints((), "num_batches_tracked", Init::Const(0.0))?,
        })
    }

    /// Whether nothing of it can change: the statistics of frozen weights may still follow the batches.
    pub(crate) fn is_fixed(&self) -> bool {
        let Self { weight, bias, running_mean, running_var, .. } = self;
        [weight, bias, running_mean, running_var].iter().all(|tensor| !tensor.track_op())
    }

    /// Normalises N×H×W×C values; with `rectified`, max(·, 0) follows.
    pub(crate) fn forward(&self, x: &Tensor, mode: Mode, rectified: bool) -> Result<Tensor> {
        match mode {
            Mode::Train => self.by_batch(x, rectified),
            Mode::Eval => self.by_running(x, rectified),
        }
    }

    /// Factor and summand per channel that the running statistics give.
    pub(crate) fn affine(&self) -> Result<[Tensor; 2]> {
        let deviation = (self.running_var.detach() + EPS)?.sqrt()?;
        let scale = self.weight.div(&deviation)?;
        let shift = (&self.bias - (self.running_mean.detach() * &scale)?)?;
        Ok([scale, shift])
    }

    fn by_batch(&self, x: &Tensor, rectified: bool) -> Result<Tensor> {
        let statistics = BatchStatistics::of(x)?;
        let y = ops::batch_norm(x, [&self.weight, &self.bias], (Statistics::Batch(&statistics), EPS), rectified)?;
        self.follow(&self.running_mean, statistics.mean.iter().copied())?;
        self.follow(&self.running_var, statistics.unbiased_variance())?;
        buffer(&self.batches)?.set(&(self.batches.detach() + 1.0)?)?;
        Ok(y)
    }

    fn by_running(&self, x: &Tensor, rectified: bool) -> Result<Tensor> {
        let list = |tensor: &Tensor| tensor.detach().to_dtype(DType::F64)?.to_vec1::<f64>();
        let (mean, variance) = (list(&self.running_mean)?, list(&self.running_var)?);
        let statistics = BatchStatistics { mean, variance, count: 0 };
        ops::batch_norm(x, [&self.weight, &self.bias], (Statistics::Running(&statistics), EPS), rectified)
    }

    /// Moves running statistics towards those of a batch.
    fn follow(&self, running: &Tensor, batch: impl Iterator<Item = f64>) -> Result<()> {
        let batch = Tensor::from_iter(batch, running.device())?.to_dtype(running.dtype())?;
        buffer(running)?.set(&((running.detach() * (1.0 - MOMENTUM))? + (batch * MOMENTUM)?)?)
    }
}

/// The variable behind a statistic.
fn buffer(tensor: &Tensor) -> Result<Var> {
    if !tensor.is_variable() {
        candle_core::bail!("training mode keeps running statistics: build the network from `Parameters`");
    }
    Var::from_tensor(tensor)
}
