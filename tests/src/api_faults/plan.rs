//! Which cases there are, as the lengths of a history without a fault say.

use std::collections::BTreeMap;

use super::case::{Case, Encoding, Http, Kind, Lists, Phase, Way};
use super::fault::{Fault, Place};

/// The lengths of the frames of each kind and phase, for each way of a server to speak.
pub(super) type Lengths = BTreeMap<(Encoding, Lists), BTreeMap<(Kind, Phase), Vec<usize>>>;

/// The faults at bytes. They take turns from byte to byte.
const TURNS: [Fault; 7] = [
    Fault::Reset,
    Fault::End,
    Fault::Break,
    Fault::PauseReset,
    Fault::GoAway,
    Fault::PauseEnd,
    Fault::PauseRest,
];
/// In all ways to speak but the usual one, only each of so many bytes has a fault.
const RARELY: usize = 97;

/// Every case: a fault at every so many bytes, every fault at every frame, and every fault of answers and connections.
pub(super) fn all(lengths: &Lengths, every: usize) -> Vec<Case> {
    let mut cases = Vec::new();
    for way in Way::all() {
        let Some(lengths) = lengths.get(&(way.encoding, way.lists)) else {
            continue;
        };
        let usual = way == Way::USUAL;
        for (&(kind, phase), frames) in lengths {
            let (bytes, step) = (frames.iter().sum(), if usual { every } else { every * RARELY });
            let case = |fault, at| Case {
                way,
                phase,
                kind,
                fault,
                at,
            };
            cases.extend(
                (0..bytes)
                    .step_by(step)
                    .map(|at| case(TURNS[at / step % TURNS.len()], at)),
            );
            let at_frames = Fault::ALL.iter().filter(|fault| fault.place() == Place::Frame);
            for (number, fault) in at_frames.enumerate() {
                let one = number % frames.len();
                let places = match fault {
                    Fault::EndTwice => frames.len() - 1..frames.len(),
                    _ if usual => 0..frames.len(),
                    _ => one..one + 1,
                };
                cases.extend(
                    places
                        .map(|at| case(*fault, at))
                        .filter(|case| makes_sense(case, frames)),
                );
            }
            for (number, fault) in Fault::ALL.iter().enumerate() {
                // In the other ways to speak, the kinds take turns.
                let turn = usual || Kind::ALL[number % Kind::ALL.len()] == kind;
                if turn && matches!(fault.place(), Place::Answer | Place::Connection) {
                    cases.extend(Some(case(*fault, number % 2)).filter(|case| makes_sense(case, frames)));
                }
            }
            for at in [0, 3, bytes / 2, bytes - 1] {
                let silence = case(Fault::Silence, at);
                cases.extend(Some(silence).filter(|case| (usual || at == 3) && makes_sense(case, frames)));
            }
        }
    }
    cases.retain(|case| case.way.http == Http::Two || case.fault != Fault::GoAway);
    cases.dedup();
    cases
}

/// At least one case for each fault and phase, in ways to speak that take turns.
pub(super) fn short(lengths: &Lengths) -> Vec<Case> {
    let all = all(lengths, 5);
    let ways: Vec<Way> = Way::all().collect();
    let mut chosen = Vec::new();
    for fault in Fault::ALL {
        for phase in [Phase::List, Phase::Watch] {
            let fits = |case: &&Case| case.fault == *fault && case.phase == phase && !case.is_long();
            let fitting: Vec<&Case> = all.iter().filter(fits).collect();
            let turn = chosen.len();
            let in_turn = (0..ways.len()).map(|ahead| ways[(turn + ahead) % ways.len()]);
            let of_mode = |way| {
                let here: Vec<_> = fitting.iter().filter(|case| case.way == way).collect();
                here.get(turn * 7 % here.len().max(1)).copied()
            };
            chosen.extend(in_turn.into_iter().find_map(of_mode).map(|case| **case));
        }
    }
    chosen
}

/// Whether a client can notice the fault, or whether it does no harm.
fn makes_sense(case: &Case, frames: &[usize]) -> bool {
    let (in_list, in_pieces) = (case.phase == Phase::List, case.way.lists != Lists::Stream);
    match case.fault {
        Fault::Lie | Fault::Nothing => false,
        // A page and a cached list have no frames.
        fault if fault.place() == Place::Frame && in_list && in_pieces => false,
        // If the bookmark that ends a list came too early, the list would be complete for any client.
        Fault::Swap if in_list => case.at + 2 < frames.len(),
        Fault::Swap => case.at + 1 < frames.len(),
        Fault::Twice => !in_list || case.at + 1 < frames.len(),
        Fault::EndTwice => in_list && case.at + 1 == frames.len(),
        // Lines in JSON have no lengths.
        Fault::Huge => case.way.encoding == Encoding::Protobuf,
        // A silent watch is noticed after minutes, if bookmarks came. A watch of another kind is noticed when an object
        // comes.
        Fault::Silence | Fault::OtherKind => in_list,
        // A kind that may be missing and may not be listed counts as empty. It is asked for again after minutes.
        Fault::Answer403 => !(case.kind == Kind::ServiceCidr && in_list && in_pieces),
        // A Tandem that starts must have its files.
        Fault::EmptyToken | Fault::EmptyAuthority => !in_list,
        Fault::OnlyHttp1 => !in_list && case.way.http == Http::Two,
        Fault::NoHttp2 => case.way.http == Http::Two,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lengths() -> Lengths {
        let mut lengths = Lengths::new();
        for way in Way::all() {
            let kinds = lengths.entry((way.encoding, way.lists)).or_default();
            for kind in Kind::ALL {
                kinds.insert((kind, Phase::List), vec![40, 50, 60]);
                kinds.insert((kind, Phase::Watch), vec![70, 30]);
            }
        }
        lengths
    }

    #[test]
    fn every_byte_has_a_case_and_every_fault_has_one_in_every_phase_where_it_can_be() {
        let all = all(&lengths(), 1);
        for kind in Kind::ALL {
            for (phase, bytes) in [(Phase::List, 150), (Phase::Watch, 100)] {
                for at in 0..bytes {
                    let here = |case: &&Case| {
                        (case.way, case.kind, case.phase, case.at) == (Way::USUAL, kind, phase, at)
                            && case.fault.place() == Place::Byte
                    };
                    assert!(all.iter().any(|case| here(&case)), "{kind:?} {phase:?} {at}");
                }
            }
        }
        let short = short(&lengths());
        for fault in Fault::ALL
            .iter()
            .filter(|fault| !matches!(fault, Fault::Lie | Fault::Nothing))
        {
            assert!(all.iter().any(|case| case.fault == *fault), "{fault:?}");
            let is_long = matches!(fault, Fault::Silence | Fault::EndTwice);
            assert!(is_long || short.iter().any(|case| case.fault == *fault), "{fault:?}");
        }
        for way in Way::all() {
            assert!(short.iter().any(|case| case.way == way), "{way:?}");
        }
    }
}
