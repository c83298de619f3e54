//! The χ² test: how probable it is that chance alone makes counts differ so much.

/// How far counts are from equal shares, and the degrees of freedom; none if there are too few for the test.
pub(super) fn from_equal(counts: &[u64]) -> Option<(f64, u32)> {
    let (sum, cells) = (as_f64(counts.iter().sum()), as_f64(counts.len() as u64));
    let expected = sum / cells;
    // The test is an approximation. It is good from five expected counts on.
    if counts.len() < 2 || expected < 5.0 {
        return None;
    }
    let distance = |count: &u64| (as_f64(*count) - expected).powi(2) / expected;
    let freedom = u32::try_from(counts.len() - 1).ok()?;
    Some((counts.iter().map(distance).sum(), freedom))
}

/// The probability of a value as large as this one, or larger, with so many degrees of freedom.
pub(super) fn probability(value: f64, freedom: u32) -> f64 {
    let (a, x) = (f64::from(freedom) / 2.0, value / 2.0);
    if x <= 0.0 || freedom == 0 {
        return 1.0;
    }
    let scale = (a * x.ln() - x - ln_gamma(a)).exp();
    if x < a + 1.0 {
        1.0 - scale * series(a, x)
    } else {
        scale * fraction(a, x)
    }
}

/// More steps change nothing, for what is counted here.
const STEPS: u32 = 10_000;
const ENOUGH: f64 = 1e-15;

/// The lower incomplete gamma function without its scale, by its series.
fn series(a: f64, x: f64) -> f64 {
    let mut term = 1.0 / a;
    let mut sum = term;
    for step in 1..STEPS {
        term *= x / (a + f64::from(step));
        sum += term;
        if term < sum * ENOUGH {
            break;
        }
    }
    sum
}

/// The upper one without its scale, by its continued fraction (Lentz's way).
fn fraction(a: f64, x: f64) -> f64 {
    const TINY: f64 = 1e-300;
    let mut denominator = x + 1.0 - a;
    let (mut above, mut below) = (1.0 / TINY, 1.0 / denominator);
    let mut product = below;
    for step in 1..STEPS {
        let step = f64::from(step);
        let factor = -step * (step - a);
        denominator += 2.0;
        below = 1.0 / not_zero(factor * below + denominator, TINY);
        above = not_zero(denominator + factor / above, TINY);
        product *= below * above;
        if (below * above - 1.0).abs() < ENOUGH {
            break;
        }
    }
    product
}

fn not_zero(value: f64, tiny: f64) -> f64 {
    if value.abs() < tiny { tiny } else { value }
}

/// The logarithm of the gamma function above 0, by Stirling's series.
fn ln_gamma(mut x: f64) -> f64 {
    // The series is exact enough for large numbers, and ln Γ(x) = ln Γ(x + 1) − ln x leads there.
    let mut less = 0.0;
    while x < 15.0 {
        less += x.ln();
        x += 1.0;
    }
    let terms = 1.0 / (12.0 * x) - 1.0 / (360.0 * x.powi(3)) + 1.0 / (1260.0 * x.powi(5));
    (x - 0.5) * x.ln() - x + 0.5 * std::f64::consts::TAU.ln() + terms - less
}

#[expect(clippy::cast_precision_loss, reason = "counts are small")]
fn as_f64(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_are_those_of_printed_tables() {
        for (freedom, value, wanted) in [
            (1, 3.841, 0.05),
            (1, 10.828, 0.001),
            (2, 5.991, 0.05),
            (2, 13.816, 0.001),
            (5, 1.145, 0.95),
            (5, 20.515, 0.001),
            (10, 18.307, 0.05),
            (10, 29.588, 0.001),
            (30, 43.773, 0.05),
            (30, 59.703, 0.001),
            (100, 77.929, 0.95),
            (100, 124.342, 0.05),
            (100, 149.449, 0.001),
        ] {
            let found = probability(value, freedom);
            assert!((found - wanted).abs() < wanted * 0.005, "{freedom}, {value}: {found}");
        }
    }

    #[test]
    fn equal_shares_are_probable_and_one_endpoint_alone_is_not() {
        let of = |counts: &[u64]| from_equal(counts).map(|(value, freedom)| probability(value, freedom));
        assert!(of(&[30, 30, 30]).unwrap() > 0.999);
        assert!(of(&[25, 36, 29]).unwrap() > 0.3);
        assert!(of(&[90, 0, 0]).unwrap() < 1e-15);
        assert_eq!((of(&[4, 4]), of(&[100])), (None, None));
    }
}
