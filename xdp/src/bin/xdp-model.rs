//! `make xdp-model`: random changes of rows, followed in maps that are memory. After every single write, every reader must
//! find the old answer, the new one, or pass. Fails if one did not.
//!
//! `MODEL_WRITES` (1,000,000) is how many writes are made at least, `MODEL_SEED` (0) where the random numbers begin.

use std::process::ExitCode;

use tandem_core::family::{V4, V6};
use tandem_xdp::random::{Sampled, Walk};

/// The changes of one walk. Then another one begins with empty maps.
const STEPS: usize = 500;

fn main() -> ExitCode {
    let (least, seed) = match (setting("MODEL_WRITES", 1_000_000), setting("MODEL_SEED", 0)) {
        (Ok(least), Ok(seed)) => (least, seed),
        (Err(error), _) | (_, Err(error)) => {
            eprintln!("xdp-model: {error}");
            return ExitCode::FAILURE;
        }
    };
    let mut figures = Figures::default();
    for seed in (seed..).step_by(2) {
        walk::<V4>(seed, &mut figures);
        walk::<V6>(seed + 1, &mut figures);
        if figures.writes >= least {
            break;
        }
    }
    println!("model_writes: {}", figures.writes);
    println!("model_changes: {}", figures.changes);
    println!("model_renewals: {}", figures.renewals);
    println!("model_wrong: {}", figures.wrong);
    if figures.wrong == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

#[derive(Default)]
struct Figures {
    writes: u64,
    changes: usize,
    renewals: usize,
    wrong: usize,
}

fn walk<F: Sampled>(seed: u64, figures: &mut Figures) {
    let mut walk: Walk<F> = Walk::new(seed);
    for step in 0..STEPS {
        figures.changes += 1;
        if let Err(wrong) = walk.step() {
            println!("# seed {seed}, change {step}: {wrong}");
            figures.wrong += 1;
            break;
        }
    }
    figures.writes += walk.writes();
    figures.renewals += walk.renewals();
}

fn setting(name: &str, usual: u64) -> Result<u64, String> {
    match std::env::var(name) {
        Err(_) => Ok(usual),
        Ok(text) => text
            .parse()
            .map_err(|_| format!("{name}={text:?} is not a number that this can use")),
    }
}
