//! Activation functions and their slopes. Bound by memory, apart from the exact GELU.

use super::Float;
use super::map::Map;
use crate::device::DType;

/// A function of one variable and its derivative. Mark both `#[inline(always)]`.
pub trait Function: Copy + Send + Sync {
    /// f(x).
    fn value<T: Float, const FMA: bool>(x: T) -> T;
    /// f′(x).
    fn slope<T: Float, const FMA: bool>(x: T) -> T;
}

/// f(x) at one place.
#[derive(Clone, Copy)]
pub struct Value<F>(pub F);

impl<T: Float, F: Function> Map<T, 1> for Value<F> {
    #[inline(always)]
    fn at<const FMA: bool>(self, [x]: [T; 1]) -> T {
        F::value::<T, FMA>(x)
    }
}

/// dx = f′(x)·dy at one place.
#[derive(Clone, Copy)]
pub struct Backward<F>(pub F);

impl<T: Float, F: Function> Map<T, 2> for Backward<F> {
    #[inline(always)]
    fn at<const FMA: bool>(self, [x, dy]: [T; 2]) -> T {
        F::slope::<T, FMA>(x) * dy
    }
}

/// max(x, 0).
#[derive(Clone, Copy)]
pub struct Relu;
/// x·Φ(x), Φ the normal distribution function.
#[derive(Clone, Copy)]
pub struct Gelu;
/// The approximation of GELU by tanh.
#[derive(Clone, Copy)]
pub struct GeluTanh;
/// x·σ(x).
#[derive(Clone, Copy)]
pub struct Silu;
/// σ(x).
#[derive(Clone, Copy)]
pub struct Sigmoid;
/// tanh x.
#[derive(Clone, Copy)]
pub struct Tanh;

impl Function for Relu {
    // Written so that NaN stays NaN.
    #[inline(always)]
    fn value<T: Float, const FMA: bool>(x: T) -> T {
        if x < T::ZERO { T::ZERO } else { x }
    }
    #[inline(always)]
    fn slope<T: Float, const FMA: bool>(x: T) -> T {
        if x > T::ZERO { T::ONE } else { T::ZERO }
    }
}

impl Function for Silu {
    #[inline(always)]
    fn value<T: Float, const FMA: bool>(x: T) -> T {
        x * x.sigmoid::<FMA>()
    }
    #[inline(always)]
    fn slope<T: Float, const FMA: bool>(x: T) -> T {
        let sigmoid = x.sigmoid::<FMA>();
        sigmoid * (T::ONE + x * (T::ONE - sigmoid))
    }
}

impl Function for Sigmoid {
    #[inline(always)]
    fn value<T: Float, const FMA: bool>(x: T) -> T {
        x.sigmoid::<FMA>()
    }
    #[inline(always)]
    fn slope<T: Float, const FMA: bool>(x: T) -> T {
        let sigmoid = x.sigmoid::<FMA>();
        sigmoid * (T::ONE - sigmoid)
    }
}

impl Function for Tanh {
    #[inline(always)]
    fn value<T: Float, const FMA: bool>(x: T) -> T {
        x.tanh::<FMA>()
    }
    #[inline(always)]
    fn slope<T: Float, const FMA: bool>(x: T) -> T {
        let tanh = x.tanh::<FMA>();
        T::ONE - tanh * tanh
    }
}

impl Function for GeluTanh {
    // ½(1 + tanh u) = σ(2u).
    #[inline(always)]
    fn value<T: Float, const FMA: bool>(x: T) -> T {
        x * twice_gelu_argument(x).sigmoid::<FMA>()
    }
    #[inline(always)]
    fn slope<T: Float, const FMA: bool>(x: T) -> T {
        let sigmoid = twice_gelu_argument(x).sigmoid::<FMA>();
        let inner = T::of(GELU_SCALE) * (T::ONE + T::of(3.0 * GELU_CUBE) * x * x);
        sigmoid + x * sigmoid * (T::ONE - sigmoid) * inner
    }
}

/// 2·√(2/π).
const GELU_SCALE: f64 = 1.595_769_121_605_730_9;
const GELU_CUBE: f64 = 0.044_715;

/// 2u with u = √(2/π)·(x + 0.044715·x³).
#[inline(always)]
fn twice_gelu_argument<T: Float>(x: T) -> T {
    T::of(GELU_SCALE) * x * (T::ONE + T::of(GELU_CUBE) * x * x)
}

impl Function for Gelu {
    #[inline(always)]
    fn value<T: Float, const FMA: bool>(x: T) -> T {
        x * normal::<T, FMA>(x).0
    }
    #[inline(always)]
    fn slope<T: Float, const FMA: bool>(x: T) -> T {
        let (distribution, exponential) = normal::<T, FMA>(x);
        distribution + x * exponential * T::of(1.0 / (2.0 * std::f64::consts::PI).sqrt())
    }
}

/// Q of [`normal`] by powers of 2t − 1, interpolated at Chebyshev points: relative error 2⁻²⁷ for f32, below the
/// rounding for f64.
const Q_F32: [f64; 10] = [
    1.88821282e-1,
    1.51974101e-1,
    9.67843907e-2,
    4.66316777e-2,
    1.5098824e-2,
    1.87805785e-3,
    -8.69041974e-4,
    -3.90946725e-4,
    3.23314203e-5,
    3.93301424e-5,
];
const Q_F64: [f64; 23] = [
    0.18882128260393785,
    0.15197416049297324,
    0.09678435018555664,
    0.04663046448989468,
    0.01509914372259023,
    0.0018850472422229046,
    -0.0008699230891628756,
    -0.0004077046213683964,
    3.3336052290036945e-05,
    5.7773784446822336e-05,
    -4.769190076797745e-07,
    -8.78640058976113e-06,
    1.7865053828168654e-07,
    1.480723444385482e-06,
    -1.5623877693912945e-07,
    -2.5674601753579823e-07,
    6.61834320494967e-08,
    4.055790802133918e-08,
    -1.9695900856734093e-08,
    -4.892402234993512e-09,
    4.016846739332351e-09,
    3.19308785823943e-10,
    -4.221644241696684e-10,
];

/// (Φ(x), e^(−x²/2)): the lower tail Φ(−|x|) is e^(−x²/2)·t·Q(t) with t = 1/(1 + |x|/4), which keeps its relative
/// precision however far out.
#[inline(always)]
fn normal<T: Float, const FMA: bool>(x: T) -> (T, T) {
    let magnitude = if x < T::ZERO { -x } else { x };
    let t = T::ONE / (T::ONE + T::of(0.25) * magnitude);
    let s = t + t - T::ONE;
    let coefficients = if matches!(T::DTYPE, DType::F32) { &Q_F32[..] } else { &Q_F64[..] };
    let mut q = T::ZERO;
    for &c in coefficients.iter().rev() {
        q = q.mul_add::<FMA>(s, T::of(c));
    }
    let exponential = (T::of(-0.5) * x * x).exp::<FMA>();
    let tail = exponential * t * q;
    (if x < T::ZERO { tail } else { T::ONE - tail }, exponential)
}
