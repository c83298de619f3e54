//! `make bench-xdp`: what a packet costs in XDP, and what connections gain by it. `ONLY=packets` or `ONLY=requests` measures one of both.
//!
//! Nanoseconds are without those of a program that passes every packet, and as on a machine on which that one measures 80. Beside
//! each figure stands its goal, and what was measured here.

mod requests;

use anyhow::{Result, anyhow, bail};
use tandem_xdp::packets::speed::{self, Speed, Speeds};
use tandem_xdp::packets::stream::{self, Rates};

/// What the program that passes every packet measures on the machine of the goals.
const PASS: f64 = 80.0;

/// Flows, how they are called, and the goals: established, of IPv4 and IPv6, answered, and not ours.
type Goals = (usize, &'static str, [f64; 5]);
const GOALS: [Goals; 3] = [
    (1, "", [80.0, 120.0, 50.0, 100.0, 40.0]),
    (5_000, "_5k", [160.0, 220.0, 110.0, 160.0, 40.0]),
    (100_000, "_100k", [300.0, 350.0, 250.0, 300.0, 40.0]),
];
/// Those of a flow's first packet, with most flows.
const NEW: [f64; 2] = [1100.0, 1400.0];

fn main() -> Result<()> {
    let only = std::env::var("ONLY").unwrap_or_default();
    if !["", "packets", "requests"].contains(&&*only) {
        bail!("ONLY is {only:?}: it can be packets or requests");
    }
    if only != "requests" {
        packets()?;
    }
    if only != "packets" {
        requests::measure()?;
    }
    Ok(())
}

fn packets() -> Result<()> {
    print(
        &speed::measure(&GOALS.map(|(flows, ..)| flows)).map_err(|error| anyhow!("measure single packets: {error}"))?,
    );
    let rates = rates().map_err(|error| anyhow!("measure a stream of packets: {error}"))?;
    println!("xdp_pps: {:.0}", rates.translated);
    println!("xdp_tx_of_nothing_pps: {:.0}", rates.nothing);
    println!(
        "xdp_pps_ratio: {:.2} # goal 0.7 or more",
        rates.translated / rates.nothing
    );
    Ok(())
}

/// The thread stays in the network that is made for this, so it is another one.
fn rates() -> std::result::Result<Rates, speed::Failed> {
    let thread = std::thread::spawn(stream::rates);
    thread.join().map_err(|_| "the thread ended early")?
}

fn print(speeds: &Speeds) {
    let Speeds { pass, at, list, memory } = speeds;
    println!("xdp_pass_ns: {pass:.0}");
    let figure = |name: &str, took: f64, goal: f64| {
        let scaled = took * PASS / pass;
        println!("{name}_ns: {scaled:.0} # goal {goal:.0}, measured {took:.0}");
    };
    let mut new = [0.0; 2];
    for ((_, suffix, goals), (_, [four, six])) in GOALS.iter().zip(at) {
        let not_ours = f64::midpoint(four.not_ours, six.not_ours);
        let both = [
            ("established", four.established, six.established),
            ("reply", four.reply, six.reply),
        ];
        for ((name, four, six), goals) in both.into_iter().zip(goals.chunks(2)) {
            figure(&format!("xdp_{name}4{suffix}"), four, goals[0]);
            figure(&format!("xdp_{name}6{suffix}"), six, goals[1]);
        }
        figure(&format!("xdp_not_ours{suffix}"), not_ours, goals[4]);
        new = [four, six].map(|Speed { new, .. }| *new);
    }
    for ((family, took), goal) in [4, 6].into_iter().zip(new).zip(NEW) {
        figure(&format!("xdp_new{family}"), took, goal);
    }
    println!("flows_list_100k_ms: {:.1} # goal 50", list.as_secs_f64() * 1e3);
    println!(
        "kernel_flows_mb: {}.{} # goal 96",
        memory / 1_000_000,
        memory / 100_000 % 10
    );
}
