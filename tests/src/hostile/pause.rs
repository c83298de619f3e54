//! Measures how long all other Services wait while one object is as large as possible.
//!
//! A small Service's endpoint is changed again and again. Each measurement begins before the change is written, and
//! ends when the new endpoint answers a new connection through the node's rules. So it covers the source, the engine
//! and the kernel. The longest time is the pause.

use std::net::{IpAddr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use serde_json::{Value, json};

use super::objects;
use crate::interrupt;
use crate::manifests::{Folder, Service, Slice};
use crate::netns::Namespace;
use crate::scratch::Scratch;
use crate::stage::{self, Ip, TARGET, bare_service, slices};
use crate::tandem::Tandem;
use crate::topology::World;
use crate::traffic::{Protocol, Request};

const PROBE: &str = "probe.yaml";
const HOSTILE: &str = "hostile.json";
/// The Service that is changed: its ClusterIP's last number, and its port.
const NUMBER: u8 = 200;
const PORT: u16 = 80;
/// The number of other Services in one file.
const PER_FILE: u32 = 250;
/// The time between two changes.
const REST: Duration = Duration::from_millis(5);

/// What the measurement does.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Other Services, with one endpoint each.
    pub services: u32,
    /// How long each hostile object stays at least.
    pub step: Duration,
    /// If a change takes longer, it is given up.
    pub patience: Duration,
}

/// How long changes of the small Service took.
#[derive(Clone, Debug, Default)]
pub struct Pauses {
    /// Before any hostile object existed.
    pub before: Vec<Duration>,
    /// While hostile objects were made, changed and deleted.
    pub during: Vec<Duration>,
    /// Whether a change was given up. Then the last pause was longer than the measurement waited.
    pub given_up: bool,
}

impl Pauses {
    /// The longest pause beside hostile objects.
    pub fn longest(&self) -> Duration {
        self.during.iter().max().copied().unwrap_or_default()
    }

    /// The median pause before any hostile object existed.
    pub fn usual(&self) -> Duration {
        let mut sorted = self.before.clone();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied().unwrap_or_default()
    }
}

/// Measures, and reports for each hostile object the longest pause beside it.
pub fn pauses(load: &Load, mut tell: impl FnMut(&str, Duration) + Send) -> Result<Pauses> {
    let world = World::new()?;
    let _servers = stage::serve_in_all_pods(&world)?;
    let scratch = Scratch::new("hostile")?;
    let folder = Folder::new(scratch.path().join("manifests"))?;
    stage::write_world(&folder, &world)?;
    for first in (0..load.services).step_by(PER_FILE as usize) {
        let numbers = first..(first + PER_FILE).min(load.services);
        let objects: Vec<Value> = numbers.flat_map(other).collect();
        folder.write(&format!("others-{first}.yaml"), &objects)?;
    }
    let mut probe = Probe::new(&folder, &world.client)?;
    let mut tandem = Tandem::on(world.node(1)?).directory(&folder).start()?;
    wait_loaded(&mut tandem)?;
    probe.change(load.patience)?;
    let mut pauses = Pauses::default();
    for _ in 0..50 {
        pauses.before.extend(probe.change(load.patience)?);
    }
    for (what, objects) in objects::steps() {
        if interrupt::came() {
            bail!("interrupted");
        }
        let began = Instant::now();
        let mut longest = Duration::ZERO;
        // Another thread writes the object, so that the small Service changes all the time.
        thread::scope(|scope| -> Result<()> {
            let writer = scope.spawn(|| write(&folder, &objects));
            while !pauses.given_up && (began.elapsed() < load.step || !writer.is_finished()) {
                let took = probe.change(load.patience)?;
                pauses.given_up = took.is_none();
                longest = longest.max(took.unwrap_or(load.patience));
                thread::sleep(REST);
            }
            writer.join().map_err(|_| anyhow!("writing hostile objects panicked"))?
        })?;
        pauses.during.push(longest);
        tell(what, longest);
        if pauses.given_up {
            // It may not be able to end when it is asked to.
            tandem.kill()?;
            break;
        }
    }
    tandem.finish()?;
    Ok(pauses)
}

/// Waits longer than usual, because there are many manifests.
fn wait_loaded(tandem: &mut Tandem) -> Result<()> {
    const ATTEMPTS: usize = 8;
    (1..ATTEMPTS)
        .any(|_| tandem.wait_ready().is_ok())
        .then_some(())
        .map_or_else(|| tandem.wait_ready(), Ok)
}

fn write(folder: &Folder, objects: &[Value]) -> Result<()> {
    if objects.is_empty() {
        folder.remove(HOSTILE)
    } else {
        // They are written as JSON, as the API server does, because this does not measure the cost of YAML.
        let list = json!({ "apiVersion": "v1", "kind": "List", "items": objects });
        folder.write_text(HOSTILE, &list.to_string())
    }
}

/// The small Service that is changed.
struct Probe<'a> {
    folder: &'a Folder,
    client: &'a Namespace,
    turn: usize,
}

impl<'a> Probe<'a> {
    /// Writes it for the first time.
    fn new(folder: &'a Folder, client: &'a Namespace) -> Result<Self> {
        let probe = Self {
            folder,
            client,
            turn: 0,
        };
        probe.write()?;
        Ok(probe)
    }

    /// Switches to its other endpoint, and waits until that one answers; none if that takes too long.
    fn change(&mut self, patience: Duration) -> Result<Option<Duration>> {
        self.turn += 1;
        let (began, endpoint) = (Instant::now(), self.endpoint());
        self.write()?;
        let to = SocketAddr::new(Ip::V4.cluster_ip(NUMBER), PORT);
        let request = Request::tcp(to).timeout(Duration::from_millis(500));
        while began.elapsed() < patience {
            if request.send(self.client)?.answered_by() == Some(endpoint) {
                return Ok(Some(began.elapsed()));
            }
        }
        Ok(None)
    }

    fn endpoint(&self) -> &'static str {
        ["web-1", "web-3"][self.turn % 2]
    }

    fn write(&self) -> Result<()> {
        let mut objects = vec![
            bare_service("probe", NUMBER)
                .port("tcp", Protocol::Tcp, PORT, TARGET)
                .build(),
        ];
        objects.extend(slices("probe", &[self.endpoint()]));
        self.folder.write(PROBE, &objects)
    }
}

/// One of the other Services.
fn other(number: u32) -> [Value; 2] {
    let name = format!("other-{number}");
    let [high, low] = [number / 250, number % 250 + 1];
    let service = Service::new("others", &name).cluster_ips(&[&format!("10.97.{high}.{low}")]);
    let endpoint = IpAddr::from([
        10,
        201,
        u8::try_from(high).unwrap_or(u8::MAX),
        u8::try_from(low).unwrap_or(u8::MAX),
    ]);
    [
        service.port("http", Protocol::Tcp, PORT, TARGET).build(),
        Slice::new("others", &name, &name)
            .port("http", Protocol::Tcp, TARGET)
            .ready(endpoint, "elsewhere")
            .build(),
    ]
}
