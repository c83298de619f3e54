//! Clients that stay with their endpoint.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use anyhow::Result;

use crate::addresses::Ip;

use super::super::ask::Way;
use super::super::expect::{Form, Front, Took};
use super::super::judge::Finding;
use super::super::services as s;
use super::super::site::{Asker, Site};
use super::{at, names, together};

/// A client stays with its endpoint, by whichever address and form it asks.
pub(super) fn sticky(site: &Site) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for asker in [Asker::Node, Asker::Pod, Asker::SecondPod] {
        let place = site.place(asker)?;
        for way in [Way::Tcp, Way::SendTo, Way::ConnectedUdp] {
            for family in Ip::BOTH {
                let forms: &[Form] = if family == Ip::V4 {
                    &[Form::V4, Form::Mapped]
                } else {
                    &[Form::V6]
                };
                let mut all = BTreeSet::new();
                for form in forms {
                    for front in [Front::ClusterIp, Front::LoadBalancer, Front::NodePort] {
                        all.extend(names(&place, way, at(front, &s::STICKY, *form), 6)?);
                    }
                }
                let wrong = if all.len() == 1 {
                    Vec::new()
                } else {
                    vec![format!("answered by: expected one, found {all:?}")]
                };
                let name = site.title(asker, forms[0], &format!("affinity over all addresses by {way}"));
                let took = if way == Way::ConnectedUdp {
                    Took::Nftables
                } else {
                    Took::Sockets
                };
                findings.push(together(name, took, wrong));
            }
        }
    }
    Ok(findings)
}

/// Sixteen Services: two pods have endpoints of their own each, and stay with them.
pub(super) fn sticky_by_network(site: &Site) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for family in Ip::BOTH {
        let choices = |asker: Asker| -> Result<Vec<BTreeSet<String>>> {
            let place = site.place(asker)?;
            let ask = |port: u16| names(&place, Way::Tcp, SocketAddr::new(family.cluster_ip(41), port), 4);
            (1..=16).map(ask).collect()
        };
        let both = [choices(Asker::Pod)?, choices(Asker::SecondPod)?];
        let again = [choices(Asker::Pod)?, choices(Asker::SecondPod)?];
        let mut wrong = Vec::new();
        if both.iter().flatten().any(|names| names.len() != 1) || both != again {
            wrong.push(format!(
                "expected one endpoint each time, found {both:?}, then {again:?}"
            ));
        }
        if both[0] == both[1] {
            wrong.push(format!(
                "both pods have the same endpoints sixteen times: {:?}",
                both[0]
            ));
        }
        let name = format!(
            "{}: {family:?}: affinity of two pods to sixteen Services",
            site.variant.title()
        );
        findings.push(together(name, Took::Sockets, wrong));
    }
    Ok(findings)
}
