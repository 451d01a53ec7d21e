use std::fmt;

use coral_core::ndarray::Array3;
use tiff_reader::{RasterLayout, TiffSample};

/// What one number of a raster is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SampleType {
    /// 1 to 8 bits without sign.
    U8,
    /// 8 bits with sign.
    I8,
    /// 9 to 16 bits without sign.
    U16,
    /// 16 bits with sign.
    I16,
    /// 32 bits without sign.
    U32,
    /// 32 bits with sign.
    I32,
    /// 32 bits in floating point.
    F32,
    /// 64 bits in floating point.
    F64,
}

impl SampleType {
    pub(super) fn of(layout: &RasterLayout) -> Option<Self> {
        Some(match layout {
            _ if u8::matches_layout(layout) => Self::U8,
            _ if i8::matches_layout(layout) => Self::I8,
            _ if u16::matches_layout(layout) => Self::U16,
            _ if i16::matches_layout(layout) => Self::I16,
            _ if u32::matches_layout(layout) => Self::U32,
            _ if i32::matches_layout(layout) => Self::I32,
            _ if f32::matches_layout(layout) => Self::F32,
            _ if f64::matches_layout(layout) => Self::F64,
            _ => return None,
        })
    }

    /// Bytes of one value.
    pub(super) fn bytes(self) -> u128 {
        match self {
            Self::U8 | Self::I8 => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::F64 => 8,
        }
    }

    /// Whether values are whole numbers.
    pub fn is_integer(self) -> bool {
        !matches!(self, Self::F32 | Self::F64)
    }
}

impl fmt::Display for SampleType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::U8 => "u8",
            Self::I8 => "i8",
            Self::U16 => "u16",
            Self::I16 => "i16",
            Self::U32 => "u32",
            Self::I32 => "i32",
            Self::F32 => "f32",
            Self::F64 => "f64",
        })
    }
}

/// The values of a window as the file holds them, B×H×W for B bands.
///
/// # Examples
/// ```
/// use coral_core::ndarray::Array3;
/// use coral_io::geo::{Samples, SampleType};
/// let samples = Samples::I16(Array3::from_elem((1, 2, 3), -9));
/// assert_eq!((samples.sample_type(), samples.dim()), (SampleType::I16, (1, 2, 3)));
/// assert_eq!(samples.to_f32()[[0, 1, 2]], -9.0);
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Samples {
    /// Of [`SampleType::U8`].
    U8(Array3<u8>),
    /// Of [`SampleType::I8`].
    I8(Array3<i8>),
    /// Of [`SampleType::U16`].
    U16(Array3<u16>),
    /// Of [`SampleType::I16`].
    I16(Array3<i16>),
    /// Of [`SampleType::U32`].
    U32(Array3<u32>),
    /// Of [`SampleType::I32`].
    I32(Array3<i32>),
    /// Of [`SampleType::F32`].
    F32(Array3<f32>),
    /// Of [`SampleType::F64`].
    F64(Array3<f64>),
}

/// Runs one expression on the array, whatever its type.
macro_rules! each {
    ($samples:expr, $values:ident => $result:expr) => {
        match $samples {
            Samples::U8($values) => $result,
            Samples::I8($values) => $result,
            Samples::U16($values) => $result,
            Samples::I16($values) => $result,
            Samples::U32($values) => $result,
            Samples::I32($values) => $result,
            Samples::F32($values) => $result,
            Samples::F64($values) => $result,
        }
    };
}

impl Samples {
    /// Bands, rows and columns.
    pub fn dim(&self) -> (usize, usize, usize) {
        each!(self, values => values.dim())
    }

    /// What the values are.
    pub fn sample_type(&self) -> SampleType {
        match self {
            Self::U8(_) => SampleType::U8,
            Self::I8(_) => SampleType::I8,
            Self::U16(_) => SampleType::U16,
            Self::I16(_) => SampleType::I16,
            Self::U32(_) => SampleType::U32,
            Self::I32(_) => SampleType::I32,
            Self::F32(_) => SampleType::F32,
            Self::F64(_) => SampleType::F64,
        }
    }

    /// All values in double precision, which holds each of these types exactly.
    pub fn to_f64(&self) -> Array3<f64> {
        each!(self, values => widened(values))
    }

    /// All values in single precision; whole numbers over 2²⁴ and [`SampleType::F64`] are rounded.
    pub fn to_f32(&self) -> Array3<f32> {
        match self {
            Self::F32(values) => values.clone(),
            other => other.to_f64().mapv(|value| value as f32),
        }
    }
}

/// A type of values that a file can hold.
pub(super) trait Value: TiffSample + Copy + PartialEq + Into<f64> {
    /// A number in this type; `None` when it has no place there.
    fn exact(value: f64) -> Option<Self>;

    fn is_nan(self) -> bool {
        self.into().is_nan()
    }
}

macro_rules! whole_values {
    ($($type:ty)*) => {$(
        impl Value for $type {
            fn exact(value: f64) -> Option<Self> {
                Some(value as Self).filter(|&here| f64::from(here) == value)
            }
        }
    )*};
}

whole_values!(u8 i8 u16 i16 u32 i32);

impl Value for f32 {
    /// Texts of no-data values have fewer digits than a double: the nearest one is meant.
    fn exact(value: f64) -> Option<Self> {
        Some(value as Self)
    }
}

impl Value for f64 {
    fn exact(value: f64) -> Option<Self> {
        Some(value)
    }
}

fn widened<T: Value>(values: &Array3<T>) -> Array3<f64> {
    values.mapv(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_data_values_have_a_place_or_none() {
        assert_eq!((u8::exact(255.0), u8::exact(-9999.0), u8::exact(f64::NAN)), (Some(255), None, None));
        assert_eq!((i16::exact(-7.0), u16::exact(0.5)), (Some(-7), None));
        assert_eq!(f32::exact(-3.4e38), Some(-3.4e38));
        assert!(f32::exact(f64::NAN).is_some_and(Value::is_nan));
    }
}
