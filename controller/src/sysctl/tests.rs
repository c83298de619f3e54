use std::path::PathBuf;

use super::*;
use crate::config::ConntrackMax;

/// A folder with the files of a machine. It is removed when dropped.
struct Machine(PathBuf);

impl Machine {
    fn new(name: &str) -> Self {
        let root = std::env::temp_dir().join(format!("tandem-sysctl-{}-{name}", std::process::id()));
        fs::create_dir_all(root.join(NETFILTER)).unwrap();
        fs::create_dir_all(root.join(HASHSIZE).parent().unwrap()).unwrap();
        fs::create_dir_all(root.join("sys/devices/system/cpu")).unwrap();
        fs::create_dir_all(root.join("proc/self")).unwrap();
        let machine = Self(root);
        machine.write("nf_conntrack_max", "65536\n");
        machine.write("nf_conntrack_tcp_timeout_established", "432000\n");
        machine.write("nf_conntrack_tcp_timeout_close_wait", "60\n");
        machine.write("nf_conntrack_tcp_be_liberal", "0\n");
        machine.write("nf_conntrack_udp_timeout", "30\n");
        machine.write("nf_conntrack_udp_timeout_stream", "120\n");
        fs::write(machine.0.join(HASHSIZE), "16384\n").unwrap();
        fs::write(machine.0.join("proc/self/oom_score_adj"), "0\n").unwrap();
        fs::write(machine.0.join("sys/devices/system/cpu/online"), "0-2,5\n").unwrap();
        machine
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.0.join(NETFILTER).join(name), text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.0.join(NETFILTER).join(name)).unwrap()
    }

    fn hashsize(&self) -> String {
        fs::read_to_string(self.0.join(HASHSIZE)).unwrap()
    }

    /// Applies the settings. Returns the lines without the root's path.
    fn apply(&self, wanted: &Conntrack) -> (Vec<String>, Vec<String>) {
        let (mut written, mut failed) = (Vec::new(), Vec::new());
        for outcome in conntrack(&self.0, wanted, processors(&self.0)) {
            match outcome {
                Ok(line) => written.extend(line),
                Err(line) => failed.push(line),
            }
        }
        let plain = |lines: Vec<String>| -> Vec<String> {
            let root = format!("{}/", self.0.display());
            lines.iter().map(|line| line.replace(&root, "")).collect()
        };
        (plain(written), plain(failed))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn max(per_core: u32, min: u32) -> Conntrack {
    Conntrack {
        max: Some(ConntrackMax { per_core, min }),
        ..Conntrack::default()
    }
}

#[test]
fn the_number_of_connections_is_per_processor_and_at_least_the_least() {
    let machine = Machine::new("max");
    for (per_core, min, result) in [
        (50_000, 131_072, "200000"),
        (1_000, 131_072, "131072"),
        (1_000_000, 0, "1048576"),
    ] {
        machine.apply(&max(per_core, min));
        assert_eq!(machine.read("nf_conntrack_max"), result, "{per_core} {min}");
    }
    assert_eq!(machine.hashsize(), "262144");
}

#[test]
fn nothing_is_written_where_nothing_is_asked_for_or_all_is_as_asked() {
    let machine = Machine::new("nothing");
    assert_eq!(machine.apply(&Conntrack::default()), (Vec::new(), Vec::new()));
    assert_eq!(machine.apply(&max(0x4000, 0)), (Vec::new(), Vec::new()));
    // A newline at the end shows that the file was not written.
    assert_eq!(
        (machine.read("nf_conntrack_max"), machine.hashsize()),
        ("65536\n".into(), "16384\n".into())
    );
}

#[test]
fn a_larger_hash_table_stays() {
    let machine = Machine::new("hash");
    machine.apply(&max(1_000, 8_000));
    assert_eq!(
        (machine.read("nf_conntrack_max"), machine.hashsize()),
        ("8000".into(), "16384\n".into())
    );
}

#[test]
fn timeouts_and_liberality_are_written_as_seconds_and_one() {
    let machine = Machine::new("timeouts");
    let wanted = Conntrack {
        max: None,
        tcp_established: Some(Duration::from_hours(24)),
        tcp_close_wait: Some(Duration::from_hours(1)),
        tcp_be_liberal: true,
        udp: Some(Duration::from_millis(45_900)),
        udp_stream: Some(Duration::from_mins(2)),
    };
    let (written, failed) = machine.apply(&wanted);
    assert_eq!(
        written,
        [
            "proc/sys/net/netfilter/nf_conntrack_tcp_timeout_established: 86400 (was 432000)",
            "proc/sys/net/netfilter/nf_conntrack_tcp_timeout_close_wait: 3600 (was 60)",
            "proc/sys/net/netfilter/nf_conntrack_tcp_be_liberal: 1 (was 0)",
            "proc/sys/net/netfilter/nf_conntrack_udp_timeout: 45 (was 30)",
        ]
    );
    assert_eq!(failed, Vec::<String>::new());
    assert_eq!(machine.read("nf_conntrack_udp_timeout"), "45");
    assert_eq!(machine.apply(&wanted), (Vec::new(), Vec::new()), "the second time");
}

#[test]
fn what_cannot_be_written_is_named_once_each_and_the_rest_is_written() {
    let machine = Machine::new("unwritable");
    let folder = machine.0.join(NETFILTER);
    fs::remove_file(folder.join("nf_conntrack_max")).unwrap();
    // Root may write any file. But nobody can write to a folder.
    fs::remove_file(folder.join("nf_conntrack_udp_timeout")).unwrap();
    fs::create_dir(folder.join("nf_conntrack_udp_timeout")).unwrap();
    let wanted = Conntrack {
        udp: Some(Duration::from_secs(5)),
        udp_stream: Some(Duration::from_secs(6)),
        ..max(1, 100_000)
    };
    let (written, failed) = machine.apply(&wanted);
    assert_eq!(
        written,
        ["proc/sys/net/netfilter/nf_conntrack_udp_timeout_stream: 6 (was 120)"]
    );
    assert_eq!(
        failed,
        [
            "proc/sys/net/netfilter/nf_conntrack_max: 100000 cannot be written: No such file or directory (os error 2): it \
             stays (No such file or directory (os error 2))",
            "proc/sys/net/netfilter/nf_conntrack_udp_timeout: 5 cannot be written: Is a directory (os error 21): it stays (Is \
             a directory (os error 21))",
        ]
    );
    assert_eq!(
        machine.hashsize(),
        "16384\n",
        "left alone where the number of connections is"
    );
}

#[test]
fn the_oom_score_is_written_where_it_differs() {
    let machine = Machine::new("oom");
    let file = machine.0.join("proc/self/oom_score_adj");
    assert_eq!(oom_score_adj(&machine.0, 0), Ok(None));
    assert!(oom_score_adj(&machine.0, -999).is_ok_and(|line| line.is_some()));
    assert_eq!(fs::read_to_string(file).unwrap(), "-999");
}

#[test]
fn processors_are_counted_as_the_kernel_lists_them() {
    for (list, number) in [
        ("0", Some(1)),
        ("0-3", Some(4)),
        ("0-2,5,7-8", Some(6)),
        ("3-1", None),
        ("", None),
    ] {
        assert_eq!(count(list), number, "{list}");
    }
}
