//! `make xdp-packets`: single packets in the kernel's programs. Fails if one was treated otherwise than its case says.
//!
//! An argument is a part of the names of the cases that are run.

use std::process::ExitCode;

fn main() -> ExitCode {
    let only = std::env::args().nth(1).unwrap_or_default();
    let report = match tandem_xdp::packets::run(&only) {
        Ok(report) => report,
        Err(error) => {
            eprintln!("xdp-packets: {error}");
            return ExitCode::FAILURE;
        }
    };
    for wrong in &report.wrong {
        println!("# {wrong}");
    }
    for (program, count) in &report.verified {
        println!("verified_{program}: {count}");
    }
    println!("packet_cases: {}", report.cases);
    println!("packet_wrong: {}", report.wrong.len());
    if report.wrong.is_empty() && report.cases > 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
