//! Exit codes: 0 yes, 1 no, 2 a wrong command line, 3 no answer.

use std::io;
use std::path::PathBuf;

use super::*;

#[test]
fn each_end_of_a_command_that_asks_has_a_code_and_at_most_one_line() {
    let refused = ApiError::Connect {
        path: PathBuf::from("/run/tandem/tandem.sock"),
        source: io::ErrorKind::ConnectionRefused.into(),
    };
    let ends = [
        (
            AskError::No("changes of IPv4 wait".into()),
            1,
            Some("changes of IPv4 wait"),
        ),
        (AskError::Said, 1, None),
        (
            AskError::Usage("\"a/b\" is not a name".into()),
            2,
            Some("\"a/b\" is not a name"),
        ),
        (
            refused.into(),
            3,
            Some(
                "/run/tandem/tandem.sock: no tandem is running here (start it with `tandem run`, or name its socket with --socket)",
            ),
        ),
        (
            ApiError::Refused("service shop/web is not known to tandem".into()).into(),
            3,
            Some("service shop/web is not known to tandem"),
        ),
        (
            CommandError::from("nft is not installed here").into(),
            3,
            Some("nft is not installed here"),
        ),
    ];
    for (end, code, words) in ends {
        assert_eq!((end.code(), end.words().as_deref()), (code, words), "{end:?}");
    }
}

/// What runs without an agent ends without an answer, whatever is asked.
#[test]
fn a_command_that_asks_where_no_agent_runs_ends_with_3_and_a_wrong_command_line_with_2() {
    let run = |line: &str| {
        let words = line.split(' ').chain(["--socket", "/nowhere/tandem.sock"]);
        match parse(words.map(OsString::from).collect()).command {
            Command::Services(command) => command.run(),
            Command::Status(command) => command.run(),
            Command::Flows(command) => command.run(),
            Command::Ready(command) => command.run(),
            Command::Run(_) | Command::Ruleset(_) | Command::Config(_) => panic!("asks no agent: {line}"),
        }
    };
    for line in [
        "tandem status",
        "tandem status -o json",
        "tandem flows",
        "tandem flows --family ipv6 --protocol udp --client 2001:db8::1 --frontend 192.0.2.1:80 --state ESTABLISHED -o wide",
        "tandem ready",
        "tandem ready -o yaml",
        "tandem services",
        "tandem services -A -o wide",
        "tandem services web -n shop -o json",
    ] {
        assert_eq!(run(line).unwrap_err().code(), 3, "{line}");
    }
    for line in ["tandem services a/b", "tandem services web -A"] {
        assert_eq!(run(line).unwrap_err().code(), 2, "{line}");
    }
}
