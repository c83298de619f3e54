//! The rules of the chains that always exist. They look into the sets for what Services ask for.

use tandem_core::family::IpFamily;
use tandem_core::id::{LOCAL_BIT, TAG};
use tandem_core::plane::{Ahead, DetectLocal, Place, RuleSettings, XDP_PORTS};
use tandem_core::row::Protocol;

use crate::elements::field::Field;
use crate::elements::sets::{FRONTEND_KEY, Set};
use crate::elements::verdict::Verdict;
use crate::rules::action::Reject;
use crate::rules::expr::ExprList;
use crate::rules::fixed_chain::FixedChain;
use crate::rules::{PICK, Rules};
use crate::wire::batch::Batch;

/// Masks away the bit that selects the endpoints on this node.
const ALL_ENDPOINTS: u32 = !LOCAL_BIT;
/// The kernel's type of an address that belongs to this host (`RTN_LOCAL`).
const LOCAL: u32 = 2;
/// The bit of a connection's status that is set if its destination is translated (`IPS_DST_NAT`).
const DNAT: u32 = 0x20;

/// Writes the rules of a fixed chain into the chain of this name.
pub(crate) fn encode_fixed(batch: &mut Batch, family: IpFamily, chain: FixedChain, name: &str, settings: RuleSettings) {
    let mut rules = Rules {
        batch,
        chain: name,
        family,
    };
    match chain {
        FixedChain::RejectConnection => {
            rules.rule(|r| r.is_protocol(Protocol::Tcp).reject(Reject::Reset));
            rules.rule(|r| r.reject(Reject::Unreachable));
        }
        FixedChain::Refuse => {
            let bit = settings.masquerade_mark();
            rules.rule(|r| {
                r.load_mark().bits_at(!bit, bit, 0).set_mark().verdict(Verdict::Accept);
            });
        }
        FixedChain::Discard => rules.rule(|r| r.verdict(Verdict::Drop)),
        FixedChain::MarkForMasquerade => {
            let bit = settings.masquerade_mark();
            rules.rule(|r| {
                r.load_mark().bits_at(!bit, bit, 0).set_mark();
            });
        }
        FixedChain::ClusterTraffic => cluster_traffic(&mut rules, settings),
        FixedChain::LocalProcessToExternal => {
            rules.jump(FixedChain::MarkForMasquerade.name());
            rules.keep_bits(ALL_ENDPOINTS);
        }
        FixedChain::PodsToExternal => {
            rules.keep_bits(ALL_ENDPOINTS);
            pick(&mut rules);
        }
        FixedChain::ExternalTraffic => external_traffic(&mut rules, settings),
        FixedChain::ServiceTraffic => service_traffic(&mut rules),
        FixedChain::SourceRanges => rules.rule(|r| {
            r.is_new().load(FRONTEND_KEY).is_in(Set::RestrictedFrontends);
            r.load(Set::AllowedSources.layout().key)
                .is_not_in(Set::AllowedSources)
                .verdict(Verdict::Drop);
        }),
        FixedChain::Translated => translated(&mut rules),
        FixedChain::Refused => frontends(&mut rules, [FixedChain::RejectConnection; 3]),
        FixedChain::Unassigned => unassigned(&mut rules),
        FixedChain::FirstPacket => first_packet(&mut rules, settings),
        FixedChain::PreroutingRanges => {
            if settings.drop_invalid {
                drop_invalid(&mut rules);
            }
            source_ranges(&mut rules, settings, Place::First);
        }
        FixedChain::OutputRanges => source_ranges(&mut rules, settings, Place::First),
        // A reset that this host sends as an answer passes these chains too. It is not the first packet of a
        // connection.
        FixedChain::Prerouting | FixedChain::Output => {
            source_ranges(&mut rules, settings, Place::Second);
            rules.rule(|r| {
                r.is_original().verdict(FixedChain::ServiceTraffic.jump());
            });
        }
        FixedChain::InputFilter | FixedChain::ForwardFilter | FixedChain::OutputFilter => {
            rules.rule(|r| r.is_new().verdict(FixedChain::FirstPacket.jump()));
        }
        FixedChain::Postrouting => postrouting(&mut rules, settings),
    }
}

/// Drops what a Service's source ranges do not allow. In first place, that is done in a chain before the translation, so
/// that it is done whatever other programs translate. In second place, only what the other program did not translate
/// may be dropped, so it is done in the chains that translate.
fn source_ranges(rules: &mut Rules<'_, '_>, settings: RuleSettings, place: Place) {
    if settings.place == place {
        rules.jump(FixedChain::SourceRanges.name());
    }
}

fn cluster_traffic(rules: &mut Rules<'_, '_>, settings: RuleSettings) {
    if settings.masquerade_all {
        rules.jump(FixedChain::MarkForMasquerade.name());
    } else if settings.detect_local != DetectLocal::Nothing {
        rules.rule(|r| {
            r.is_pod(settings.detect_local, false)
                .verdict(FixedChain::MarkForMasquerade.jump());
        });
    }
    pick(rules);
}

/// Looks up the number of the Service's pick, writes it into the packet's priority and jumps to the chain of that
/// pick. Only a new pick changes the map with the verdicts, because for each element with a verdict the kernel walks
/// all that the rules can reach.
///
/// A packet may meet a change half way: each lookup sees the sets as they are at that moment. A packet that has a
/// frontend and comes back without an endpoint is dropped, and its sender tries again. If it passed, it would leave
/// untranslated, and so would every later packet from the same port.
fn pick(rules: &mut Rules<'_, '_>) {
    rules.rule(|r| {
        r.load(&[Field::Priority]).map(Set::Services).set_priority();
    });
    rules.rule(|r| {
        r.load(&[Field::Priority]).bits(PICK).vmap(Set::Picks);
    });
    rules.rule(|r| r.verdict(Verdict::Drop));
}

fn external_traffic(rules: &mut Rules<'_, '_>, settings: RuleSettings) {
    rules.rule(|r| {
        r.load(&[Field::Priority])
            .bits(LOCAL_BIT)
            .is(0)
            .verdict(FixedChain::MarkForMasquerade.jump());
    });
    // This comes before the question whether the source is the node itself. The address of a pod may be both, and
    // then it counts as a pod.
    if settings.detect_local != DetectLocal::Nothing {
        rules.rule(|r| {
            r.is_pod(settings.detect_local, true)
                .verdict(FixedChain::PodsToExternal.goto());
        });
    }
    rules.rule(|r| {
        r.load_source_type()
            .is(LOCAL)
            .verdict(FixedChain::LocalProcessToExternal.jump());
    });
    pick(rules);
}

/// kube-proxy's iptables mode drops these packets in the hook `forward`. Here a chain does it that has to exist
/// anyway, and it spares packets to the node itself.
fn drop_invalid(rules: &mut Rules<'_, '_>) {
    const INVALID: u32 = 1;
    rules.rule(|r| {
        r.load_ct_state().bits(INVALID).is_not(0);
        r.load_destination_type().is_not(LOCAL).verdict(Verdict::Drop);
    });
}

fn service_traffic(rules: &mut Rules<'_, '_>) {
    rules.rule(|r| {
        r.load(&[Field::Priority]).is_not(0);
        r.keep_priority();
    });
    frontends(
        rules,
        [
            FixedChain::ClusterTraffic,
            FixedChain::ExternalTraffic,
            FixedChain::ExternalTraffic,
        ],
    );
}

/// Leads packets to a Service to these chains: to the first by a ClusterIP, to the second by another address, to the
/// third by a nodePort.
fn frontends(rules: &mut Rules<'_, '_>, [cluster, external, node_port]: [FixedChain; 3]) {
    for (set, chain) in [(Set::ClusterFrontends, cluster), (Set::ExternalFrontends, external)] {
        rules.rule(|r| r.load(FRONTEND_KEY).map(set).set_priority().verdict(chain.goto()));
    }
    rules.rule(|r| {
        r.load(&[Field::Daddr])
            .is_in(Set::NodeAddresses)
            .load(&[Field::Protocol, Field::Port]);
        r.map(Set::NodePorts).set_priority().verdict(node_port.goto());
    });
}

/// Gives a packet that carried a service id its own priority back. For a packet that the kernel forwards over IPv4,
/// the kernel has set a new priority meanwhile, by the type of service.
fn translated(rules: &mut Rules<'_, '_>) {
    rules.rule(|r| {
        r.load(&[Field::Priority])
            .bits(TAG)
            .is_not(TAG)
            .verdict(Verdict::Return);
    });
    rules.rule(|r| {
        r.load_number(0).set_priority();
    });
    rules.rule(|r| {
        r.load(&[Field::Connection]).map(Set::Priorities).set_priority();
    });
}

/// Answers for addresses in the ranges of ClusterIPs that belong to no Service. An address of this host is spared,
/// even inside such a range.
fn unassigned(rules: &mut Rules<'_, '_>) {
    rules.rule(|r| r.load_destination_type().is(LOCAL).verdict(Verdict::Return));
    rules.rule(|r| {
        r.load(&[Field::Daddr])
            .is_in(Set::ClusterIps)
            .verdict(FixedChain::RejectConnection.goto());
    });
    rules.rule(|r| r.verdict(Verdict::Drop));
}

/// Refuses behind the routing decision: there a route for the answer is known, even if rules choose routes by source.
fn first_packet(rules: &mut Rules<'_, '_>, settings: RuleSettings) {
    rules.rule(|r| {
        r.load_ct_status()
            .bits(DNAT)
            .is_not(0)
            .verdict(FixedChain::Translated.goto());
    });
    // Other programs may use the bit too. Here only a packet to a Service was marked to be refused.
    rules.rule(|r| {
        r.load_mark()
            .bits(settings.masquerade_mark())
            .is_not(0)
            .verdict(FixedChain::Refused.jump());
    });
    for set in [Set::ClusterIps, Set::ServiceCidrs] {
        rules.rule(|r| {
            r.load(&[Field::Daddr])
                .is_in(set)
                .verdict(FixedChain::Unassigned.goto());
        });
    }
}

fn postrouting(rules: &mut Rules<'_, '_>, settings: RuleSettings) {
    let bit = settings.masquerade_mark();
    rules.rule(|r| r.load_ct_status().bits(DNAT).is(0).verdict(Verdict::Return));
    masquerade(
        rules,
        settings,
        |r| {
            r.load_mark().bits(bit).is_not(0);
        },
        |r| {
            r.load_mark().bits(!bit).set_mark();
        },
    );
    masquerade(
        rules,
        settings,
        |r| {
            r.load(&[Field::Saddr, Field::Daddr]).is_in(Set::Hairpin);
        },
        |_| (),
    );
}

/// Masquerades what meets a condition. `first` comes right before that. If some ports belong to XDP, a rule keeps off
/// them, and what has no ports meets the rule behind it.
fn masquerade(
    rules: &mut Rules<'_, '_>,
    settings: RuleSettings,
    condition: impl Fn(&mut ExprList<'_>),
    first: impl Fn(&mut ExprList<'_>),
) {
    /// Lower ports stay with the node's own programs, as when the kernel chooses.
    const LOWEST: u16 = 1024;
    match settings.ahead {
        Ahead::Nobody => {}
        Ahead::Xdp => rules.with_ports(&condition, |r| {
            first(r);
            r.masquerade_to(LOWEST..=XDP_PORTS.start() - 1);
        }),
    }
    rules.rule(|r| {
        condition(r);
        first(r);
        r.masquerade();
    });
}
