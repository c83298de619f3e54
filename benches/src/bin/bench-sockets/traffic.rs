//! The same questions through sockets, through nftables, and straight to the endpoints, in turns.
//!
//! All clients are in one pod, and all of them pass through a node with a large cluster's tables. The one that sockets serve is
//! in the pod's cgroup folder. The others are in a pod's folder of another node, where no program is attached.
//!
//! The servers are the same for all three, because two servers on the same processors differ by more than what is measured here.
//! They are in a pod's folder, so a datagram that comes to them costs the same everywhere.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tandem::engine::Engine;
use tandem::event::{Event, Object};
use tandem_benches::kernel;
use tandem_benches::questions::Question;
use tandem_benches::report::{note, print, setting};
use tandem_benches::second::Second;
use tandem_benches::synthetic::{DUAL_STACK, Shape, ready_here};
use tandem_benches::turns::Turns;
use tandem_core::family::IpFamily;
use tandem_core::object::{EndpointSlice, Service, ServicePort, SlicePort};
use tandem_core::plan::PortKey;
use tandem_core::row::Port;
use tandem_core::samples::mk_port;
use tandem_tests::netns::Namespace;
use tandem_tests::topology::World;

const SHAPE: Shape = Shape::dual_stack(10_000, 3);
/// The Service that is asked. It has a port for each kind of question.
const ASKED: u32 = SHAPE.services - 1;
/// How long one turn takes.
const TURN: Duration = Duration::from_millis(100);

/// Who is measured, in this order.
const DIRECT: usize = 0;
const SOCKETS: usize = 1;
const NFT: usize = 2;

/// Everything. The parts are dropped in this order.
pub(crate) struct Site {
    /// It has followers, which hold what is pinned.
    engine: Engine,
    pub(crate) second: Second,
    /// The client pod, and the same network for threads that no program sees.
    pub(crate) client: Namespace,
    unseen: Namespace,
    pub(crate) world: World,
}

impl Site {
    /// Builds it, with the programs attached.
    pub(crate) fn new() -> Result<Self> {
        let mut world = World::with_pods(&[("client", 1, 10), ("server", 1, 11)])?;
        world.give_cgroups()?;
        let node = world.node(1)?.namespace.clone();
        let client = world.pod("client")?.namespace.clone();
        // The kernel must forget closed connections before their ports are used again, for all alike.
        node.sysctls(&[("net/netfilter/nf_conntrack_tcp_timeout_close", "1")])?;
        client.sysctls(&[("net/ipv4/ip_local_port_range", "1024 65535")])?;
        note(format_args!(
            "{} dual-stack Services x {} endpoints; the last one is asked",
            SHAPE.services, SHAPE.endpoints
        ));
        let mut engine = kernel::engine();
        let second = Second::beside(&mut engine, SHAPE)?;
        node.run(|| kernel::bring(&mut engine, SHAPE.events()))??;
        second.set_node(&node)?;
        second.attach(world.groups(1)?)?;
        let mut site = Self {
            engine,
            second,
            // As deep as a pod's folder, below a node without programs: to be in a folder costs a little, too.
            unseen: client.beside(&world.groups(2)?.pod("unseen")?),
            client,
            world,
        };
        site.add_service()?;
        site.second.check(&site.engine)?;
        Ok(site)
    }

    /// Starts the servers, and makes the Service whose endpoints they are.
    fn add_service(&mut self) -> Result<()> {
        let (node, server) = (self.world.node(1)?, self.world.pod("server")?);
        let clients = clients()?;
        let mut events = vec![Object::Service(Service {
            ports: Question::ALL.map(port_of).into(),
            ..SHAPE.service(ASKED)
        })];
        for family in DUAL_STACK {
            let endpoints = endpoints(*family, server.addresses());
            for endpoint in &endpoints[1..] {
                let bits = if endpoint.is_ipv4() { 32 } else { 128 };
                server
                    .namespace
                    .ip(&format!("addr add {endpoint}/{bits} dev eth0 nodad"))?;
                server.namespace.wait_local(&[&endpoint.to_string()])?;
                node.namespace.ip(&format!("route replace {endpoint} dev pod11"))?;
            }
            for question in Question::ALL {
                question.serve(
                    &server.namespace,
                    &endpoints.map(|addr| at(addr, target(question))),
                    clients,
                )?;
            }
            events.push(Object::EndpointSlice(slice(*family, &endpoints)));
        }
        let events = events.into_iter().map(|object| Event::Applied(object, Vec::new()));
        node.namespace.run(|| kernel::bring(&mut self.engine, events))?
    }

    /// Measures each kind of question in both families.
    pub(crate) fn measure(&self) -> Result<()> {
        let rounds: usize = setting("ROUNDS", 60)?;
        let clients = clients()?;
        for question in Question::ALL {
            for (family, infix) in DUAL_STACK.iter().zip(["", "_ipv6"]) {
                let name = question.name();
                let server = self.world.pod("server")?;
                let direct = endpoints(*family, server.addresses()).map(|addr| at(addr, target(question)));
                let service = [at(SHAPE.cluster_ip(ASKED, *family), port_of(question).port)];
                let turn = |which: usize| match which {
                    DIRECT => question.per_second(&self.unseen, &direct, clients, TURN),
                    NFT => question.per_second(&self.unseen, &service, clients, TURN),
                    _ => question.per_second(&self.client, &service, clients, TURN),
                };
                // What serves whom is not assumed.
                for (which, takes) in [(DIRECT, false), (NFT, false), (SOCKETS, true)] {
                    let before = self.taken(*family, question)?;
                    turn(which)?;
                    let taken = self.taken(*family, question)? > before;
                    ensure!(
                        taken == takes,
                        "{name}{infix}: sockets took {taken}, and should {takes}"
                    );
                }
                let turns: Turns<3> = Turns::take(rounds, turn)?;
                for (which, who) in [(DIRECT, "direct"), (SOCKETS, "sockets"), (NFT, "nft")] {
                    note(format_args!("{name}_{who}{infix}: {:.0} a second", turns.rate(which)));
                }
                for (which, who) in [(SOCKETS, "sockets"), (NFT, "nft")] {
                    let (low, high) = turns.spread(which, DIRECT);
                    note(format_args!(
                        "half of the rounds of the next lie between {low:.3} and {high:.3}"
                    ));
                    print(
                        &format!("{name}_{who}{infix}_ratio"),
                        format_args!("{:.3}", turns.ratio(which, DIRECT)),
                    );
                }
            }
        }
        Ok(())
    }

    /// How many sockets a port of the Service has taken.
    fn taken(&self, family: IpFamily, question: Question) -> Result<u64> {
        let key = PortKey {
            service: SHAPE.service(ASKED).key,
            port: question.name().into(),
            protocol: question.protocol(),
        };
        let id = match family {
            IpFamily::V4 => self.engine.v4().table().id(&key),
            IpFamily::V6 => self.engine.v6().table().id(&key),
        };
        let id = id.context("the Service has no number")?;
        Ok(self.second.sockets().taken(family, id)[0])
    }
}

/// How many clients ask at a time.
fn clients() -> Result<usize> {
    setting("THREADS", 2)
}

fn at(addr: IpAddr, port: Port) -> SocketAddr {
    SocketAddr::new(addr, port.get())
}

/// The Service's port for a kind of question.
fn port_of(question: Question) -> ServicePort {
    let number = match question {
        Question::Request => 80,
        Question::Connection => 81,
        Question::Datagram => 82,
    };
    mk_port(question.name(), question.protocol(), number)
}

/// The port of the servers for a kind of question.
fn target(question: Question) -> Port {
    port_of(question).port.saturating_add(8000)
}

fn slice(family: IpFamily, endpoints: &[IpAddr]) -> EndpointSlice {
    let mut slice = SHAPE.slice(ASKED, family, 0);
    slice.ports = Question::ALL
        .map(|question| SlicePort {
            name: question.name().into(),
            protocol: question.protocol(),
            port: target(question),
        })
        .into();
    slice.endpoints = ready_here(endpoints);
    slice
}

/// The server pod's own address and two more.
fn endpoints(family: IpFamily, own: [IpAddr; 2]) -> [IpAddr; 3] {
    match family {
        IpFamily::V4 => [own[0], [10, 244, 1, 101].into(), [10, 244, 1, 102].into()],
        IpFamily::V6 => {
            let other = |last| IpAddr::from([0xfd00, 0x10, 0x244, 1, 0, 0, 0, last]);
            [own[1], other(0x101), other(0x102)]
        }
    }
}
