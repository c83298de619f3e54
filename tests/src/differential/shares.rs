//! How often each endpoint of a list answered, in each world.

use std::collections::BTreeMap;
use std::fmt;

use super::case::Case;
use super::chi;
use super::spec::Spec;

/// A share that is less probable than this is wrong.
const LEAST: f64 = 0.001;

/// A list of endpoints, as it was until it changed.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct List {
    number: u8,
    life: u32,
    is_six: bool,
    is_udp: bool,
    set: Vec<usize>,
}

/// The answers of both worlds.
#[derive(Debug, Default)]
pub(super) struct Shares {
    counts: [BTreeMap<List, Vec<u64>>; 2],
}

/// What the shares say.
#[derive(Clone, Debug, Default)]
pub(super) struct Verdict {
    /// How probable it is that chance alone gives all shares of a world: of nft and of xdp.
    together: [f64; 2],
    /// How many lists had enough answers.
    lists: [usize; 2],
    /// What is wrong, a line each.
    pub(super) wrong: Vec<String>,
}

impl Shares {
    /// Notes who answered a new client, unless the client's address decides that.
    pub(super) fn note(&mut self, world: usize, case: &Case, spec: &Spec, set: &[usize], by: usize) {
        let Some(at) = set.iter().position(|pod| *pod == by) else {
            return;
        };
        if spec.affinity {
            return;
        }
        let list = List {
            number: spec.number,
            life: spec.life,
            is_six: case.family == crate::addresses::Ip::V6,
            is_udp: case.is_udp,
            set: set.to_vec(),
        };
        let counts = self.counts[world].entry(list).or_insert_with(|| vec![0; set.len()]);
        counts[at] += 1;
    }

    /// Judges each list by itself, and all of a world together.
    pub(super) fn verdict(&self) -> Verdict {
        let mut verdict = Verdict::default();
        let tests = |counts: &BTreeMap<List, Vec<u64>>| {
            let test =
                |(list, counts): (&List, &Vec<u64>)| Some((list.clone(), counts.clone(), chi::from_equal(counts)?));
            counts.iter().filter_map(test).collect::<Vec<_>>()
        };
        let tests = self.counts.each_ref().map(tests);
        // The more lists are looked at, the more of them are strange by chance.
        let least = LEAST
            / f64::from(
                u32::try_from(tests[0].len() + tests[1].len())
                    .unwrap_or(u32::MAX)
                    .max(1),
            );
        for (world, name) in ["nft", "xdp"].into_iter().enumerate() {
            let (mut sum, mut freedom) = (0.0, 0);
            for (list, counts, (value, more)) in &tests[world] {
                sum += value;
                freedom += more;
                let probability = chi::probability(*value, *more);
                if probability < least {
                    let wrong =
                        format!("{name}: shares {counts:?} of {list:?} have a probability of {probability:.1e}");
                    verdict.wrong.push(wrong);
                }
            }
            verdict.together[world] = chi::probability(sum, freedom);
            verdict.lists[world] = tests[world].len();
            if verdict.together[world] < LEAST {
                let probability = verdict.together[world];
                verdict.wrong.push(format!(
                    "{name}: all shares together have a probability of {probability:.1e}"
                ));
            }
        }
        verdict
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ([nft, xdp], [nfts, xdps]) = (self.together, self.lists);
        write!(
            formatter,
            "# shares: nft p {nft:.3} of {nfts} lists, xdp p {xdp:.3} of {xdps} lists"
        )
    }
}
