//! A small network with its data, for tests.

use candle_core::{Device, Result, Tensor, Var};
use candle_nn::{Init, Linear, Module, VarBuilder};
use coral_core::SeededRng;

use super::parameters::Parameters;
use super::trainer::{Trainer, TrainerConfig};

/// Values and targets, N×3 and N×2.
pub(super) struct Data {
    x: Tensor,
    y: Tensor,
}

impl Data {
    pub(super) fn new(samples: usize) -> Self {
        let mut random = SeededRng::new(samples as u64);
        let mut tensor = |columns: usize| {
            let values: Vec<f32> = (0..samples * columns).map(|_| random.range(-1.0, 1.0) as f32).collect();
            Tensor::from_vec(values, (samples, columns), &Device::Cpu).unwrap()
        };
        Self { x: tensor(3), y: tensor(2) }
    }

    pub(super) fn part(&self, start: usize, len: usize) -> Self {
        let part = |tensor: &Tensor| tensor.narrow(0, start, len).unwrap();
        Self { x: part(&self.x), y: part(&self.y) }
    }
}

/// Two layers with a running mean between them.
pub(super) struct Network {
    stem: Linear,
    running_mean: Tensor,
    head: Linear,
}

pub(super) fn network(vb: VarBuilder<'_>) -> Result<Network> {
    network_of(2)(vb)
}

pub(super) fn network_of(classes: usize) -> impl Fn(VarBuilder<'_>) -> Result<Network> {
    move |vb| {
        Ok(Network {
            stem: candle_nn::linear(3, 5, vb.pp("stem"))?,
            running_mean: vb.pp("bn").get_with_hints(5, "running_mean", Init::Const(0.5))?,
            head: candle_nn::linear(5, classes, vb.pp("head"))?,
        })
    }
}

impl Network {
    fn hidden(&self, data: &Data) -> Tensor {
        self.stem.forward(&data.x).unwrap()
    }

    /// The mean squared error.
    pub(super) fn error(&self, data: &Data) -> Tensor {
        let hidden = self.hidden(data).broadcast_sub(&self.running_mean.detach().copy().unwrap()).unwrap();
        (self.head.forward(&hidden.tanh().unwrap()).unwrap() - &data.y).unwrap().sqr().unwrap().mean_all().unwrap()
    }

    /// The mean squared error; the running mean follows the data as batch normalisation's does.
    pub(super) fn loss(&self, data: &Data) -> Tensor {
        let error = self.error(data);
        let (before, now) = (self.running_mean.detach(), self.hidden(data).detach().mean(0).unwrap());
        let next = ((before * 0.9).unwrap() + (now * 0.1).unwrap()).unwrap();
        Var::from_tensor(&self.running_mean).unwrap().set(&next).unwrap();
        error
    }
}

pub(super) fn trainer(config: TrainerConfig) -> (Trainer, Network) {
    let (parameters, net) = Parameters::create(3, &Device::Cpu, network).unwrap();
    (Trainer::new(parameters, config).unwrap(), net)
}
