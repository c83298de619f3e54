//! The routes and the rules in the kernel: reads them, compares them, and changes them to what they must be.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use tandem_core::family::IpFamily;
use tandem_core::node::InterfaceName;
use tandem_netlink::answer::Refusal;

use crate::net::{
    self, Answer, Change, LOOPBACK, NetError, News, Object, Origin, Route, RouteKind, Rtnetlink, Rule, Rules, Scope,
};

/// The routes that must exist, each with the source address of its packets. If there is none, the kernel chooses the
/// source.
pub type Routes = BTreeMap<IpNet, Option<IpAddr>>;

/// The routing table of these routes: `ip route show table 7473`.
pub const TABLE: u32 = 7473;
/// After `main` (32766) and `default` (32767). So the kernel asks this table only if no other route exists.
const PRIORITY: u32 = 32_800;

const FAMILIES: [IpFamily; 2] = [IpFamily::V4, IpFamily::V6];

/// Why the routes are not as they must be.
#[derive(Debug, thiserror::Error)]
pub enum RoutesError {
    /// rtnetlink failed.
    #[error("the routes of Service ranges: {0}")]
    Net(#[from] NetError),
    /// The kernel refused one change.
    #[error("{what}: {refusal}")]
    Refused {
        /// The change.
        what: String,
        /// The kernel's answer.
        refusal: Refusal,
    },
}

/// Tandem's own routes and rules in the kernel.
#[derive(Debug, Default)]
pub(super) struct Standing {
    pub(super) routes: Vec<Route>,
    pub(super) rules: Vec<Rule>,
}

/// The routes of this network namespace.
#[derive(Debug, Default)]
pub struct KernelRoutes {
    kernel: Option<Rtnetlink>,
}

impl KernelRoutes {
    /// Sets the routes, and the rule of each family that has any. Returns whether anything was changed.
    pub fn bring(&mut self, wanted: &Routes) -> Result<bool, RoutesError> {
        let kernel = match &mut self.kernel {
            Some(kernel) => kernel,
            none => none.insert(Rtnetlink::open()?),
        };
        let changes = difference(wanted, &read(kernel)?);
        let answers = kernel.apply(&changes)?;
        let mut any = false;
        for (change, answer) in changes.iter().zip(answers) {
            match answer {
                Answer::Done => any = true,
                Answer::AlreadySo => {}
                Answer::Refused(refusal) => {
                    let what = words(change);
                    return Err(RoutesError::Refused { what, refusal });
                }
            }
        }
        Ok(any)
    }
}

/// The routes and rules that this run or an earlier one made.
fn read(kernel: &mut Rtnetlink) -> Result<Standing, NetError> {
    let mut standing = Standing::default();
    for family in FAMILIES {
        let in_table = net::Routes {
            family,
            table: Some(TABLE),
            link: None,
        };
        let routes = kernel.list::<Route>(&in_table)?;
        standing.routes.extend(routes.into_iter().filter(is_ours));
        let rules = kernel.list::<Rule>(&Rules { family })?;
        standing
            .rules
            .extend(rules.into_iter().filter(|it| *it == rule(family)));
    }
    Ok(standing)
}

fn is_ours(route: &Route) -> bool {
    route.origin == Origin::TANDEM
}

/// The changes from what exists to what is wanted: first additions, last the rules.
pub(super) fn difference(wanted: &Routes, standing: &Standing) -> Vec<Change> {
    let as_wanted = |range: &IpNet, source: &Option<IpAddr>| {
        let same = |there: &&Route| there.destination == *range && there.source == *source;
        let there = standing.routes.iter().find(same);
        there.is_some_and(|route| route.link == Some(LOOPBACK))
    };
    let missing = wanted.iter().filter(|(range, source)| !as_wanted(range, source));
    let mut changes: Vec<Change> = missing
        .map(|(range, source)| Change::Set(Object::Route(route(*range, *source))))
        .collect();
    let too_many = standing
        .routes
        .iter()
        .filter(|route| !wanted.contains_key(&route.destination));
    changes.extend(too_many.map(|route| Change::Remove(Object::Route(*route))));
    for family in FAMILIES {
        let rule = rule(family);
        let needed = wanted.keys().any(|range| IpFamily::of(range.addr()) == family);
        match (needed, standing.rules.contains(&rule)) {
            (true, false) => changes.push(Change::Set(Object::Rule(rule))),
            (false, true) => changes.push(Change::Remove(Object::Rule(rule))),
            _ => {}
        }
    }
    changes
}

fn route(range: IpNet, source: Option<IpAddr>) -> Route {
    Route {
        destination: range,
        table: TABLE,
        link: Some(LOOPBACK),
        gateway: None,
        on_link: false,
        source,
        metric: 0,
        origin: Origin::TANDEM,
        scope: match range {
            IpNet::V4(_) => Scope::LINK,
            IpNet::V6(_) => Scope::UNIVERSE,
        },
        kind: RouteKind::UNICAST,
    }
}

/// The rule that makes the kernel ask the table for the node's own packets of a family.
fn rule(family: IpFamily) -> Rule {
    Rule {
        family,
        priority: PRIORITY,
        table: TABLE,
        from_link: InterfaceName::parse("lo").ok(),
        mark: None,
        origin: Origin::TANDEM,
    }
}

fn words(change: &Change) -> String {
    match (change, change.object()) {
        (Change::Set(_), Some(Object::Route(route))) => {
            format!("adding route {} dev lo table {TABLE}", route.destination)
        }
        (Change::Remove(_), Some(Object::Route(route))) => {
            format!("removing route {} dev lo table {TABLE}", route.destination)
        }
        (_, Some(Object::Rule(rule))) => format!("the {} rule to routing table {TABLE}", rule.family),
        _ => format!("routing table {TABLE}"),
    }
}

/// Whether a change by others may have removed a route or a rule. The kernel does not report IPv4 routes that go
/// because `lo` goes down or because their source address goes.
pub(super) fn concerns_us(news: &News) -> bool {
    match news {
        News::Lost | News::Gone(Object::Address(_)) => true,
        News::Come(object) | News::Gone(object) => match object {
            Object::Route(route) => route.table == TABLE,
            Object::Rule(rule) => rule.table == TABLE,
            Object::Link(link) => link.index == LOOPBACK,
            Object::Address(_) | Object::Neighbour(_) | Object::Fdb(_) => false,
        },
    }
}
