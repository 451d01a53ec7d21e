//! In which numbers the programs add, and when they round.

use std::marker::PhantomData;
use std::ops::{Add, Mul};

/// The number types of a resize and how they are multiplied and rounded. `Sum` holds the running sum of a
/// pass, `Mid` is what the first pass hands to the second.
pub(super) trait Arithmetic {
    type Input: Copy + Sync;
    type Mid: Copy + Default + Send;
    type Output: Copy + Send;
    type Weight: Copy + Sync;
    type Sum: Copy;

    /// Where a sum starts.
    const START: Self::Sum;

    fn add_input(sum: Self::Sum, value: Self::Input, weight: Self::Weight) -> Self::Sum;
    fn to_mid(sum: Self::Sum) -> Self::Mid;
    fn add_mid(sum: Self::Sum, value: Self::Mid, weight: Self::Weight) -> Self::Sum;
    fn to_output(sum: Self::Sum) -> Self::Output;
}

/// Pillow keeps 8 bits for the value and 2 for overshoot; the rest of an i32 holds the weights' fraction.
const FRACTION_BITS: u32 = 32 - 8 - 2;

/// A weight in units of 2⁻²², rounded half away from zero.
pub(super) fn fixed_point(weight: f64) -> i32 {
    (weight * f64::from(1 << FRACTION_BITS)).round() as i32
}

/// Bytes with whole-numbered weights, rounded to bytes after each pass.
#[derive(Debug)]
pub(super) struct PillowBytes;

impl Arithmetic for PillowBytes {
    type Input = u8;
    type Mid = u8;
    type Output = u8;
    type Weight = i32;
    type Sum = i32;
    const START: i32 = 1 << (FRACTION_BITS - 1);

    #[inline(always)]
    fn add_input(sum: i32, value: u8, weight: i32) -> i32 {
        sum + i32::from(value) * weight
    }

    #[inline(always)]
    fn to_mid(sum: i32) -> u8 {
        (sum >> FRACTION_BITS).clamp(0, 255) as u8
    }

    #[inline(always)]
    fn add_mid(sum: i32, value: u8, weight: i32) -> i32 {
        Self::add_input(sum, value, weight)
    }

    #[inline(always)]
    fn to_output(sum: i32) -> u8 {
        Self::to_mid(sum)
    }
}

/// Bytes in and out, floats in between.
#[derive(Debug)]
pub(super) struct FloatBytes;

impl Arithmetic for FloatBytes {
    type Input = u8;
    type Mid = f32;
    type Output = u8;
    type Weight = f32;
    type Sum = f32;
    const START: f32 = 0.0;

    #[inline(always)]
    fn add_input(sum: f32, value: u8, weight: f32) -> f32 {
        sum + f32::from(value) * weight
    }

    #[inline(always)]
    fn to_mid(sum: f32) -> f32 {
        sum
    }

    #[inline(always)]
    fn add_mid(sum: f32, value: f32, weight: f32) -> f32 {
        sum + value * weight
    }

    #[inline(always)]
    fn to_output(sum: f32) -> u8 {
        (sum + 0.5) as u8
    }
}

/// Floats with weights and sums of the same type.
#[derive(Debug)]
pub(super) struct Floats<T>(PhantomData<T>);

impl<T: PlaneValue> Arithmetic for Floats<T> {
    type Input = T;
    type Mid = T;
    type Output = T;
    type Weight = T;
    type Sum = T;
    const START: T = T::ZERO;

    #[inline(always)]
    fn add_input(sum: T, value: T, weight: T) -> T {
        sum + value * weight
    }

    #[inline(always)]
    fn to_mid(sum: T) -> T {
        sum
    }

    #[inline(always)]
    fn add_mid(sum: T, value: T, weight: T) -> T {
        sum + value * weight
    }

    #[inline(always)]
    fn to_output(sum: T) -> T {
        sum
    }
}

/// Values that planes of floats consist of.
pub(crate) trait PlaneValue: Copy + Default + Send + Sync + Add<Output = Self> + Mul<Output = Self> {
    /// Where a sum starts.
    const ZERO: Self;

    /// The weight nearest to one in double precision.
    fn from_weight(weight: f64) -> Self;
}

impl PlaneValue for f32 {
    const ZERO: f32 = 0.0;

    fn from_weight(weight: f64) -> Self {
        weight as f32
    }
}

impl PlaneValue for f64 {
    const ZERO: f64 = 0.0;

    fn from_weight(weight: f64) -> Self {
        weight
    }
}

/// Floats with weights and sums in f64, rounded to f32 after each pass.
#[derive(Debug)]
pub(super) struct PillowFloats;

impl Arithmetic for PillowFloats {
    type Input = f32;
    type Mid = f32;
    type Output = f32;
    type Weight = f64;
    type Sum = f64;
    const START: f64 = 0.0;

    #[inline(always)]
    fn add_input(sum: f64, value: f32, weight: f64) -> f64 {
        sum + f64::from(value) * weight
    }

    #[inline(always)]
    fn to_mid(sum: f64) -> f32 {
        sum as f32
    }

    #[inline(always)]
    fn add_mid(sum: f64, value: f32, weight: f64) -> f64 {
        Self::add_input(sum, value, weight)
    }

    #[inline(always)]
    fn to_output(sum: f64) -> f32 {
        sum as f32
    }
}
