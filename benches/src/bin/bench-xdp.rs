//! `make bench-xdp`: what a packet costs in XDP.

use std::process::ExitCode;

use tandem_xdp::packets::speed::{self, Speed};

fn main() -> ExitCode {
    let speeds = match speed::measure(&[1, 5_000, 100_000]) {
        Ok(speeds) => speeds,
        Err(error) => {
            eprintln!("bench-xdp: {error}");
            return ExitCode::FAILURE;
        }
    };
    println!("xdp_pass_ns: {:.0}", speeds.pass);
    for (flows, families) in &speeds.at {
        println!("# {flows} flows");
        for (family, speed) in [4, 6].into_iter().zip(families) {
            let Speed {
                established,
                reply,
                not_ours,
                new,
            } = speed;
            println!("xdp_established{family}_{flows}_ns: {established:.0}");
            println!("xdp_reply{family}_{flows}_ns: {reply:.0}");
            println!("xdp_not_ours{family}_{flows}_ns: {not_ours:.0}");
            println!("xdp_new{family}_{flows}_ns: {new:.0}");
        }
    }
    ExitCode::SUCCESS
}
