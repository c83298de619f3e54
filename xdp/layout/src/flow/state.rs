//! What a flow is doing.

/// What a record stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// Nothing.
    Free = 0,
    /// Somebody is writing it.
    Claimed = 1,
    /// TCP: the client asked for a connection.
    Asked = 2,
    /// TCP: the endpoint agreed.
    Answered = 3,
    /// TCP: the connection stands.
    Open = 4,
    /// UDP: the client sent.
    Sent = 5,
    /// UDP: the endpoint sent, too.
    Both = 6,
    /// Nothing. Somebody else used the port when XDP was switched on.
    Held = 7,
}

/// Who sent a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The client.
    Forward,
    /// The endpoint.
    Reply,
}

/// The flags of a TCP header, as they stand in its byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpFlags(pub u8);

impl TcpFlags {
    /// FIN
    pub const FIN: u8 = 1;
    /// SYN
    pub const SYN: u8 = 2;
    /// RST
    pub const RST: u8 = 4;
    /// ACK
    pub const ACK: u8 = 16;

    /// Whether it asks for a connection.
    #[inline(always)]
    pub fn is_first(self) -> bool {
        self.0 & (Self::SYN | Self::ACK | Self::RST | Self::FIN) == Self::SYN
    }

    #[inline(always)]
    fn has(self, flag: u8) -> bool {
        self.0 & flag != 0
    }
}

/// The first word of a record:
///
/// | bits | what |
/// |---|---|
/// | 0–7 | the state |
/// | 8 | whether the client ended its side |
/// | 9 | whether the endpoint ended its side |
/// | 10 | whether the endpoint did so first |
/// | 11 | whether the last packet broke the connection off |
/// | 16–23 | the protocol's number in the IP header |
/// | 32–63 | how often the record was claimed |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct StateWord(pub u64);

impl StateWord {
    const CLIENT_ENDED: u64 = 1 << 8;
    const ENDPOINT_ENDED: u64 = 1 << 9;
    const ENDPOINT_FIRST: u64 = 1 << 10;
    const BROKEN: u64 = 1 << 11;
    const PROTOCOL: u32 = 16;
    const CLAIM: u64 = 0xffff_ffff << 32;

    /// The state; none if the word makes no sense.
    #[inline(always)]
    pub fn state(self) -> Option<State> {
        match self.0 as u8 {
            0 => Some(State::Free),
            1 => Some(State::Claimed),
            2 => Some(State::Asked),
            3 => Some(State::Answered),
            4 => Some(State::Open),
            5 => Some(State::Sent),
            6 => Some(State::Both),
            7 => Some(State::Held),
            _ => None,
        }
    }

    /// The protocol.
    #[inline(always)]
    pub fn protocol(self) -> u8 {
        (self.0 >> Self::PROTOCOL) as u8
    }

    /// Whether the record is a flow that packets may be translated by.
    #[inline(always)]
    pub fn is_flow(self) -> bool {
        let state = self.0 as u8;
        State::Asked as u8 <= state && state <= State::Both as u8
    }

    /// Whether the other one has the same claim: nobody took the record over between them.
    #[inline(always)]
    pub fn is_same_claim(self, other: Self) -> bool {
        (self.0 ^ other.0) & Self::CLAIM == 0
    }

    /// The number of the claim.
    #[inline(always)]
    pub fn claim(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// The word of who claims the record now.
    #[inline(always)]
    #[must_use]
    pub fn claimed(self) -> Self {
        Self((self.0 & Self::CLAIM).wrapping_add(1 << 32) | State::Claimed as u64)
    }

    /// The word of the same claim, after everything is written.
    #[inline(always)]
    #[must_use]
    pub fn published(self, state: State, protocol: u8) -> Self {
        Self(self.0 & Self::CLAIM | state as u64 | (protocol as u64) << Self::PROTOCOL)
    }

    /// The word of a record that stands for nothing any more.
    #[inline(always)]
    #[must_use]
    pub fn freed(self) -> Self {
        Self((self.0 & Self::CLAIM).wrapping_add(1 << 32))
    }

    /// Whether both sides ended, or the last packet broke the connection off.
    #[inline(always)]
    pub fn is_closed(self) -> bool {
        self.is_ended() || self.is_broken()
    }

    /// Whether both sides ended.
    #[inline(always)]
    pub fn is_ended(self) -> bool {
        let both = Self::CLIENT_ENDED | Self::ENDPOINT_ENDED;
        self.0 & both == both
    }

    /// Whether one side ended.
    #[inline(always)]
    pub fn is_ending(self) -> bool {
        self.0 & (Self::CLIENT_ENDED | Self::ENDPOINT_ENDED) != 0
    }

    /// Whether the endpoint ended first: then it remembers the connection for a minute.
    #[inline(always)]
    pub fn endpoint_ended_first(self) -> bool {
        self.0 & Self::ENDPOINT_FIRST != 0
    }

    /// Whether the last packet broke the connection off.
    #[inline(always)]
    pub fn is_broken(self) -> bool {
        self.0 & Self::BROKEN != 0
    }

    /// The word after a TCP packet. A packet after one that broke the connection off takes that back: whoever forges one
    /// closes nothing.
    #[inline(always)]
    #[must_use]
    pub fn after_tcp(self, direction: Direction, flags: TcpFlags) -> Self {
        if flags.has(TcpFlags::RST) {
            return Self(self.0 | Self::BROKEN);
        }
        let mut word = self.0 & !Self::BROKEN;
        let state = word as u8;
        let next = match direction {
            Direction::Reply if flags.has(TcpFlags::SYN) && state == State::Asked as u8 => State::Answered as u8,
            Direction::Forward if !flags.has(TcpFlags::SYN) && state == State::Answered as u8 => State::Open as u8,
            _ => state,
        };
        word = word & !0xff | next as u64;
        if flags.has(TcpFlags::FIN) {
            word |= match direction {
                Direction::Forward => Self::CLIENT_ENDED,
                Direction::Reply if word & Self::CLIENT_ENDED == 0 => Self::ENDPOINT_ENDED | Self::ENDPOINT_FIRST,
                Direction::Reply => Self::ENDPOINT_ENDED,
            };
        }
        Self(word)
    }

    /// The word after a UDP datagram.
    #[inline(always)]
    #[must_use]
    pub fn after_udp(self, direction: Direction) -> Self {
        if direction == Direction::Reply && self.0 as u8 == State::Sent as u8 {
            return Self(self.0 & !0xff | State::Both as u64);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYN: u8 = TcpFlags::SYN;
    const ACK: u8 = TcpFlags::ACK;
    const FIN: u8 = TcpFlags::FIN;
    const RST: u8 = TcpFlags::RST;

    fn after(packets: &[(Direction, u8)]) -> StateWord {
        let first = StateWord::default().claimed().published(State::Asked, 6);
        let step = |word: StateWord, (direction, flags): &(Direction, u8)| word.after_tcp(*direction, TcpFlags(*flags));
        packets.iter().fold(first, step)
    }

    use Direction::{Forward, Reply};

    const OPENED: [(Direction, u8); 2] = [(Reply, SYN | ACK), (Forward, ACK)];

    #[test]
    fn a_connection_opens_when_both_sides_agreed() {
        assert_eq!(after(&[]).state(), Some(State::Asked));
        assert_eq!(after(&[(Forward, ACK)]).state(), Some(State::Asked));
        assert_eq!(after(&OPENED[..1]).state(), Some(State::Answered));
        assert_eq!(after(&OPENED).state(), Some(State::Open));
    }

    #[test]
    fn it_is_closed_when_both_sides_ended_and_not_before() {
        let with = |more: &[(Direction, u8)]| after(&[&OPENED, more].concat());
        assert!(!with(&[(Forward, FIN | ACK)]).is_closed());
        assert!(with(&[(Forward, FIN | ACK)]).is_ending());
        let client_first = with(&[(Forward, FIN | ACK), (Reply, FIN | ACK), (Forward, ACK)]);
        assert!(client_first.is_closed() && !client_first.endpoint_ended_first());
        let endpoint_first = with(&[(Reply, FIN | ACK), (Forward, FIN | ACK), (Reply, ACK)]);
        assert!(endpoint_first.is_closed() && endpoint_first.endpoint_ended_first());
    }

    #[test]
    fn a_packet_after_a_reset_takes_it_back() {
        for forger in [Forward, Reply] {
            let broken = after(&[OPENED[0], OPENED[1], (forger, RST)]);
            assert!(broken.is_closed());
            for witness in [Forward, Reply] {
                let again = broken.after_tcp(witness, TcpFlags(ACK));
                assert!(!again.is_closed() && again.state() == Some(State::Open));
            }
        }
    }

    #[test]
    fn each_claim_is_told_from_the_one_before() {
        let first = StateWord::default().claimed();
        let flow = first.published(State::Asked, 6);
        assert!(first.is_same_claim(flow) && flow.is_flow() && !first.is_flow());
        assert_eq!(flow.protocol(), 6);
        for later in [flow.claimed(), flow.freed()] {
            assert!(!later.is_same_claim(flow) && !later.is_flow());
        }
        assert!(!StateWord(u64::MAX).claimed().is_same_claim(StateWord(u64::MAX)));
        assert_eq!(StateWord(u64::MAX).state(), None);
    }

    #[test]
    fn datagrams_of_both_sides_are_told_from_those_of_one() {
        let sent = StateWord::default().claimed().published(State::Sent, 17);
        assert_eq!(sent.after_udp(Forward).state(), Some(State::Sent));
        assert_eq!(sent.after_udp(Reply).state(), Some(State::Both));
        assert_eq!(sent.after_udp(Reply).after_udp(Forward).state(), Some(State::Both));
    }
}
