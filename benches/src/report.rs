//! Samples, their quantiles, and how figures are printed: one line for each, `name: value`.

use std::fmt;
use std::time::Duration;

pub use tandem_tests::setting;

/// Durations of one kind.
#[derive(Clone, Debug, Default)]
pub struct Samples(Vec<Duration>);

impl Samples {
    /// Adds a sample.
    pub fn push(&mut self, sample: Duration) {
        self.0.push(sample);
    }

    /// The number of samples.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no samples.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All samples, in their order.
    pub fn iter(&self) -> impl Iterator<Item = Duration> + '_ {
        self.0.iter().copied()
    }

    /// The smallest sample that is not exceeded by `percent` of all (nearest rank); zero if there are none.
    pub fn percentile(&self, percent: usize) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let rank = (sorted.len() * percent).div_ceil(100).max(1);
        sorted.get(rank - 1).copied().unwrap_or_default()
    }

    /// The median: half of the samples are not longer.
    pub fn median(&self) -> Duration {
        self.percentile(50)
    }
}

impl Extend<Duration> for Samples {
    fn extend<T: IntoIterator<Item = Duration>>(&mut self, samples: T) {
        self.0.extend(samples);
    }
}

/// The median of figures; zero if there are none.
pub fn median(figures: impl IntoIterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = figures.into_iter().collect();
    sorted.sort_unstable_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        count if count % 2 == 1 => sorted[count / 2],
        count => f64::midpoint(sorted[count / 2 - 1], sorted[count / 2]),
    }
}

/// The figures that a quarter and three quarters of all do not exceed; zero if there are none.
pub fn quartiles(figures: impl IntoIterator<Item = f64>) -> (f64, f64) {
    let mut sorted: Vec<f64> = figures.into_iter().collect();
    sorted.sort_unstable_by(f64::total_cmp);
    let at = |percent: usize| sorted.get(sorted.len() * percent / 100).copied().unwrap_or_default();
    (at(25), at(75))
}

/// Prints a figure.
pub fn print(name: &str, value: impl fmt::Display) {
    println!("{name}: {value}");
}

/// Prints a duration in microseconds.
pub fn print_us(name: &str, value: Duration) {
    print(name, format_args!("{:.1}", value.as_secs_f64() * 1e6));
}

/// Prints a duration in milliseconds.
pub fn print_ms(name: &str, value: Duration) {
    print(name, format_args!("{:.3}", value.as_secs_f64() * 1e3));
}

/// Prints a duration in seconds.
pub fn print_s(name: &str, value: Duration) {
    print(name, format_args!("{:.3}", value.as_secs_f64()));
}

/// Prints what the program is doing, for people who wait. It is no figure.
pub fn note(text: impl fmt::Display) {
    println!("# {text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(millis: impl IntoIterator<Item = u64>) -> Samples {
        let mut samples = Samples::default();
        samples.extend(millis.into_iter().map(Duration::from_millis));
        samples
    }

    #[test]
    fn a_percentile_is_one_of_the_samples() {
        let hundred = samples((1..=100).rev());
        assert_eq!(hundred.percentile(50), Duration::from_millis(50));
        assert_eq!(hundred.percentile(99), Duration::from_millis(99));
        assert_eq!(hundred.percentile(100), Duration::from_millis(100));
        assert_eq!(samples([7]).percentile(99), Duration::from_millis(7));
        assert_eq!(samples([]).median(), Duration::ZERO);
    }

    #[test]
    fn half_of_all_figures_lie_between_the_quartiles() {
        assert_eq!(quartiles((0..100).map(f64::from)), (25.0, 75.0));
        assert_eq!(quartiles([]), (0.0, 0.0));
    }

    #[test]
    fn the_median_of_an_even_number_lies_between_two() {
        assert!((median([4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < f64::EPSILON);
        assert!((median([3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
    }
}
