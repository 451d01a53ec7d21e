use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use candle_core::{DType, Device, Result, Shape, Tensor, Var};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder};

use super::initial::{draw, drawn};
use super::parameters::Fresh;

/// Makes a variable of everything that a network asks for.
pub(super) struct Recorder<'a> {
    /// Where values come from; without it they are drawn.
    pub(super) stored: Option<VarBuilder<'a>>,
    pub(super) fresh: Fresh<'a>,
    pub(super) created: &'a Mutex<BTreeMap<String, Var>>,
}

impl Recorder<'_> {
    /// The values of a checkpoint, for the names that are not drawn.
    fn stored(&self, name: &str) -> Option<&VarBuilder<'_>> {
        let fresh = self.fresh.prefixes.iter().any(|prefix| name.starts_with(prefix));
        self.stored.as_ref().filter(|_| !fresh)
    }

    /// The variable of a name; layers that ask for the same name share it.
    fn variable(&self, name: &str, value: impl FnOnce() -> Result<Tensor>) -> Result<Tensor> {
        let mut created = self.created.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(variable) = created.get(name) {
            return Ok(variable.as_tensor().clone());
        }
        let variable = Var::from_tensor(&value()?)?;
        let tensor = variable.as_tensor().clone();
        created.insert(name.to_owned(), variable);
        Ok(tensor)
    }
}

impl SimpleBackend for Recorder<'_> {
    fn get(&self, s: Shape, name: &str, init: Init, dtype: DType, device: &Device) -> Result<Tensor> {
        let tensor = self.variable(name, || match self.stored(name) {
            Some(stored) => stored.get_with_hints_dtype(s.clone(), name, init, dtype),
            None => drawn(draw(init, &s, name, self.fresh.seed), s.clone(), dtype, device),
        })?;
        fitting(tensor, s, name)
    }

    fn get_unchecked(&self, name: &str, dtype: DType, _: &Device) -> Result<Tensor> {
        self.variable(name, || match self.stored(name) {
            Some(stored) => stored.get_unchecked_dtype(name, dtype),
            None => candle_core::bail!("`{name}` is to be created, but the network does not tell its shape"),
        })
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.stored(name).is_some_and(|stored| stored.contains_tensor(name))
    }
}

/// The tensors of a network that exists.
pub(super) struct Existing(pub(super) BTreeMap<String, Tensor>);

impl SimpleBackend for Existing {
    fn get(&self, s: Shape, name: &str, _: Init, dtype: DType, device: &Device) -> Result<Tensor> {
        fitting(self.get_unchecked(name, dtype, device)?, s, name)
    }

    fn get_unchecked(&self, name: &str, dtype: DType, device: &Device) -> Result<Tensor> {
        let Some(tensor) = self.0.get(name) else {
            candle_core::bail!("the parameters have no `{name}`, which the network asks for");
        };
        // Converted copies would not follow the training.
        if tensor.dtype() != dtype || !tensor.device().same_device(device) {
            candle_core::bail!("`{name}` is {:?} where the network asks for {dtype:?}", tensor.dtype());
        }
        Ok(tensor.clone())
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }
}

fn fitting(tensor: Tensor, shape: Shape, name: &str) -> Result<Tensor> {
    if tensor.shape() != &shape {
        candle_core::bail!("`{name}` is {:?} where the network asks for {:?}", tensor.dims(), shape.dims());
    }
    Ok(tensor)
}
