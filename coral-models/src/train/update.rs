use candle_core::{Result, Tensor, Var};

use super::in_parts::in_parts;
use crate::ops::Values;
use crate::ops::{change, is_plain};

/// What happens to one weight in one step of Adam.
#[derive(Debug, Clone, Copy)]
pub(super) struct Adam {
    pub(super) betas: [f64; 2],
    pub(super) eps: f64,
    /// Added to the gradient.
    pub(super) coupled_decay: f64,
    /// Taken from the weight.
    pub(super) decoupled_decay: f64,
}

/// What happens to one weight in one step of stochastic gradient descent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sgd {
    pub(super) momentum: f64,
    pub(super) dampening: f64,
    pub(super) nesterov: bool,
    pub(super) decay: f64,
}

/// How a gradient is to be taken.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    pub(super) rate: f64,
    /// The gradient is the tensor times this.
    pub(super) factor: f64,
    /// Steps of this weight, this one included.
    pub(super) count: u64,
}

impl Adam {
    /// Changes the weight and its two moments.
    pub(super) fn apply(&self, step: Step, weight: &Var, slope: &Tensor, moments: &mut [Tensor; 2]) -> Result<()> {
        let count = step.count as f64;
        let step_size = step.rate / (1.0 - self.betas[0].powf(count));
        let spread = (1.0 - self.betas[1].powf(count)).sqrt();
        if !(is_plain(weight) && is_plain(slope) && moments.iter().all(is_plain)) {
            return self.composed(step, weight, slope, (moments, step_size, spread));
        }
        let slope = &Values::of(slope)?;
        change(&moments[0], |first| {
            change(&moments[1], |second| {
                change(weight, |weight| {
                    let kernel = self.kernel(step, step_size, spread);
                    in_parts(weight, [first, second], slope, kernel);
                    Ok(())
                })
            })
        })
    }

    /// One pass in PyTorch's order of operations.
    fn kernel(
        &self,
        step: Step,
        step_size: f64,
        spread: f64,
    ) -> impl Fn(&mut [f32], [&mut [f32]; 2], &[f32]) + Sync + use<> {
        let (factor, coupled) = (step.factor as f32, self.coupled_decay as f32);
        let kept = (1.0 - step.rate * self.decoupled_decay) as f32;
        let [beta2, one_minus_beta1, one_minus_beta2] =
            [self.betas[1], 1.0 - self.betas[0], 1.0 - self.betas[1]].map(|value| value as f32);
        let (step_size, spread, eps) = (step_size as f32, spread as f32, self.eps as f32);
        #[inline(always)]
        move |weight, [first, second], slope| {
            for (((w, m), v), g) in weight.iter_mut().zip(first).zip(second).zip(slope) {
                let g = g * factor + coupled * *w;
                *m += (g - *m) * one_minus_beta1;
                *v = *v * beta2 + one_minus_beta2 * g * g;
                *w = *w * kept - step_size * *m / (v.sqrt() / spread + eps);
            }
        }
    }

    fn composed(
        &self,
        step: Step,
        weight: &Var,
        slope: &Tensor,
        (moments, step_size, spread): (&mut [Tensor; 2], f64, f64),
    ) -> Result<()> {
        let old = weight.as_detached_tensor();
        let g = ((slope * step.factor)? + (&old * self.coupled_decay)?)?;
        let [beta1, beta2] = self.betas;
        let first = (&moments[0] + ((&g - &moments[0])? * (1.0 - beta1))?)?;
        let second = ((&moments[1] * beta2)? + (g.sqr()? * (1.0 - beta2))?)?;
        let change = ((&first * step_size)? / ((second.sqrt()? / spread)? + self.eps)?)?;
        weight.set(&((old * (1.0 - step.rate * self.decoupled_decay))? - change)?)?;
        *moments = [first, second];
        Ok(())
    }
}

impl Sgd {
    /// Changes the weight and its running mean of gradients, which there is with momentum.
    pub(super) fn apply(&self, step: Step, weight: &Var, slope: &Tensor, moment: Option<&mut Tensor>) -> Result<()> {
        let plain = is_plain(weight) && is_plain(slope) && moment.as_deref().is_none_or(is_plain);
        if !plain {
            return self.composed(step, weight, slope, moment);
        }
        let slope = &Values::of(slope)?;
        let (rate, factor, decay) = (step.rate as f32, step.factor as f32, self.decay as f32);
        let Some(moment) = moment else {
            return change(weight, |weight| {
                in_parts(weight, [], slope, |weight, [], slope| {
                    for (w, g) in weight.iter_mut().zip(slope) {
                        *w -= rate * (g * factor + decay * *w);
                    }
                });
                Ok(())
            });
        };
        let (kept, added) = self.mixture(step);
        let (kept, added, momentum, nesterov) = (kept as f32, added as f32, self.momentum as f32, self.nesterov);
        change(moment, |moment| {
            change(weight, |weight| {
                in_parts(weight, [moment], slope, |weight, [moment], slope| {
                    for ((w, m), g) in weight.iter_mut().zip(moment).zip(slope) {
                        let g = g * factor + decay * *w;
                        *m = kept * *m + added * g;
                        *w -= rate * if nesterov { g + momentum * *m } else { *m };
                    }
                });
                Ok(())
            })
        })
    }

    /// The shares of the running mean and of the gradient; the first gradient is taken whole.
    fn mixture(&self, step: Step) -> (f64, f64) {
        if step.count == 1 { (0.0, 1.0) } else { (self.momentum, 1.0 - self.dampening) }
    }

    fn composed(&self, step: Step, weight: &Var, slope: &Tensor, moment: Option<&mut Tensor>) -> Result<()> {
        let old = weight.as_detached_tensor();
        let mut g = ((slope * step.factor)? + (&old * self.decay)?)?;
        if let Some(moment) = moment {
            let (kept, added) = self.mixture(step);
            *moment = ((&*moment * kept)? + (&g * added)?)?;
            g = if self.nesterov { (g + (&*moment * self.momentum)?)? } else { moment.clone() };
        }
        weight.set(&(old - (g * step.rate)?)?)
    }
}
