//! The two float types that CPU kernels compute in.

use crate::device::Element;
use half::bf16;
use std::ops::{Add, AddAssign, Div, Mul, Neg, Sub};

/// f32 (work) or f64 (references and gradient checks).
///
/// The `FMA` parameter says whether the surrounding code was compiled for a processor with fused multiply-add;
/// without it `mul_add` would be a library call an element.
pub trait Float:
    Element
    + PartialOrd
    + Default
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + std::iter::Sum
{
    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;
    /// −∞.
    const NEG_INFINITY: Self;
    /// Nearest value of this type.
    fn of(x: f64) -> Self;
    /// As f64.
    fn to_f64(self) -> f64;
    /// Square root.
    fn sqrt(self) -> Self;
    /// Natural logarithm.
    fn ln(self) -> Self;
    /// Larger of two; the other where one is NaN.
    fn max(self, other: Self) -> Self;
    /// Whether it is NaN.
    fn is_nan(self) -> bool;
    /// self·b + c.
    fn mul_add<const FMA: bool>(self, b: Self, c: Self) -> Self;
    /// eˣ. For f32 a polynomial that compilers vectorise, within 2 ulp; results below the smallest normal are 0.
    fn exp<const FMA: bool>(self) -> Self;

    /// Logistic function 1/(1+e⁻ˣ).
    #[inline(always)]
    fn sigmoid<const FMA: bool>(self) -> Self {
        Self::ONE / (Self::ONE + (-self).exp::<FMA>())
    }

    /// tanh x = 2σ(2x) − 1.
    #[inline(always)]
    fn tanh<const FMA: bool>(self) -> Self {
        let two = Self::of(2.0);
        two * (two * self).sigmoid::<FMA>() - Self::ONE
    }

    /// log(1 + eˣ) without overflow.
    #[inline(always)]
    fn softplus<const FMA: bool>(self) -> Self {
        let magnitude = if self < Self::ZERO { self } else { -self };
        self.max(Self::ZERO) + (Self::ONE + magnitude.exp::<FMA>()).ln()
    }
}

/// A type that results computed in `T` are written in.
pub trait Stores<T>: Element {
    /// The nearest value of this type, ties to even.
    fn stored(x: T) -> Self;
}

impl<T: Float> Stores<T> for T {
    #[inline(always)]
    fn stored(x: T) -> Self {
        x
    }
}

impl Stores<f32> for bf16 {
    // Without a branch, so that compilers vectorise it.
    #[inline(always)]
    fn stored(x: f32) -> Self {
        let bits = x.to_bits();
        let nearest = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
        let quiet = bits >> 16 | 0x40;
        bf16::from_bits(if x.is_nan() { quiet } else { nearest } as u16)
    }
}

impl Float for f32 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    const NEG_INFINITY: Self = f32::NEG_INFINITY;
    #[inline(always)]
    fn of(x: f64) -> Self {
        x as f32
    }
    #[inline(always)]
    fn to_f64(self) -> f64 {
        f64::from(self)
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        f32::sqrt(self)
    }
    #[inline(always)]
    fn ln(self) -> Self {
        f32::ln(self)
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        f32::max(self, other)
    }
    #[inline(always)]
    fn is_nan(self) -> bool {
        f32::is_nan(self)
    }
    #[inline(always)]
    fn mul_add<const FMA: bool>(self, b: Self, c: Self) -> Self {
        if FMA { f32::mul_add(self, b, c) } else { self * b + c }
    }

    /// eˣ = 2ⁿ·eʳ with n = round(x/ln 2) and |r| ≤ ln 2/2; eʳ by its Taylor series to r⁷ (error 2⁻²⁷).
    #[inline(always)]
    fn exp<const FMA: bool>(self) -> Self {
        // ln 2 in two parts, the first short enough that n times it is exact.
        const LN2_HIGH: f32 = 0.693_359_4;
        const LN2_LOW: f32 = -2.121_944_4e-4;
        // Adding and taking away 1.5·2²³ rounds to the nearest integer without a call.
        const ROUND: f32 = 12_582_912.0;
        let x = self.clamp(-87.5, 88.7);
        let shifted = f32::mul_add_::<FMA>(x, std::f32::consts::LOG2_E, ROUND);
        let n = shifted - ROUND;
        let r = f32::mul_add_::<FMA>(n, -LN2_LOW, f32::mul_add_::<FMA>(n, -LN2_HIGH, x));
        let mut p = 1.984_127e-4_f32;
        for c in [1.388_888_9e-3, 8.333_333e-3, 4.166_666_6e-2, 1.666_666_7e-1, 0.5, 1.0, 1.0] {
            p = f32::mul_add_::<FMA>(p, r, c);
        }
        // n as an integer lies in the last bits of `shifted`. A cast would saturate, which does not vectorise; NaN
        // gives nonsense here and is put right below.
        let n = (shifted.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
        // 2ⁿ in two factors: n = 128 is still finite after the product.
        let half = n >> 1;
        let power = |n: i32| f32::from_bits((n.wrapping_add(127) << 23) as u32);
        let result = p * power(half) * power(n.wrapping_sub(half));
        let result = if self < -87.4 { 0.0 } else { result };
        let result = if self > 88.72 { f32::INFINITY } else { result };
        if self.is_nan() { self } else { result }
    }

    /// Near 0, where 2σ(2x) − 1 would cancel, x·P(x²) with P interpolated at Chebyshev points (error 2⁻²⁸).
    #[inline(always)]
    fn tanh<const FMA: bool>(self) -> Self {
        let square = self * self;
        let mut p = -5.607_689e-3_f32;
        for c in [2.054_490_5e-2, -5.370_706_8e-2, 0.133_309_57, -3.333_325_4e-1, 1.0] {
            p = f32::mul_add_::<FMA>(p, square, c);
        }
        let far = 2.0 * (2.0 * self).sigmoid::<FMA>() - 1.0;
        if square < 0.4 { self * p } else { far }
    }
}

trait MulAdd {
    fn mul_add_<const FMA: bool>(a: Self, b: Self, c: Self) -> Self;
}
impl MulAdd for f32 {
    #[inline(always)]
    fn mul_add_<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
        <f32 as Float>::mul_add::<FMA>(a, b, c)
    }
}

impl Float for f64 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    const NEG_INFINITY: Self = f64::NEG_INFINITY;
    #[inline(always)]
    fn of(x: f64) -> Self {
        x
    }
    #[inline(always)]
    fn to_f64(self) -> f64 {
        self
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        f64::sqrt(self)
    }
    #[inline(always)]
    fn ln(self) -> Self {
        f64::ln(self)
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        f64::max(self, other)
    }
    #[inline(always)]
    fn is_nan(self) -> bool {
        f64::is_nan(self)
    }
    #[inline(always)]
    fn mul_add<const FMA: bool>(self, b: Self, c: Self) -> Self {
        if FMA { f64::mul_add(self, b, c) } else { self * b + c }
    }
    #[inline(always)]
    fn exp<const FMA: bool>(self) -> Self {
        f64::exp(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_within_two_ulp_and_keeps_its_limits() {
        let mut worst = 0.0f64;
        for i in 0..400_000 {
            let x = -87.0 + 175.0 * (i as f32) / 400_000.0;
            let exact = f64::from(x).exp();
            let ulp = 2f64.powi(exact.log2().floor() as i32 - 23);
            worst = worst.max((f64::from(Float::exp::<false>(x)) - exact).abs() / ulp);
        }
        assert!(worst <= 2.0, "worst error {worst} ulp");
        assert_eq!(Float::exp::<false>(-1e4f32), 0.0);
        assert_eq!(Float::exp::<false>(f32::NEG_INFINITY), 0.0);
        assert_eq!(Float::exp::<false>(1e4f32), f32::INFINITY);
        assert!(Float::exp::<false>(f32::NAN).is_nan());
        assert_eq!(Float::exp::<false>(0.0f32), 1.0);
    }

    #[test]
    fn tanh_keeps_its_relative_precision_near_zero() {
        for i in -40_000..40_000 {
            let x = 1e-6 + (i as f32) / 4000.0;
            let exact = f64::from(x).tanh();
            let error = (f64::from(Float::tanh::<false>(x)) - exact).abs();
            assert!(error <= 4.0 * f64::from(f32::EPSILON) * exact.abs(), "tanh {x}: error {error:e}");
        }
        assert!(Float::tanh::<false>(f32::NAN).is_nan());
        assert_eq!(Float::tanh::<false>(-1e30f32), -1.0);
    }

    #[test]
    fn softplus_neither_overflows_nor_vanishes() {
        assert_eq!(Float::softplus::<false>(200.0f32), 200.0);
        assert!(Float::softplus::<false>(-30.0f64) > 0.0);
        assert!((Float::softplus::<false>(0.0f64) - 2f64.ln()).abs() < 1e-15);
    }
}
