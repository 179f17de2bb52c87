// Functions whose built-in forms lose accuracy or overflow: the logistic function, its logarithm, tanh.

/// 1 / (1 + e^-x), without overflow.
fn sigmoid(x: f32) -> f32 {
    let e = exp(-abs(x));
    return select(e, 1.0, x >= 0.0) / (1.0 + e);
}

/// log(1 + x) for x >= 0: the quotient takes back what rounding 1 + x lost (Kahan).
fn log_1p(x: f32) -> f32 {
    let u = 1.0 + x;
    if u == 1.0 {
        return x;
    }
    return log(u) * x / (u - 1.0);
}

/// log sigma(x), without overflow.
fn log_sigmoid(x: f32) -> f32 {
    return min(x, 0.0) - log_1p(exp(-abs(x)));
}

/// tanh: by its series near 0, where the quotient would cancel.
fn tanh_of(x: f32) -> f32 {
    let square = x * x;
    if square < 0.09 {
        let series = -0.33333334 + square * (0.13333334 + square * (-0.053968254 + square * 0.021869488));
        return x + x * square * series;
    }
    let e = exp(-2.0 * abs(x));
    return sign(x) * (1.0 - e) / (1.0 + e);
}
