//! The flows, group by group.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::Result;
use tandem_tests::stage::{Ip, slices};
use tandem_tests::traffic::Request;

use crate::flow::{Flow, Must, Score, check, milliseconds};
use crate::go_on;
use crate::paper::{Ink, Paper};
use crate::services::{API, API_PORT, CART, CART_PORT, DNS, FAR, FAR_PORT, IDLE, WEB, WEB_ENDPOINTS, WEB_PORT};
use crate::setting::{Place, Setting};

const BOTH: &[&str] = &["web-1", "web-3"];
const ALL: &[&str] = &["web-1", "web-2", "web-3"];
const POD: Place = Place::Pod("web-2");
/// With this many requests, each of three endpoints is picked: one is missed once in three million runs.
const MANY: usize = 40;

pub(crate) fn play(setting: &Setting, paper: &Paper) -> Result<Score> {
    let mut stage = Stage {
        setting,
        paper,
        score: Score::default(),
    };
    stage.cluster_ips()?;
    stage.node_ports()?;
    stage.load_balancers()?;
    stage.affinity()?;
    stage.nobody_there()?;
    stage.scale()?;
    Ok(stage.score)
}

struct Stage<'a> {
    setting: &'a Setting,
    paper: &'a Paper,
    score: Score,
}

impl Stage<'_> {
    fn play(&mut self, flow: &Flow) -> Result<Option<String>> {
        flow.play(self.setting, self.paper, &mut self.score)
    }

    fn note(&self, text: &str) {
        self.paper.line(&format!("    {}", self.paper.ink(Ink::Dim, text)));
    }

    fn node(&self, number: u8, family: Ip) -> Result<IpAddr> {
        Ok(family.of(self.setting.world.node(number)?.addresses()))
    }

    fn cluster_ips(&mut self) -> Result<()> {
        self.paper
            .heading("ClusterIP: pods keep their source, others are masqueraded");
        for family in Ip::BOTH {
            self.play(&Flow::tcp(POD, (family.cluster_ip(WEB), 80), Must::All(BOTH, POD)).times(MANY))?;
        }
        for family in Ip::BOTH {
            self.play(&Flow::udp(POD, (family.cluster_ip(DNS), 53), Must::All(BOTH, POD)).times(MANY))?;
        }
        for from in [Place::Node(1), Place::Client] {
            for family in Ip::BOTH {
                let must = Must::One(BOTH.into(), Place::Node(1));
                self.play(&Flow::tcp(from, (family.cluster_ip(WEB), 80), must))?;
            }
        }
        Ok(())
    }

    fn node_ports(&mut self) -> Result<()> {
        self.paper
            .heading("nodePort, externalTrafficPolicy: Cluster: any endpoint, masqueraded by the node");
        for number in [1, 2] {
            for family in Ip::BOTH {
                let must = Must::All(BOTH, Place::Node(number));
                self.play(&Flow::tcp(Place::Client, (self.node(number, family)?, WEB_PORT), must).times(MANY))?;
            }
        }
        self.note("a node masquerades as itself, or as its pods' gateway where the pod is one of its own");
        self.paper
            .heading("nodePort, externalTrafficPolicy: Local: endpoints of that node, which see the client");
        for (number, local) in [(1, &["web-1"]), (2, &["web-3"])] {
            for family in Ip::BOTH {
                let must = Must::All(local, Place::Client);
                self.play(&Flow::tcp(Place::Client, (self.node(number, family)?, API_PORT), must).times(MANY))?;
            }
        }
        Ok(())
    }

    fn load_balancers(&mut self) -> Result<()> {
        self.paper
            .heading("LoadBalancer address, handed to node1: policy Cluster, then policy Local");
        for (number, names, seen) in [(WEB, BOTH, Place::Node(1)), (API, &["web-1"][..], Place::Client)] {
            for family in Ip::BOTH {
                let must = Must::All(names, seen);
                self.play(&Flow::tcp(Place::Client, (family.external_ip(number), 80), must).times(MANY))?;
            }
        }
        Ok(())
    }

    fn affinity(&mut self) -> Result<()> {
        self.paper
            .heading("sessionAffinity: ClientIP: one endpoint for one client, whichever address it uses");
        for family in Ip::BOTH {
            let must = Must::One(ALL.into(), Place::Node(1));
            let first = self.play(&Flow::tcp(Place::Client, (family.cluster_ip(CART), 80), must).times(MANY))?;
            let same = ALL
                .iter()
                .copied()
                .filter(|name| Some(*name) == first.as_deref())
                .collect();
            let must = Must::One(same, Place::Node(1));
            self.play(&Flow::tcp(Place::Client, (self.node(1, family)?, CART_PORT), must).times(MANY))?;
        }
        Ok(())
    }

    fn nobody_there(&mut self) -> Result<()> {
        self.paper
            .heading("Nobody there: refused at once without endpoints, silent for Local without one on this node");
        for family in Ip::BOTH {
            self.play(&Flow::tcp(POD, (family.cluster_ip(IDLE), 80), Must::BeRefused))?;
        }
        self.play(&Flow::tcp(POD, (Ip::V4.cluster_ip(WEB), 81), Must::BeRefused))?;
        self.note("a port that the Service does not have");
        self.play(&Flow::tcp(
            Place::Client,
            (self.node(1, Ip::V4)?, FAR_PORT),
            Must::BeSilent,
        ))?;
        self.play(&Flow::tcp(
            POD,
            (Ip::V4.cluster_ip(FAR), 80),
            Must::All(&["web-3"], POD),
        ))?;
        self.note("its only endpoint is on node2: pods reach it all the same");
        Ok(())
    }

    fn scale(&mut self) -> Result<()> {
        self.paper.heading(&format!("Scale: web-2 is added to {WEB_ENDPOINTS}"));
        let to = Ip::V4.cluster_ip(WEB);
        self.setting.folder.write(WEB_ENDPOINTS, &slices("web", ALL))?;
        let edited = Instant::now();
        let namespace = self.setting.namespace(Place::Client)?;
        let answers = loop {
            go_on()?;
            let outcome = Request::tcp((to, 80).into()).send(namespace)?;
            if outcome.answered_by() == Some("web-2") || edited.elapsed() > Duration::from_secs(5) {
                break outcome.answered_by() == Some("web-2");
            }
        };
        let took = milliseconds(edited.elapsed());
        let line = format!("client → {to}:80: web-2 answers for the first time {took} after the file was written");
        check(self.paper, &mut self.score, answers, &line);
        for family in Ip::BOTH {
            self.play(
                &Flow::tcp(
                    Place::Client,
                    (family.cluster_ip(WEB), 80),
                    Must::All(ALL, Place::Node(1)),
                )
                .times(MANY),
            )?;
        }
        Ok(())
    }
}
