//! Problems, in the words of the local API. They are made from a snapshot when somebody asks.

use std::collections::BTreeMap;

use tandem_core::family::IpFamily;
use tandem_core::object::ObjectKey;

use crate::config::FileState;
use crate::engine::{FamilyStatus, FollowState, Place, Snapshot};
use crate::event::{ObjectKind, Reach};
use crate::xdp::{OutsideStage, Stage, State, Where};

use super::view::{PortView, ProblemView};

/// All problems of the node, the configuration and the objects.
pub(super) fn of_agent(snapshot: &Snapshot, files: &FileState) -> Vec<ProblemView> {
    let notices = snapshot.notices.iter().flat_map(|((kind, key), notices)| {
        notices
            .iter()
            .map(move |notice| (format!("{kind} {key}"), notice.to_string()))
    });
    let manifests = snapshot.faults.iter().flat_map(|(file, faults)| {
        let named = move |fault: &String| (format!("file {file}"), fault.clone());
        faults.iter().map(named)
    });
    let rejected = files.rejected.iter();
    let rejected = rejected.map(|reason| {
        let problem = format!("{reason}: the configuration in use stays");
        ("configuration".to_owned(), problem)
    });
    let aside = [(&snapshot.v4, IpFamily::V4), (&snapshot.v6, IpFamily::V6)]
        .into_iter()
        .flat_map(|(status, family)| {
            let problem = move |reason: &str| format!("{family}: {reason}");
            status
                .set_aside
                .iter()
                .map(move |aside| (format!("Service {}", aside.service), problem(&aside.reason)))
        });
    let disputed = disputes(&snapshot.v4, IpFamily::V4)
        .into_iter()
        .chain(disputes(&snapshot.v6, IpFamily::V6));
    let plain = |(object, problem): (String, String)| ProblemView {
        object,
        problem,
        fatal: false,
    };
    let own = snapshot.problems.iter().map(|problem| ProblemView {
        object: problem.object(),
        problem: problem.to_string(),
        fatal: problem.is_fatal(),
    });
    own.chain(unreachable(snapshot).map(plain))
        .chain(
            rejected
                .chain(manifests)
                .chain(notices)
                .chain(aside)
                .chain(disputed)
                .map(plain),
        )
        .collect()
}

/// How many Service ports of a family that are left to nftables are named. The JSON of `tandem status` names all of them.
const NAMED: usize = 5;

/// What is wrong with the second data plane. Services work all the same.
pub(super) fn of_sockets(state: &State, snapshot: &Snapshot) -> Vec<ProblemView> {
    let problem = |object: String, problem: String| ProblemView {
        object,
        problem,
        fatal: false,
    };
    let alone =
        |object: &str, why: &str, who: &str| problem(object.to_owned(), format!("{why}: nftables serves {who}"));
    let mut problems = Vec::new();
    if let Stage::Failed { why, .. } = &state.stage {
        problems.push(alone("sockets", why, "alone"));
    } else {
        for (place, who) in [(&state.node, "the node"), (&state.pods, "the pods")] {
            if let Where::Not { why } = place {
                problems.push(alone("sockets", why, who));
            }
        }
    }
    if let OutsideStage::Failed { why } = &state.outside.stage {
        // If no programs are loaded at all, one line is enough.
        let is_said = matches!(&state.stage, Stage::Failed { why: said, .. } if said == why);
        if !is_said {
            problems.push(alone("packets from outside", why, "them"));
        }
    }
    for (family, status) in [(IpFamily::V4, &snapshot.v4), (IpFamily::V6, &snapshot.v6)] {
        let (family, followed) = (family.to_string(), &status.followed);
        if let FollowState::Behind { why, .. } = &followed.state {
            problems.push(alone(&format!("{family} sockets"), why, &family));
        }
        for (port, left) in followed.left.iter().take(NAMED) {
            let which = match &*port.port {
                "" => String::new(),
                name => format!(" port {name}:"),
            };
            let text = format!("{family}:{which} left to nftables: {left}");
            problems.push(problem(format!("Service {}", port.service), text));
        }
        let more = followed.left.len().saturating_sub(NAMED);
        if more > 0 {
            let text = format!("{more} more Service ports are left to nftables (`tandem status -o json` names them)");
            problems.push(problem(format!("{family} sockets"), text));
        }
    }
    problems
}

/// The kinds of objects that cannot be read, by the reason.
fn unreachable(snapshot: &Snapshot) -> impl Iterator<Item = (String, String)> {
    let mut kinds: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (kind, reach) in snapshot.reach.iter() {
        if let Reach::Lost(reason) = reach {
            kinds.entry(reason).or_default().push(kind.name());
        }
    }
    kinds
        .into_iter()
        .map(|(reason, kinds)| (kinds.join(", "), format!("{reason}; what is known stays in the kernel")))
}

/// The problems of a Service with these ports.
pub(super) fn of_service(snapshot: &Snapshot, key: &ObjectKey, ports: &[PortView]) -> Vec<String> {
    let notices = snapshot
        .notices
        .get(&(ObjectKind::Service, key.clone()))
        .into_iter()
        .flatten()
        .map(ToString::to_string);
    let aside = |status: &FamilyStatus, family: IpFamily| {
        let mine = status.set_aside.iter().filter(|aside| aside.service == *key);
        mine.map(|aside| format!("{family}: {}", aside.reason))
            .collect::<Vec<_>>()
    };
    notices
        .chain(aside(&snapshot.v4, IpFamily::V4))
        .chain(aside(&snapshot.v6, IpFamily::V6))
        .chain(taken(ports))
        .collect()
}

/// What a Service asks for and other Services have, as text.
fn taken(ports: &[PortView]) -> Vec<String> {
    let families = ports.iter().flat_map(|port| &port.families);
    let taken = families.flat_map(|port| port.taken.iter().map(|taken| (&port.family, taken)));
    taken
        .map(|(family, taken)| format!("{family}: {} leads to {}, which is older", taken.frontend, taken.by))
        .collect()
}

/// One entry for each pair of a Service that waits and a Service that it waits for, with what it waits for.
fn disputes(status: &FamilyStatus, family: IpFamily) -> Vec<(String, String)> {
    let mut told: Vec<(&ObjectKey, &ObjectKey, Place, usize)> = Vec::new();
    let mut waiting = status.disputes.waiting();
    waiting.sort_by(|a, b| (&a.0.service, &a.1.service, a.2).cmp(&(&b.0.service, &b.1.service, b.2)));
    for (waits, holder, place) in waiting {
        match told.last_mut() {
            Some((before, has, _, more)) if (*before, *has) == (&waits.service, &holder.service) => *more += 1,
            _ => told.push((&waits.service, &holder.service, place, 0)),
        }
    }
    let words = |(waits, holder, place, more): (&ObjectKey, &ObjectKey, Place, usize)| {
        let others = if more == 0 {
            String::new()
        } else {
            format!(" and {more} more")
        };
        let problem = format!(
            "{family}: {place}{others}: Service {holder} claims the same and has it, as it is older (or of the same age, and \
             first by name); this one gets it when that one gives it up"
        );
        (format!("Service {waits}"), problem)
    };
    told.into_iter().map(words).collect()
}

#[cfg(test)]
mod tests;
