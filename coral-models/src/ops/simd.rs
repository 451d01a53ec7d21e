//! Functions of one value, written so that loops over them vectorise inside `pulp`'s dispatch.

/// e^x to within 2 units in the last place for x ≤ 0 and moderate positive x; 0 below -87.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // x = n ln 2 + r with |r| <= ln 2 / 2; ln 2 in two parts keeps r exact.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // Adding and taking away 1.5 * 2^23 rounds to the nearest whole number.
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(-87.3, 88.0);
    let n = (x * std::f32::consts::LOG2_E + ROUND) - ROUND;
    let r = (x - n * LN2_HIGH) - n * LN2_LOW;
    let mut p = 1.0 / 5040.0;
    p = p * r + 1.0 / 720.0;
    p = p * r + 1.0 / 120.0;
    p = p * r + 1.0 / 24.0;
    p = p * r + 1.0 / 6.0;
    p = p * r + 0.5;
    p = p * r + 1.0;
    p = p * r + 1.0;
    p * f32::from_bits(((n as i32 + 127) << 23) as u32)
}

/// The error function to within 2e-7 (Abramowitz and Stegun, 7.1.26).
#[inline(always)]
pub(crate) fn erf(x: f32) -> f32 {
    let magnitude = x.abs();
    let t = 1.0 / (1.0 + 0.327_591_1 * magnitude);
    let mut p = 1.061_405_4;
    p = p * t - 1.453_152;
    p = p * t + 1.421_413_7;
    p = p * t - 0.284_496_74;
    p = p * t + 0.254_829_6;
    (1.0 - p * t * exp(-magnitude * magnitude)).copysign(x)
}

/// The derivative of [`gelu`], Φ(x) + x φ(x).
#[inline(always)]
pub(crate) fn gelu_slope(x: f32) -> f32 {
    /// 1 / √(2π)
    const DENSITY: f32 = 0.398_942_3;
    0.5 + 0.5 * erf(x * std::f32::consts::FRAC_1_SQRT_2) + x * DENSITY * exp(-0.5 * x * x)
}

/// x Φ(x), with the error function as in PyTorch's default.
#[inline(always)]
pub(crate) fn gelu(x: f32) -> f32 {
    0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2))
}

/// The slope of [`quick_gelu`]'s logistic function.
pub(crate) const QUICK: f64 = 1.702;

/// x σ(1.702 x).
#[inline(always)]
pub(crate) fn quick_gelu(x: f32) -> f32 {
    x / (1.0 + exp(-(QUICK as f32) * x))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_accurate() {
        for i in -87_000..20_000 {
            let x = i as f32 / 1000.0;
            let expected = f64::from(x).exp();
            let error = (f64::from(exp(x)) - expected).abs() / expected;
            assert!(error < 3e-7, "exp({x}): off by {error}");
        }
        assert!(exp(-1000.0) < 1e-37);
        assert!(exp(f32::NEG_INFINITY) < 1e-37);
    }

    /// Series and continued fraction in f64, independent of the approximation above.
    fn exact_erf(x: f64) -> f64 {
        let steps = 2000;
        let h = x / steps as f64;
        let f = |t: f64| (-t * t).exp();
        let simpson: f64 = (0..steps / 2)
            .map(|i| {
                let a = 2.0 * i as f64 * h;
                f(a) + 4.0 * f(a + h) + f(a + 2.0 * h)
            })
            .sum();
        2.0 / std::f64::consts::PI.sqrt() * simpson * h / 3.0
    }

    #[test]
    fn gelu_is_the_erf_form() {
        for i in -600..=600 {
            let x = i as f32 / 100.0;
            let expected = 0.5 * f64::from(x) * (1.0 + exact_erf(f64::from(x) / 2f64.sqrt()));
            assert!((f64::from(gelu(x)) - expected).abs() < 1e-6, "gelu({x}): {} against {expected}", gelu(x));
        }
        assert_eq!(gelu(100.0), 100.0);
        assert_eq!(gelu(-100.0), 0.0);
        assert!(gelu(f32::NAN).is_nan());
    }

    #[test]
    fn quick_gelu_is_the_logistic_form() {
        for i in -6000..=6000 {
            let x = i as f32 / 100.0;
            let expected = f64::from(x) / (1.0 + (-1.702 * f64::from(x)).exp());
            let error = (f64::from(quick_gelu(x)) - expected).abs();
            assert!(error < 1e-6 * (1.0 + expected.abs()), "quick_gelu({x}): {} against {expected}", quick_gelu(x));
        }
        assert_eq!(quick_gelu(100.0), 100.0);
        assert!(quick_gelu(-100.0).abs() < 1e-30);
    }
}
