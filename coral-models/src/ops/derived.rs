use candle_core::{Result, Tensor};

/// A tensor made of weights, e.g. in another order.
///
/// It is made once, unless the weights are variables: an optimiser changes their values in place, so that a copy made
/// earlier would stay behind. Then it is made at every use.
#[derive(Debug, Clone)]
pub(crate) enum Derived {
    /// Of weights that stay as they are.
    Fixed(Tensor),
    /// Of variables.
    Trained {
        /// What it is made of.
        weights: Vec<Tensor>,
        /// How.
        make: fn(&[Tensor]) -> Result<Tensor>,
    },
}

impl Derived {
    pub(crate) fn new(weights: Vec<Tensor>, make: fn(&[Tensor]) -> Result<Tensor>) -> Result<Self> {
        // Made in any case, so that weights that do not fit are an error here and not at the first use.
        let value = make(&weights)?;
        Ok(if weights.iter().any(Tensor::track_op) { Self::Trained { weights, make } } else { Self::Fixed(value) })
    }

    pub(crate) fn get(&self) -> Result<Tensor> {
        match self {
            Self::Fixed(value) => Ok(value.clone()),
            Self::Trained { weights, make } => make(weights),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    #[test]
    fn what_is_made_of_a_variable_follows_it() {
        let variable = Var::new(&[1f32, 2.0], &Device::Cpu).unwrap();
        let twice = |weights: &[Tensor]| Tensor::cat(&[&weights[0], &weights[0]], 0);
        let derived = Derived::new(vec![variable.as_tensor().clone()], twice).unwrap();
        variable.set(&Tensor::new(&[3f32, 4.0], &Device::Cpu).unwrap()).unwrap();
        assert_eq!(derived.get().unwrap().to_vec1::<f32>().unwrap(), [3.0, 4.0, 3.0, 4.0]);
        let fixed = Derived::new(vec![variable.as_detached_tensor()], twice).unwrap();
        assert!(matches!(fixed, Derived::Fixed(_)));
    }
}
