use candle_core::{DType, Device, Tensor};
use coral_core::{Error, Result};

/// A 64-bit FNV-1a hash over words, the same on every machine. It tells files apart that were mixed up, not forged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fingerprint(u64);

impl Default for Fingerprint {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fingerprint {
    fn add(&mut self, word: u64) {
        self.0 = (self.0 ^ word).wrapping_mul(0x0100_0000_01b3);
    }

    /// Takes in bytes and their number.
    pub(crate) fn add_bytes(&mut self, bytes: &[u8]) {
        self.add(bytes.len() as u64);
        bytes.iter().for_each(|&byte| self.add(u64::from(byte)));
    }

    /// Takes in a tensor's shape and values.
    pub(crate) fn add_tensor(&mut self, tensor: &Tensor) -> Result<()> {
        let values = tensor
            .flatten_all()
            .and_then(|flat| flat.detach().to_dtype(DType::F32)?.to_device(&Device::Cpu)?.to_vec1::<f32>());
        tensor.dims().iter().for_each(|&side| self.add(side as u64));
        values.map_err(Error::model)?.iter().for_each(|value| self.add(u64::from(value.to_bits())));
        Ok(())
    }

    /// Sixteen hexadecimal digits.
    pub(crate) fn finish(self) -> String {
        // The multiplications of FNV move differences upwards only; this brings them down again.
        let mixed = (self.0 ^ (self.0 >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        format!("{:016x}", mixed ^ (mixed >> 29))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_and_its_place_count() {
        let of = |values: &[f32], shape: &[usize]| {
            let mut hash = Fingerprint::default();
            hash.add_tensor(&Tensor::from_slice(values, shape, &Device::Cpu).unwrap()).unwrap();
            hash.finish()
        };
        let first = of(&[1.0, 2.0, 3.0, 4.0], &[2, 2]);
        assert_eq!(first, of(&[1.0, 2.0, 3.0, 4.0], &[2, 2]));
        for other in [of(&[1.0, 2.0, 3.0, 4.0], &[4, 1]), of(&[2.0, 1.0, 3.0, 4.0], &[2, 2]), of(&[1.0; 4], &[2, 2])] {
            assert_ne!(first, other);
        }
    }
}
