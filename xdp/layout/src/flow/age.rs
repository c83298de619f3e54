//! When a record may be given to another flow.

use super::state::{State, StateWord};

/// How long flows live without a packet, in seconds. They are conntrack's settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// UDP of which only the client sent: `nf_conntrack_udp_timeout`.
    pub udp: u32,
    /// UDP of which both sides sent: `nf_conntrack_udp_timeout_stream`.
    pub udp_stream: u32,
    /// TCP that stands: `nf_conntrack_tcp_timeout_established`.
    pub established: u32,
    /// TCP of which one side ended: `nf_conntrack_tcp_timeout_close_wait`.
    pub ending: u32,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            udp: 30,
            udp_stream: 120,
            established: 86_400,
            ending: 3600,
        }
    }
}

/// A connection that both sides ended: its last packets may be under way.
const ENDED: u32 = 2;
/// The same if the endpoint ended first: it takes nothing else from this port meanwhile (TIME_WAIT).
const TIME_WAIT: u32 = 60;
/// A connection that was broken off. It is conntrack's time, too (`nf_conntrack_tcp_timeout_close`).
const BROKEN: u32 = 10;
/// A connection that the client asked for, and that does not stand yet.
const HALF_OPEN: u32 = 3;

/// How gladly a record is taken: the smallest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Claimable {
    /// It stands for nothing.
    Free = 0,
    /// Its connection is over.
    Closed = 1,
    /// Nobody used it for as long as conntrack would wait.
    Idle = 2,
    /// The client asked, and went no further.
    HalfOpen = 3,
    /// A packet broke it off, which may have been forged.
    Broken = 4,
}

/// Whether a record that was used `idle` seconds ago may be given to another flow.
#[inline(always)]
pub fn claimable(word: StateWord, idle: u32, times: &Times) -> Option<Claimable> {
    let (after, rank) = match word.state()? {
        State::Free => (0, Claimable::Free),
        State::Claimed | State::Held => return None,
        State::Sent => (times.udp, Claimable::Idle),
        State::Both => (times.udp_stream, Claimable::Idle),
        State::Asked | State::Answered | State::Open if word.is_ended() => (
            if word.endpoint_ended_first() { TIME_WAIT } else { ENDED },
            Claimable::Closed,
        ),
        State::Asked | State::Answered | State::Open if word.is_broken() => (BROKEN, Claimable::Broken),
        State::Asked | State::Answered => (HALF_OPEN, Claimable::HalfOpen),
        State::Open if word.is_ending() => (times.ending, Claimable::Idle),
        State::Open => (times.established, Claimable::Idle),
    };
    // A time of `n` whole seconds is over when the number of seconds rose by more than `n`.
    if after == 0 || idle > after { Some(rank) } else { None }
}

/// Whether a flow is over for its own client: what the client sends next begins another one.
#[inline(always)]
pub fn is_over(word: StateWord, idle: u32, times: &Times) -> bool {
    match word.state() {
        Some(State::Sent) => idle > times.udp,
        Some(State::Both) => idle > times.udp_stream,
        Some(State::Asked | State::Answered | State::Open) => word.is_closed(),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::super::state::{Direction, TcpFlags};
    use super::*;

    fn tcp(state: State) -> StateWord {
        StateWord::default().claimed().published(state, 6)
    }

    fn after(word: StateWord, direction: Direction, flags: u8) -> StateWord {
        word.after_tcp(direction, TcpFlags(flags))
    }

    #[test]
    fn a_record_is_given_away_when_its_time_is_over_and_not_before() {
        let times = Times::default();
        let open = tcp(State::Open);
        let client_first = after(
            after(open, Direction::Forward, TcpFlags::FIN),
            Direction::Reply,
            TcpFlags::FIN,
        );
        let endpoint_first = after(
            after(open, Direction::Reply, TcpFlags::FIN),
            Direction::Forward,
            TcpFlags::FIN,
        );
        let broken = after(open, Direction::Forward, TcpFlags::RST);
        let ending = after(open, Direction::Forward, TcpFlags::FIN);
        let udp = |state| StateWord::default().claimed().published(state, 17);
        for (word, last, rank) in [
            (udp(State::Sent), 30, Claimable::Idle),
            (udp(State::Both), 120, Claimable::Idle),
            (tcp(State::Asked), 3, Claimable::HalfOpen),
            (tcp(State::Answered), 3, Claimable::HalfOpen),
            (open, 86_400, Claimable::Idle),
            (ending, 3600, Claimable::Idle),
            (client_first, 2, Claimable::Closed),
            (endpoint_first, 60, Claimable::Closed),
            (broken, 10, Claimable::Broken),
        ] {
            assert_eq!(claimable(word, last, &times), None, "{word:?}");
            assert_eq!(claimable(word, last + 1, &times), Some(rank), "{word:?}");
        }
        assert_eq!(claimable(StateWord::default(), 0, &times), Some(Claimable::Free));
        for never in [StateWord::default().claimed(), udp(State::Held), StateWord(u64::MAX)] {
            assert_eq!(claimable(never, u32::MAX, &times), None, "{never:?}");
        }
    }
}
