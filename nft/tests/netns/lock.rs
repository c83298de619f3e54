//! The node's lock. Needs root, nft, setpriv. Each test runs in a network namespace of its own. MUST NOT send packets.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rustix::net::netlink::{NETFILTER, SocketAddrNetlink};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with};
use rustix::process::{Resource, Rlimit, setrlimit};
use tandem_core::family::V4;
use tandem_core::plane::RuleSettings;
use tandem_nft::{LockError, NftTable, NodeLock};

use crate::support::{in_namespace, run, until};

const TABLE: &str = "tandem-node-lock";

fn acquire() -> NodeLock {
    NodeLock::acquire().expect("the lock")
}

fn own_name() -> String {
    format!("pid {} (", std::process::id())
}

/// Starts a program that reads its commands from a pipe.
fn start(program: &[&str]) -> Child {
    Command::new(program[0])
        .args(&program[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect(program[0])
}

/// Whether nft accepts these commands. `before` is the command line that starts nft.
fn nft(before: &[&str], orders: &str) -> bool {
    let mut nft = start(&[before, &["nft", "-f", "-"]].concat());
    nft.stdin
        .take()
        .expect("piped")
        .write_all(orders.as_bytes())
        .expect("nft reads");
    nft.wait().expect("nft").success()
}

#[test]
fn one_tandem_per_node() {
    in_namespace(|| {
        let lock = acquire();
        match NodeLock::acquire() {
            Err(LockError::Held(holder)) => {
                assert!(holder.starts_with(&own_name()), "{holder}");
                assert!(holder.contains("), since 20"), "{holder}");
            }
            other => panic!("{other:?}"),
        }
        drop(lock);
        // If another test is just starting a program, a closed socket lives on in it for a moment.
        until(|| NodeLock::acquire().is_ok());
    });
}

#[test]
fn each_network_namespace_has_a_lock_of_its_own() {
    in_namespace(|| {
        let _lock = acquire();
        in_namespace(|| drop(acquire()));
    });
}

#[test]
fn who_may_not_change_nftables_cannot_keep_a_tandem_from_starting() {
    in_namespace(|| {
        let squat = format!("table ip {TABLE} {{ flags owner; }}\n");
        let nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"];
        let root_without = [
            "setpriv",
            "--bounding-set",
            "-net_admin",
            "--inh-caps",
            "-net_admin",
            "--ambient-caps",
            "-net_admin",
        ];
        for squatter in [&nobody[..], &root_without] {
            assert!(!nft(squatter, &squat), "{squatter:?} made the table");
        }
        assert!(nft(&[], &squat), "nobody can make the table so");
        // What everybody may have: the name that was the lock in an earlier version, and all port ids that name this
        // process.
        let name = SocketAddr::from_abstract_name("tandem-node-agent").expect("a name");
        let _listener = UnixListener::bind_addr(&name).expect("a socket");
        let _ports = squat_ports();
        let lock = acquire();
        match NodeLock::acquire() {
            Err(LockError::Held(holder)) => assert!(holder.starts_with(&own_name()), "{holder}"),
            other => panic!("{other:?}"),
        }
        let kernel = NftTable::<V4>::open(RuleSettings::default());
        kernel.expect("a table");
        drop(lock);
    });
}

/// Binds to every port id that contains this process's pid.
fn squat_ports() -> Vec<OwnedFd> {
    const PID_BITS: u32 = 22;
    let many = Some(8192);
    let limit = Rlimit {
        current: many,
        maximum: many,
    };
    setrlimit(Resource::Nofile, limit).expect("root");
    let pid = std::process::id() & ((1 << PID_BITS) - 1);
    (0..1024)
        .map(|n| {
            let flags = SocketFlags::CLOEXEC;
            let socket =
                socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(NETFILTER)).expect("a socket");
            bind(&socket, &SocketAddrNetlink::new(pid | n << PID_BITS, 0)).expect("a port id");
            socket
        })
        .collect()
}

#[test]
fn a_table_of_that_name_that_nobody_owns_is_no_lock() {
    in_namespace(|| {
        let made = format!("table ip {TABLE} {{\ncomment \"mine\"\nchain a {{ }}\n}}\n");
        assert!(nft(&[], &made));
        let lock = acquire();
        let listing = run("nft", &["list", "table", "ip", TABLE]);
        assert!(
            listing.contains("flags owner") && !listing.contains("chain"),
            "{listing}"
        );
        assert!(matches!(NodeLock::acquire(), Err(LockError::Held(_))));
        drop(lock);
        until(|| run("nft", &["list", "tables"]).is_empty());
    });
}

#[test]
fn another_program_that_owns_the_table_is_named_although_the_comment_names_a_tandem() {
    in_namespace(|| {
        let lock = acquire();
        let saved = run("nft", &["list", "ruleset"]);
        drop(lock);
        until(|| run("nft", &["list", "tables"]).is_empty());
        let mut nft = start(&["nft", "-i"]);
        let orders = nft.stdin.as_mut().expect("piped");
        // In interactive mode, one command is one line.
        let line: String = saved
            .lines()
            .map(|line| line.split(" # ").next().unwrap_or_default())
            .fold(String::new(), |all, line| {
                let end = if line.ends_with('{') || line.is_empty() {
                    " "
                } else {
                    "; "
                };
                all + line + end
            });
        writeln!(orders, "{line}").expect("nft reads");
        orders.flush().expect("nft reads");
        until(|| !run("nft", &["list", "tables"]).is_empty());
        match NodeLock::acquire() {
            Err(LockError::Taken(owner)) => assert_eq!(owner, format!("pid {} (nft)", nft.id())),
            other => panic!("{other:?}"),
        }
        nft.kill().expect("nft");
        nft.wait().expect("nft");
        drop(acquire());
    });
}

#[test]
fn others_can_list_the_lock_but_neither_flush_nor_delete_nor_take_it() {
    in_namespace(|| {
        let _lock = acquire();
        let before = run("nft", &["list", "ruleset"]);
        let own = format!("pid {} in pid namespace ", std::process::id());
        for part in [TABLE, "flags owner", &own, " since 20"] {
            assert!(before.contains(part), "{part}: {before}");
        }
        run("nft", &["flush", "ruleset"]);
        assert!(!nft(&[], &format!("delete table ip {TABLE}\n")));
        assert!(!nft(&[], &format!("add chain ip {TABLE} a\n")));
        assert_eq!(run("nft", &["list", "ruleset"]), before);
        assert!(matches!(NodeLock::acquire(), Err(LockError::Held(_))));
    });
}

#[test]
fn a_saved_ruleset_that_holds_the_lock_loads_once_its_holder_is_gone_and_is_no_lock() {
    in_namespace(|| {
        let lock = acquire();
        let saved = run("nft", &["list", "ruleset"]);
        drop(lock);
        until(|| run("nft", &["list", "tables"]).is_empty());
        assert!(nft(&[], &format!("{saved}table inet admins {{ }}\n")), "{saved}");
        // The kernel removed the lock's table when nft's socket closed.
        assert_eq!(run("nft", &["list", "tables"]), "table inet admins\n");
        drop(acquire());
    });
}

#[test]
fn many_that_come_and_go_never_hold_it_together_and_each_is_told_why() {
    const EACH: usize = 100;
    in_namespace(|| {
        let (held, taken) = (AtomicBool::new(false), AtomicUsize::new(0));
        let come_and_go = || {
            for _ in 0..EACH {
                match NodeLock::acquire() {
                    Ok(lock) => {
                        assert!(!held.swap(true, Ordering::SeqCst), "two hold it");
                        taken.fetch_add(1, Ordering::Relaxed);
                        std::thread::yield_now();
                        held.store(false, Ordering::SeqCst);
                        drop(lock);
                    }
                    Err(LockError::Held(holder)) => assert!(holder.starts_with(&own_name()), "{holder}"),
                    Err(other) => panic!("{other}"),
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(come_and_go);
            }
        });
        assert!(taken.into_inner() > 0);
    });
}

#[test]
fn nft_lists_all_that_stands_beside_the_lock_as_json() {
    in_namespace(|| {
        let lock = acquire();
        assert!(nft(&[], "table inet admins { }\n"));
        let listing = run("nft", &["-j", "list", "ruleset"]);
        assert!(
            listing.contains("admins") && listing.trim_end().ends_with("]}"),
            "{listing}"
        );
        drop(lock);
        assert_eq!(run("nft", &["list", "tables"]), "table inet admins\n");
    });
}
