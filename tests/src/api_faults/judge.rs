//! What a case's log and requests must not be.

use super::case::{Case, Kind, Naming};
use super::fault::Fault;
use super::session::Figures;

/// More requests than this for one kind during one case are no backoff.
const MOST_REQUESTS: usize = 10;

/// What Tandem said about this kind, each time that it could not be read, or that its versions went backwards.
pub(super) fn named(kind: Kind, log: &[String]) -> Vec<&str> {
    let backwards = format!("went backwards: listing again kind=\"{}\"", kind.name());
    let backwards = log.iter().filter(|line| line.contains(&backwards)).map(String::as_str);
    let of_kind = format!("kind={}", kind.name());
    let lines = log.iter().filter(|line| line.split(' ').any(|word| word == of_kind));
    lines
        .filter_map(|line| Some(line.split_once("cannot be read: ")?.1))
        .chain(backwards)
        .collect()
}

/// What the log of a case must not contain.
pub(super) fn log(case: &Case, lines: &[String]) -> Vec<String> {
    let mut wrong: Vec<String> = crate::tandem::errors(lines);
    for kind in Kind::ALL {
        let mut named = named(kind, lines);
        if case.naming() == Naming::Never && !named.is_empty() {
            wrong.push(format!("{} was said to be lost", kind.name()));
        }
        // A server that speaks the wrong HTTP for a while ends connections in two ways, so two causes may take turns.
        if case.fault != Fault::NoHttp2 {
            named.sort_unstable();
        }
        if named.windows(2).any(|pair| pair[0] == pair[1]) {
            wrong.push(format!("the same was said twice of {}", kind.name()));
        }
    }
    wrong
}

/// What the proxy must not have seen.
pub(super) fn figures(figures: &Figures) -> Vec<String> {
    let mut wrong = Vec::new();
    if figures.nameless > 0 {
        wrong.push(format!("{} requests had no token", figures.nameless));
    }
    for (kind, count) in figures.requests.iter().filter(|(_, count)| **count > MOST_REQUESTS) {
        wrong.push(format!("{count} requests for {}", kind.name()));
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::super::case::{Phase, Way};
    use super::*;

    fn case(fault: Fault) -> Case {
        Case {
            way: Way::USUAL,
            phase: Phase::Watch,
            kind: Kind::Service,
            fault,
            at: 0,
        }
    }

    #[test]
    fn a_fault_that_is_named_twice_or_needlessly_is_wrong() {
        let line = "2026-01-01T00:00:00Z  WARN tandem::engine: cannot be read: cannot watch services: x kind=Service";
        let once = [line.to_owned()];
        assert_eq!(named(Kind::Service, &once).len(), 1);
        assert!(named(Kind::Node, &once).is_empty());
        assert!(log(&case(Fault::Reset), &once).is_empty());
        assert_eq!(log(&case(Fault::PauseRest), &once).len(), 1);
        assert_eq!(log(&case(Fault::Reset), &[line.to_owned(), line.to_owned()]).len(), 1);
        let other = line.replace("services: x", "services: y");
        let turns = [line.to_owned(), other, line.to_owned()];
        assert_eq!(log(&case(Fault::Reset), &turns).len(), 1);
        assert!(log(&case(Fault::NoHttp2), &turns).is_empty());
        assert_eq!(log(&case(Fault::NoHttp2), &turns.map(|_| line.to_owned())).len(), 1);
        let panicked = ["thread 'main' (7) panicked at src/main.rs:1:1:".to_owned()];
        assert_eq!(log(&case(Fault::Reset), &panicked).len(), 1);
    }

    #[test]
    fn requests_without_a_pause_or_a_token_are_wrong() {
        let mut figures = Figures::default();
        figures.requests.insert(Kind::Node, MOST_REQUESTS);
        assert!(super::figures(&figures).is_empty());
        figures.requests.insert(Kind::Node, MOST_REQUESTS + 1);
        figures.nameless = 1;
        assert_eq!(super::figures(&figures).len(), 2);
    }
}
