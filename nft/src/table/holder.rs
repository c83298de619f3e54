//! The holder of the node's lock, as a text that fits into a table's comment and can be read back. A Tandem in
//! another pod sees neither the holder's files nor its pid, so the text says how to find it. Used by `lock`. Reads
//! `/proc/self`, the clock and the environment.

use std::fmt;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::wire::owner;

/// The longest part of a host's name that leaves room for the command in a comment.
const HOST_LEN: usize = 30;

/// A process that holds the lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    pid: u32,
    /// The number of the pid namespace that the pid belongs to; 0 if it is not known.
    pid_namespace: u64,
    since: String,
    host: String,
    command: String,
}

/// Text that names no holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("names no holder of the lock")]
pub(crate) struct NoHolder;

impl Holder {
    /// This process, from now on.
    pub(crate) fn this_process() -> Self {
        let seconds = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        let mut arguments = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
        let program = arguments.next().unwrap_or_default();
        let program = program.rsplit('/').next().unwrap_or_default().to_owned();
        let command: Vec<String> = std::iter::once(program).chain(arguments).collect();
        Self {
            pid: std::process::id(),
            pid_namespace: pid_namespace(),
            since: utc(seconds),
            host: printable(&host()).replace(' ', "-").chars().take(HOST_LEN).collect(),
            command: printable(&command.join(" ")),
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Describes the holder for a Tandem that cannot start because of it.
    pub(crate) fn describe(&self) -> String {
        let Self {
            pid,
            pid_namespace: namespace,
            since,
            host,
            command,
        } = self;
        if *namespace != 0 && *namespace == pid_namespace() {
            return format!("{}, since {since}", owner::describe_process_and_arguments(*pid));
        }
        format!(
            "pid {pid} ({command}) on {host}, since {since}, in another pid namespace, {namespace} \
             (`lsns -t pid` on the node finds it)"
        )
    }
}

/// The text in the comment. Its end may be cut off.
impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            pid,
            pid_namespace,
            since,
            host,
            command,
        } = self;
        write!(
            f,
            "pid {pid} in pid namespace {pid_namespace} since {since} on {host}: {command}"
        )
    }
}

impl FromStr for Holder {
    type Err = NoHolder;

    fn from_str(comment: &str) -> Result<Self, NoHolder> {
        let parse = || {
            let rest = comment.strip_prefix("pid ")?;
            let (pid, rest) = rest.split_once(" in pid namespace ")?;
            let (pid_namespace, rest) = rest.split_once(" since ")?;
            let (since, rest) = rest.split_once(" on ")?;
            let (host, command) = rest.split_once(": ")?;
            Some(Self {
                pid: pid.parse().ok()?,
                pid_namespace: pid_namespace.parse().ok()?,
                since: since.to_owned(),
                host: host.to_owned(),
                command: command.to_owned(),
            })
        };
        parse().ok_or(NoHolder)
    }
}

/// The number of this process's pid namespace; 0 if it is not known.
fn pid_namespace() -> u64 {
    let link = std::fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    let number = link
        .to_str()
        .and_then(|text| text.strip_prefix("pid:[")?.strip_suffix(']'));
    number.and_then(|number| number.parse().ok()).unwrap_or_default()
}

/// The pod's name, if it is given. A pod in the node's network has the node's host name.
fn host() -> String {
    let named = ["POD_NAME", "HOSTNAME"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()));
    named
        .or_else(|| std::fs::read_to_string("/proc/sys/kernel/hostname").ok())
        .map_or_else(|| "an unknown host".to_owned(), |name| name.trim().to_owned())
}

/// Text that nft can print in quotes and read again.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '"' | '\\' => '\'',
            c if c.is_control() => ' ',
            c => c,
        })
        .collect()
}

/// Seconds since 1970 as `2026-01-31T23:59:59Z`.
fn utc(seconds: u64) -> String {
    let (mut days, second) = (seconds / 86_400, seconds % 86_400);
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while days >= lengths[month] {
        days -= lengths[month];
        month += 1;
    }
    format!(
        "{year}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
        month + 1,
        days + 1,
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

#[cfg(test)]
mod tests {
    use super::{Holder, NoHolder, pid_namespace, printable, utc};
    use crate::elements::udata;

    #[test]
    fn a_holder_is_read_back_from_its_comment() {
        let holder = Holder {
            pid: 4_194_304,
            pid_namespace: 4_294_967_295,
            since: utc(1_800_000_000),
            host: "x".repeat(30),
            command: "tandem run --config=/etc/tandem/a-long-name.conf --log info".to_owned(),
        };
        let comment = holder.to_string();
        let stored = udata::cut(&comment);
        let read: Holder = stored.parse().unwrap();
        assert!(read.command.starts_with("tandem run --config"), "{}", read.command);
        assert!(holder.command.starts_with(&read.command));
        let command = holder.command.clone();
        assert_eq!(Holder { command, ..read }, holder);
    }

    #[test]
    fn text_that_is_no_holder_is_said_to_be_none() {
        let whole = "pid 7 in pid namespace 8 since 2026-01-01T00:00:00Z on a: tandem run";
        assert!(whole.parse::<Holder>().is_ok());
        for text in [
            "",
            "Kubernetes Services",
            &whole[..40],
            &whole[1..],
            &whole.replace('8', "x"),
        ] {
            assert_eq!(text.parse::<Holder>(), Err(NoHolder), "{text}");
        }
    }

    #[test]
    fn a_holder_in_this_pid_namespace_is_named_by_its_process_another_by_its_comment() {
        let here = Holder::this_process();
        let own = format!("pid {} (", std::process::id());
        assert!(here.describe().starts_with(&own), "{}", here.describe());
        assert!(!here.describe().contains("namespace"), "{}", here.describe());
        let there = Holder {
            pid_namespace: pid_namespace() + 1,
            command: "tandem run".to_owned(),
            host: "tandem-x7".to_owned(),
            ..here
        };
        let words = there.describe();
        assert!(words.contains("(tandem run) on tandem-x7, since 20"), "{words}");
        assert!(
            words.contains(&format!("pid namespace, {}", pid_namespace() + 1)),
            "{words}"
        );
    }

    #[test]
    fn a_command_with_anything_in_it_fits_between_quotes() {
        assert_eq!(printable("a \"b\"\n\\c ü\u{7f}"), "a 'b' 'c ü ");
    }

    #[test]
    fn seconds_become_dates() {
        for (seconds, date) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(utc(seconds), date);
        }
    }
}
