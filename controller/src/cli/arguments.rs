//! Makes Tandem's command line from one for kube-proxy.

use std::ffi::{OsStr, OsString};
use std::path::Path;

/// If the program is called `kube-proxy`, or if its first argument is a flag, it is `tandem run`. So a DaemonSet for
/// kube-proxy needs only another image.
pub(super) fn normal(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = arguments.collect();
    let as_kube_proxy = is_kube_proxy(&arguments);
    let first = arguments.get(1).and_then(|first| first.to_str()).unwrap_or_default();
    let own = matches!(first, "-h" | "--help" | "-V");
    if as_kube_proxy || (first.starts_with('-') && !own) {
        arguments.insert(1, "run".into());
    }
    if arguments.get(1).is_none_or(|command| command != "run") {
        return arguments;
    }
    let version = |argument: &OsString| {
        matches!(
            argument.to_str(),
            Some("--version" | "--version=true" | "--version=raw")
        )
    };
    if arguments.iter().any(version) {
        arguments.truncate(1);
        arguments.push("--version".into());
        return arguments;
    }
    // By this flag, kube-proxy reports another version. Nothing else changes, so Tandem drops the flag.
    arguments.retain(|argument| !argument.to_str().is_some_and(|text| text.starts_with("--version=")));
    for argument in arguments.iter_mut().skip(2) {
        if let Some(dashed) = argument.to_str().and_then(dashed) {
            *argument = dashed;
        }
    }
    arguments
}

/// Whether the program is called `kube-proxy`.
pub(super) fn is_kube_proxy(arguments: &[OsString]) -> bool {
    let name = arguments.first().map(Path::new).and_then(Path::file_name);
    name == Some(OsStr::new("kube-proxy"))
}

/// kube-proxy accepts `--cluster_cidr` for `--cluster-cidr`, so Tandem does too.
fn dashed(argument: &str) -> Option<OsString> {
    let flag = argument.strip_prefix("--")?;
    let (name, rest) = flag.split_at(flag.find('=').unwrap_or(flag.len()));
    name.contains('_')
        .then(|| format!("--{}{rest}", name.replace('_', "-")).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> String {
        let words = normal(line.split(' ').map(OsString::from));
        let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
        words.join(" ")
    }

    #[test]
    fn kube_proxys_command_lines_are_tandem_run() {
        for (given, normal) in [
            ("tandem status -o json", "tandem status -o json"),
            ("tandem", "tandem"),
            ("tandem --help", "tandem --help"),
            ("tandem --version", "tandem --version"),
            ("tandem -V", "tandem -V"),
            ("tandem --config=/f", "tandem run --config=/f"),
            ("tandem -v=2", "tandem run -v=2"),
            ("/usr/local/bin/kube-proxy", "/usr/local/bin/kube-proxy run"),
            (
                "/usr/local/bin/kube-proxy --config=/var/lib/kube-proxy/config.conf --hostname-override=node-1",
                "/usr/local/bin/kube-proxy run --config=/var/lib/kube-proxy/config.conf --hostname-override=node-1",
            ),
            ("kube-proxy --version=raw", "kube-proxy --version"),
            ("kube-proxy -v 3 --version", "kube-proxy --version"),
            ("kube-proxy --version=v1.36.0 --cleanup", "kube-proxy run --cleanup"),
            ("kube-proxy --help", "kube-proxy run --help"),
            (
                "kube-proxy --cluster_cidr=a_b --v 2",
                "kube-proxy run --cluster-cidr=a_b --v 2",
            ),
            ("tandem run --cluster_cidr a_b", "tandem run --cluster-cidr a_b"),
        ] {
            assert_eq!(of(given), normal);
        }
    }
}
