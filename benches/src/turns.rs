//! Rates that are measured in turns, because the machine's own speed changes from second to second.

use anyhow::Result;

use crate::report::{median, quartiles};

/// The rates of one round each, in the order of what was measured.
#[derive(Clone, Debug)]
pub struct Turns<const N: usize>(Vec<[f64; N]>);

impl<const N: usize> Turns<N> {
    /// Measures each of them once a round. Who comes first changes with the rounds, and so does the direction, because each one
    /// meets the leftovers of the one before.
    pub fn take(rounds: usize, mut measure: impl FnMut(usize) -> Result<f64>) -> Result<Self> {
        let mut all = Vec::with_capacity(rounds);
        for round in 0..rounds {
            let mut rates = [0.0; N];
            for turn in 0..N {
                let which = if round % 2 == 0 { round + turn } else { round + N - turn } % N;
                rates[which] = measure(which)?;
            }
            all.push(rates);
        }
        Ok(Self(all))
    }

    /// The median of one.
    pub fn rate(&self, which: usize) -> f64 {
        median(self.0.iter().map(|rates| rates[which]))
    }

    /// The median of the rounds' ratios: one to another.
    pub fn ratio(&self, which: usize, to: usize) -> f64 {
        median(self.ratios(which, to))
    }

    /// The quartiles of the rounds' ratios. They show how quiet the machine was.
    pub fn spread(&self, which: usize, to: usize) -> (f64, f64) {
        quartiles(self.ratios(which, to))
    }

    fn ratios(&self, which: usize, to: usize) -> impl Iterator<Item = f64> + '_ {
        self.0.iter().map(move |rates| rates[which] / rates[to])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_comes_once_a_round_and_another_one_first() {
        let mut order = Vec::new();
        let turns: Turns<3> = Turns::take(3, |which| {
            order.push(which);
            Ok(f64::from(u8::try_from(which + 1)?))
        })
        .unwrap();
        assert_eq!(order, [0, 1, 2, 1, 0, 2, 2, 0, 1]);
        assert!((turns.ratio(2, 0) - 3.0).abs() < f64::EPSILON);
        assert!((turns.rate(1) - 2.0).abs() < f64::EPSILON);
    }
}
