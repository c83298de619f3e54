//! The chains that always exist: their names and their hooks. Their rules are in `fixed`.

use tandem_core::plane::Place;

use crate::elements::verdict::Verdict;
use crate::rules::STAND_IN;

/// Where the kernel asks a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hook {
    pub(crate) kind: &'static str,
    pub(crate) number: u32,
    pub(crate) priority: i32,
}

/// The kernel's numbers of hooks.
const PREROUTING: u32 = 0;
const INPUT: u32 = 1;
pub(crate) const FORWARD: u32 = 2;
const OUTPUT: u32 = 3;
const POSTROUTING: u32 = 4;

const fn hook(kind: &'static str, number: u32, priority: i32) -> Hook {
    Hook { kind, number, priority }
}

/// A chain that always exists. In this list, a chain comes after those that it leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum FixedChain {
    RejectConnection,
    Refuse,
    Discard,
    MarkForMasquerade,
    ClusterTraffic,
    LocalProcessToExternal,
    PodsToExternal,
    ExternalTraffic,
    ServiceTraffic,
    SourceRanges,
    Translated,
    Refused,
    Unassigned,
    FirstPacket,
    PreroutingRanges,
    OutputRanges,
    Prerouting,
    Output,
    InputFilter,
    ForwardFilter,
    OutputFilter,
    Postrouting,
}

impl FixedChain {
    /// All of them, in the order in which they are made.
    pub(crate) const ALL: [Self; 22] = [
        Self::RejectConnection,
        Self::Refuse,
        Self::Discard,
        Self::MarkForMasquerade,
        Self::ClusterTraffic,
        Self::LocalProcessToExternal,
        Self::PodsToExternal,
        Self::ExternalTraffic,
        Self::ServiceTraffic,
        Self::SourceRanges,
        Self::Translated,
        Self::Refused,
        Self::Unassigned,
        Self::FirstPacket,
        Self::PreroutingRanges,
        Self::OutputRanges,
        Self::Prerouting,
        Self::Output,
        Self::InputFilter,
        Self::ForwardFilter,
        Self::OutputFilter,
        Self::Postrouting,
    ];

    /// The name in the table.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::RejectConnection => "reject-connection",
            Self::Refuse => "refuse",
            Self::Discard => "discard",
            Self::MarkForMasquerade => "mark-for-masquerade",
            Self::ClusterTraffic => "cluster-traffic",
            Self::LocalProcessToExternal => "local-process-to-external",
            Self::PodsToExternal => "pods-to-external",
            Self::ExternalTraffic => "external-traffic",
            Self::ServiceTraffic => "service-traffic",
            Self::SourceRanges => "source-ranges",
            Self::Translated => "translated",
            Self::Refused => "refused",
            Self::Unassigned => "unassigned",
            Self::FirstPacket => "first-packet",
            Self::PreroutingRanges => "prerouting-ranges",
            Self::OutputRanges => "output-ranges",
            Self::Prerouting => "prerouting",
            Self::Output => "output",
            Self::InputFilter => "input-filter",
            Self::ForwardFilter => "forward-filter",
            Self::OutputFilter => "output-filter",
            Self::Postrouting => "postrouting",
        }
    }

    /// Its hook, if it has one. In second place, the chains that translate come right after those of kube-proxy. The
    /// kernel asks no further chain about a connection that one of them has translated.
    pub(crate) const fn hook(self, place: Place) -> Option<Hook> {
        let later = match place {
            Place::First => 0,
            Place::Second => 1,
        };
        Some(match self {
            Self::PreroutingRanges => hook("filter", PREROUTING, -110),
            Self::OutputRanges => hook("filter", OUTPUT, -110),
            Self::Prerouting => hook("nat", PREROUTING, -100 + later),
            Self::Output => hook("nat", OUTPUT, -100 + later),
            Self::InputFilter => hook("filter", INPUT, 0),
            Self::ForwardFilter => hook("filter", FORWARD, 0),
            Self::OutputFilter => hook("filter", OUTPUT, 0),
            Self::Postrouting => hook("nat", POSTROUTING, 100 + later),
            Self::RejectConnection
            | Self::Refuse
            | Self::Discard
            | Self::MarkForMasquerade
            | Self::ClusterTraffic
            | Self::LocalProcessToExternal
            | Self::PodsToExternal
            | Self::ExternalTraffic
            | Self::ServiceTraffic
            | Self::SourceRanges
            | Self::Translated
            | Self::Refused
            | Self::Unassigned
            | Self::FirstPacket => return None,
        })
    }

    /// The chain of this name.
    pub(crate) fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|chain| chain.name() == name)
    }

    /// The chains with a hook of type nat.
    pub(crate) fn of_nat(place: Place) -> impl Iterator<Item = (Self, Hook)> {
        let hooked = Self::ALL
            .into_iter()
            .filter_map(move |chain| Some((chain, chain.hook(place)?)));
        hooked.filter(|(_, hook)| hook.kind == "nat")
    }

    /// The name of the chain that stands in for it while it is registered anew.
    pub(crate) fn stand_in(self) -> String {
        format!("{}{STAND_IN}", self.name())
    }

    /// A verdict that leads there. The packet comes back.
    pub(super) fn jump(self) -> Verdict<'static> {
        Verdict::Jump(self.name())
    }

    /// A verdict that leads there. The packet does not come back.
    pub(super) fn goto(self) -> Verdict<'static> {
        Verdict::Goto(self.name())
    }
}
