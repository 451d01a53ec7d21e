use std::collections::BTreeMap;

use candle_core::{Tensor, Var};
use coral_core::{Error, Result};

use super::config::SEMANTIC;
use super::loss::values;
use crate::train::add_backward;
use crate::{Gradients, Parameters};

/// Goes back from the parts of an image's loss one by one, and through the image encoder once.
pub(in crate::sam) struct Backward<'a> {
    parameters: &'a Parameters,
    /// As the encoder gave them.
    features: Tensor,
    /// As the decoder sees them: a variable of their own where the encoder is trained.
    pub(in crate::sam) seen: Tensor,
    slope: Option<Tensor>,
    sum: BTreeMap<String, Tensor>,
    value: f64,
}

impl<'a> Backward<'a> {
    pub(in crate::sam) fn new(parameters: &'a Parameters, features: Tensor) -> Result<Self> {
        let seen = match features.track_op() {
            true => Var::from_tensor(&features.detach()).map_err(Error::model)?.as_tensor().clone(),
            false => features.clone(),
        };
        Ok(Self { parameters, features, seen, slope: None, sum: BTreeMap::new(), value: 0.0 })
    }

    /// Goes back from one part of the loss of an image of this name.
    pub(in crate::sam) fn add(&mut self, loss: &Tensor, name: &str) -> Result<()> {
        let value = values(loss)?.first().copied().unwrap_or_default();
        if !value.is_finite() {
            return Err(Error::input(format!("loss of {name}"), format!("is {value}; expected a finite number")));
        }
        self.value += value;
        let mut rest = add_backward(&mut self.sum, loss, self.parameters)?;
        if let Some(slope) = rest.remove(&self.seen).filter(|_| self.features.track_op()) {
            let sum = match &self.slope {
                Some(former) => former + slope,
                None => Ok(slope),
            };
            self.slope = Some(sum.map_err(Error::model)?);
        }
        Ok(())
    }

    /// Whether no part was added.
    pub(in crate::sam) fn is_empty(&self) -> bool {
        self.sum.is_empty()
    }

    /// The sum of the parts, and its gradients.
    pub(in crate::sam) fn finish(mut self) -> Result<(f64, Gradients)> {
        if let Some(slope) = &self.slope {
            let chained = (&self.features * slope.detach()).and_then(|product| product.sum_all());
            add_backward(&mut self.sum, &chained.map_err(Error::model)?, self.parameters)?;
        }
        for (name, variable) in self.parameters.trainable().filter(|(name, _)| may_rest(name)) {
            if !self.sum.contains_key(name) {
                self.sum.insert(name.to_owned(), variable.as_detached_tensor().zeros_like().map_err(Error::model)?);
            }
        }
        Ok((self.value, Gradients::collected(self.sum, self.parameters)?))
    }
}

/// Whether an image may have no use for a weight: a mask prompt where there is one round only, a token that no round asks, the
/// classes where none is known.
pub(in crate::sam) fn may_rest(name: &str) -> bool {
    const PARTS: [&str; 4] =
        ["prompt_encoder.mask_downscaling.", "mask_decoder.output_", "mask_decoder.iou_prediction_head.", SEMANTIC];
    PARTS.iter().any(|part| name.starts_with(part))
}
