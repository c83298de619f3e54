//! The chains and rules: the fixed ones, which only the settings change, and those made on demand for each number of
//! endpoints and affinity timeout. Used to make a table and by changes that need a new chain; never knows which Service
//! needs it.

pub(crate) mod expr;

use netlink_bindings::nftables::{PushChainAttrs, PushRuleAttrs};
use tandem_core::family::IpFamily;
use tandem_core::plane::{DetectLocal, RuleSettings};

use crate::elements::element;
use crate::elements::field::Field;
use crate::elements::sets::{Set, encode_protocols};
use crate::elements::udata;
use crate::elements::verdict::Verdict;
use crate::family::numbers;
use crate::picks::chain::Chain;
use crate::picks::demand::Number;
use crate::rules::expr::{ExprList, Memorise, Reject};
use crate::wire::{APPEND, Batch, CREATE, Command, EXCLUSIVE, nested, number, text, value};

/// Where a chain is called from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hook {
    pub(crate) kind: &'static str,
    pub(crate) number: u32,
    pub(crate) priority: i32,
}

const PREROUTING: u32 = 0;
const INPUT: u32 = 1;
const FORWARD: u32 = 2;
const OUTPUT: u32 = 3;
const POSTROUTING: u32 = 4;

const fn hook(kind: &'static str, number: u32, priority: i32) -> Hook {
    Hook { kind, number, priority }
}

/// The chains that are always there. A chain stands behind those that it leads to.
pub(crate) static FIXED: [(&str, Option<Hook>); 22] = [
    ("reject-connection", None),
    ("refuse", None),
    ("discard", None),
    ("mark-for-masquerade", None),
    ("cluster-traffic", None),
    ("local-process-to-external", None),
    ("pods-to-external", None),
    ("external-traffic", None),
    ("service-traffic", None),
    ("source-ranges", None),
    ("translated", None),
    ("refused", None),
    ("unassigned", None),
    ("first-packet", None),
    ("prerouting-ranges", Some(hook("filter", PREROUTING, -110))),
    ("output-ranges", Some(hook("filter", OUTPUT, -110))),
    ("prerouting", Some(hook("nat", PREROUTING, -100))),
    ("output", Some(hook("nat", OUTPUT, -100))),
    ("input-filter", Some(hook("filter", INPUT, 0))),
    ("forward-filter", Some(hook("filter", FORWARD, 0))),
    ("output-filter", Some(hook("filter", OUTPUT, 0))),
    ("postrouting", Some(hook("nat", POSTROUTING, 100))),
];

/// Ends the name of a chain that stands in for another one while that is registered anew.
pub(crate) const STAND_IN: &str = "-stand-in";

/// Counts connections of clients that could not be remembered.
pub(crate) const UNREMEMBERED: &str = "unremembered";

const SOCKET: &[Field] = &[Field::Daddr, Field::Protocol, Field::Port];
/// What a client is remembered by.
const CLIENT: &[Field] = &[Field::Priority, Field::Share];
/// Masks away the bit that selects the endpoints on this node.
const ALL_ENDPOINTS: u32 = 0xf7ff_ffff;
const LOCAL_ENDPOINTS: u32 = !ALL_ENDPOINTS;
/// Masks away an endpoint's number, leaving its service.
const SERVICE: u32 = 0xffff_f000;
/// The bits in which a service's value notes how an endpoint is picked.
const PICK: u32 = tandem_core::id::PICK_BITS;
/// Every id of ours has these bits.
const TAG: u32 = 0xf000_0000;
/// The kernel's number of a kind of address: one of this host.
const LOCAL: u32 = 2;
/// The bit of a connection's status that says that its destination is translated.
const DNAT: u32 = 0x20;

/// Writes that there shall be the counter; one that is there goes on counting.
pub(crate) fn encode_counter(batch: &mut Batch) {
    const COUNTER: u32 = 1;
    let comment = udata::commented("connections whose client could not be remembered: affinity was full");
    batch.message(Command::NewObject, CREATE, |buf| {
        text(buf, 1, crate::TABLE);
        text(buf, 2, UNREMEMBERED);
        number(buf, 3, COUNTER);
        nested(buf, 4, |buf| {
            value(buf, 1, &[0; 8]);
            value(buf, 2, &[0; 8]);
        });
        value(buf, 8, &comment);
    });
}

/// Writes a chain without rules, or that there shall be one.
pub(crate) fn encode_chain(batch: &mut Batch, name: &str, hook: Option<Hook>) {
    const ACCEPT: u32 = 1;
    batch.message(Command::NewChain, CREATE, |buf| {
        let mut attrs = PushChainAttrs::new(buf)
            .push_table_bytes(crate::TABLE.as_bytes())
            .push_name_bytes(name.as_bytes());
        if let Some(hook) = hook {
            attrs = attrs
                .nested_hook()
                .push_num(hook.number)
                .push_priority(hook.priority)
                .end_nested();
            let _ = attrs.push_policy(ACCEPT).push_type_bytes(hook.kind.as_bytes());
        }
    });
}

/// Writes that a chain shall lose its rules.
pub(crate) fn encode_flush(batch: &mut Batch, chain: &str) {
    batch.message(Command::DelRule, 0, |buf| {
        text(buf, 1, crate::TABLE);
        text(buf, 2, chain);
    });
}

/// Writes that a chain without rules shall go.
pub(crate) fn encode_delete(batch: &mut Batch, chain: &str) {
    batch.message(Command::DelChain, 0, |buf| {
        text(buf, 1, crate::TABLE);
        text(buf, 3, chain);
    });
}

/// Adds rules to one chain.
struct Rules<'b, 'c> {
    batch: &'b mut Batch,
    chain: &'c str,
    family: IpFamily,
}

impl Rules<'_, '_> {
    fn rule(&mut self, expressions: impl FnOnce(&mut ExprList<'_>)) {
        let family = numbers(self.family);
        self.batch.message(Command::NewRule, CREATE | APPEND, |buf| {
            let mut attrs = PushRuleAttrs::new(buf)
                .push_table_bytes(crate::TABLE.as_bytes())
                .push_chain_bytes(self.chain.as_bytes());
            let buf = netlink_bindings::traits::Pusher::as_vec_mut(&mut attrs);
            nested(buf, 4, |buf| expressions(&mut ExprList::new(buf, family)));
        });
    }

    /// Sends what has ports to the endpoint that `endpoint` loads.
    fn dnat(&mut self, endpoint: impl FnOnce(&mut ExprList<'_>)) {
        let protocols = encode_protocols(self.batch);
        self.rule(|r| {
            r.has_ports(protocols);
            endpoint(r);
            r.dnat();
        });
    }

    fn dnat_to_id(&mut self) {
        self.dnat(|r| {
            r.load(&[Field::Priority]).map(Set::EndpointIds);
        });
    }

    fn jump(&mut self, chain: &str) {
        self.rule(|r| r.verdict(Verdict::Jump(chain)));
    }

    fn keep_bits(&mut self, and: u32) {
        self.rule(|r| {
            r.load(&[Field::Priority]).bits(and).set_priority();
        });
    }
}

/// Writes that the chain that stood in for this one shall go.
pub(crate) fn encode_stand_in_goes(batch: &mut Batch, chain: &str) {
    let stand_in = format!("{chain}{STAND_IN}");
    encode_flush(batch, &stand_in);
    encode_delete(batch, &stand_in);
}

/// Writes the rules of a fixed chain into the chain of this name.
pub(crate) fn encode_fixed(
    batch: &mut Batch,
    family: IpFamily,
    chain: &'static str,
    name: &str,
    settings: RuleSettings,
) {
    let mut rules = Rules {
        batch,
        chain: name,
        family,
    };
    match chain {
        "reject-connection" => {
            rules.rule(|r| r.is_protocol(6).reject(Reject::Reset));
            rules.rule(|r| r.reject(Reject::Unreachable));
        }
        "refuse" => {
            let bit = settings.masquerade_mark();
            rules.rule(|r| {
                r.load_mark().bits_at(!bit, bit, 0).set_mark().verdict(Verdict::Accept);
            });
        }
        "discard" => rules.rule(|r| r.verdict(Verdict::Drop)),
        "mark-for-masquerade" => {
            let bit = settings.masquerade_mark();
            rules.rule(|r| {
                r.load_mark().bits_at(!bit, bit, 0).set_mark();
            });
        }
        "cluster-traffic" => cluster_traffic(&mut rules, settings),
        "local-process-to-external" => {
            rules.jump("mark-for-masquerade");
            rules.keep_bits(ALL_ENDPOINTS);
        }
        "pods-to-external" => {
            rules.keep_bits(ALL_ENDPOINTS);
            pick(&mut rules);
        }
        "external-traffic" => external_traffic(&mut rules, settings),
        "service-traffic" => service_traffic(&mut rules),
        "source-ranges" => rules.rule(|r| {
            r.is_new().load(SOCKET).is_in(Set::RestrictedFrontends);
            r.load(Set::AllowedSources.layout().key)
                .is_not_in(Set::AllowedSources)
                .verdict(Verdict::Drop);
        }),
        "translated" => translated(&mut rules),
        "refused" => frontends(&mut rules, ["reject-connection"; 3]),
        "unassigned" => unassigned(&mut rules),
        "first-packet" => first_packet(&mut rules, settings),
        "prerouting-ranges" => {
            if settings.drop_invalid {
                drop_invalid(&mut rules);
            }
            rules.jump("source-ranges");
        }
        "output-ranges" => rules.jump("source-ranges"),
        // A reset that this host answers with passes here as well, and is nobody's first packet.
        "prerouting" | "output" => rules.rule(|r| r.is_original().verdict(Verdict::Jump("service-traffic"))),
        "input-filter" | "forward-filter" | "output-filter" => {
            rules.rule(|r| r.is_new().verdict(Verdict::Jump("first-packet")));
        }
        _ => postrouting(&mut rules, settings),
    }
}

fn cluster_traffic(rules: &mut Rules<'_, '_>, settings: RuleSettings) {
    if settings.masquerade_all {
        rules.jump("mark-for-masquerade");
    } else if settings.detect_local != DetectLocal::Nothing {
        rules.rule(|r| {
            r.is_pod(settings.detect_local, false)
                .verdict(Verdict::Jump("mark-for-masquerade"));
        });
    }
    pick(rules);
}

/// Notes the way in the packet's service id and takes it. Verdicts stand in a map of their own that changes only with a
/// new way: for each element with a verdict the kernel walks everything that the rules can reach.
///
/// A packet may meet a change half way: each lookup sees the sets as they are at that moment. What has a frontend and
/// comes back from its way without an endpoint is dropped; its sender tries again. Let through, it would go out
/// untranslated, and so would everything after it from the same port.
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
            .bits(LOCAL_ENDPOINTS)
            .is(0)
            .verdict(Verdict::Jump("mark-for-masquerade"));
    });
    // Before the question whether the source is the node itself: a pod's address may be both, and is a pod's then.
    if settings.detect_local != DetectLocal::Nothing {
        rules.rule(|r| {
            r.is_pod(settings.detect_local, true)
                .verdict(Verdict::Goto("pods-to-external"));
        });
    }
    rules.rule(|r| {
        r.load_source_type()
            .is(LOCAL)
            .verdict(Verdict::Jump("local-process-to-external"));
    });
    pick(rules);
}

/// kube-proxy's iptables mode drops these in `forward`; here the hook that is there anyway does it, and spares the node's
/// own packets.
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
    frontends(rules, ["cluster-traffic", "external-traffic", "external-traffic"]);
}

/// Leads what is addressed to a Service to these chains: by its ClusterIP, by another address, by a nodePort.
fn frontends(rules: &mut Rules<'_, '_>, [cluster, external, node_port]: [&'static str; 3]) {
    for (set, chain) in [(Set::ClusterFrontends, cluster), (Set::ExternalFrontends, external)] {
        rules.rule(|r| r.load(SOCKET).map(set).set_priority().verdict(Verdict::Goto(chain)));
    }
    rules.rule(|r| {
        r.load(&[Field::Daddr])
            .is_in(Set::NodeAddresses)
            .load(&[Field::Protocol, Field::Port]);
        r.map(Set::NodePorts).set_priority().verdict(Verdict::Goto(node_port));
    });
}

/// Gives a packet that carried a service id its own priority back. What the kernel forwards over IPv4 has got a new one
/// meanwhile, by its type of service.
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

/// Answers for the ranges that ClusterIPs are taken from. An address of this host is its own, whoever's range it is in.
fn unassigned(rules: &mut Rules<'_, '_>) {
    rules.rule(|r| r.load_destination_type().is(LOCAL).verdict(Verdict::Return));
    rules.rule(|r| {
        r.load(&[Field::Daddr])
            .is_in(Set::ClusterIps)
            .verdict(Verdict::Goto("reject-connection"));
    });
    rules.rule(|r| r.verdict(Verdict::Drop));
}

/// Behind the routing decision: here a way back is known for a refusal, also where rules choose routes by source.
fn first_packet(rules: &mut Rules<'_, '_>, settings: RuleSettings) {
    rules.rule(|r| {
        r.load_ct_status()
            .bits(DNAT)
            .is_not(0)
            .verdict(Verdict::Goto("translated"));
    });
    // Others may use the bit too: only what is addressed to a Service was marked here.
    rules.rule(|r| {
        r.load_mark()
            .bits(settings.masquerade_mark())
            .is_not(0)
            .verdict(Verdict::Jump("refused"));
    });
    for set in [Set::ClusterIps, Set::ServiceCidrs] {
        rules.rule(|r| r.load(&[Field::Daddr]).is_in(set).verdict(Verdict::Goto("unassigned")));
    }
}

fn postrouting(rules: &mut Rules<'_, '_>, settings: RuleSettings) {
    let bit = settings.masquerade_mark();
    rules.rule(|r| r.load_ct_status().bits(DNAT).is(0).verdict(Verdict::Return));
    rules.rule(|r| {
        r.load_mark()
            .bits(bit)
            .is_not(0)
            .load_mark()
            .bits(!bit)
            .set_mark()
            .masquerade();
    });
    rules.rule(|r| r.load(&[Field::Saddr, Field::Daddr]).is_in(Set::Hairpin).masquerade());
}

/// Writes chains that are made on demand, and the numbers that lead to them.
pub(crate) fn encode_chains(
    batch: &mut Batch,
    family: IpFamily,
    chains: impl Iterator<Item = (Chain, Option<Number>)>,
) {
    for (chain, number) in chains {
        encode_demanded_chain(batch, chain, true);
        encode_demanded(batch, family, chain);
        if let Some(number) = number {
            element::add_way(batch, number, &chain.to_string());
        }
    }
}

/// Writes a chain that services need, without its rules; `new` when it must not be there.
pub(crate) fn encode_demanded_chain(batch: &mut Batch, chain: Chain, new: bool) {
    let name = chain.to_string();
    batch.message(Command::NewChain, CREATE | if new { EXCLUSIVE } else { 0 }, |buf| {
        text(buf, 1, crate::TABLE);
        text(buf, 3, &name);
    });
}

/// Writes the rules of a chain that services need.
pub(crate) fn encode_demanded(batch: &mut Batch, family: IpFamily, chain: Chain) {
    let name = chain.to_string();
    let mut rules = Rules {
        batch,
        chain: &name,
        family,
    };
    match chain {
        Chain::Pick { count } => {
            rules.keep_bits(!PICK);
            // A list that became shorter meanwhile has its first endpoint still, if it has any.
            let draws = [u32::from(count.get()), 1];
            for below in draws.into_iter().take(if count.get() == 1 { 1 } else { 2 }) {
                rules.dnat(|r| {
                    r.load(&[Field::Priority]).random(below, 1).map(Set::Endpoints);
                });
            }
        }
        Chain::Recall { seconds } => {
            rules.rule(|r| {
                r.load(CLIENT).map(Set::Affinity).set_priority();
            });
            rules.rule(|r| r.load(&[Field::Priority]).bits(!SERVICE).is(0).verdict(Verdict::Return));
            rules.rule(|r| r.affinity(Memorise::Remember { seconds }));
            rules.dnat_to_id();
            rules.rule(|r| r.affinity(Memorise::Forget));
            rules.keep_bits(SERVICE);
        }
        Chain::Remember { seconds } => {
            rules.rule(|r| r.affinity(Memorise::Remember { seconds }));
            rules.keep_bits(SERVICE);
            rules.rule(|r| {
                r.load(CLIENT).map(Set::Affinity).set_priority();
            });
            rules.dnat_to_id();
        }
        Chain::Stick { count, seconds } => {
            let draw = |r: &mut ExprList<'_>, below: u32| {
                r.load(&[Field::Priority])
                    .random(below, 1)
                    .map(Set::StickyEndpoints)
                    .set_priority();
            };
            let count = u32::from(count.get());
            rules.keep_bits(SERVICE);
            rules.jump(&Chain::Recall { seconds }.to_string());
            let remember = Chain::Remember { seconds }.to_string();
            rules.rule(|r| {
                draw(r, count);
                r.verdict(Verdict::Jump(&remember));
            });
            // Reached where the list became shorter meanwhile: its first endpoint.
            rules.keep_bits(SERVICE);
            rules.rule(|r| {
                draw(r, 1);
                r.verdict(Verdict::Jump(&remember));
            });
            // Reached where the affinity map is full: any endpoint, not remembered.
            rules.keep_bits(SERVICE);
            rules.rule(|r| draw(r, count));
            rules.rule(|r| {
                r.load(&[Field::Priority]).bits(!SERVICE).is_not(0).count(UNREMEMBERED);
            });
            rules.dnat_to_id();
            rules.keep_bits(SERVICE);
            rules.rule(|r| draw(r, 1));
            rules.dnat_to_id();
        }
    }
}

/// This table's hooks of type nat.
pub(crate) fn nat_hooks() -> impl Iterator<Item = (&'static str, Hook)> {
    FIXED
        .iter()
        .filter_map(|(name, hook)| Some((*name, (*hook)?)))
        .filter(|(_, hook)| hook.kind == "nat")
}
