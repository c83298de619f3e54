//! Private network namespaces for tests, and the installed `nft` in them. Each test thread has its own namespace, which
//! vanishes with the thread. Nothing outside it is touched.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

/// Runs a test in a new network namespace whose loopback is up.
pub(crate) fn in_namespace<T: Send>(test: impl FnOnce() -> T + Send) -> T {
    let result = std::thread::scope(|scope| {
        scope
            .spawn(|| {
                enter_new_namespace();
                run("ip", &["link", "set", "lo", "up"]);
                test()
            })
            .join()
    });
    result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Moves this thread to a new network namespace.
#[expect(unsafe_code, reason = "unshare has no safe wrapper")]
pub(crate) fn enter_new_namespace() {
    // SAFETY: only the network namespace changes, which no descriptor of this test depends on.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.expect("these tests need root");
}

/// A network namespace beside the thread's own. It vanishes with this value and with the sockets in it.
pub(crate) struct Network(File);

impl Network {
    /// A new one, whose loopback is up.
    pub(crate) fn new() -> Self {
        in_namespace(|| Self(File::open("/proc/thread-self/ns/net").expect("its namespace")))
    }

    /// A path by which programs find it.
    pub(crate) fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }

    /// Does something in it.
    pub(crate) fn within<T: Send>(&self, what: impl FnOnce() -> T + Send) -> T {
        let result = std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::Network)).expect("entered");
                    what()
                })
                .join()
        });
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

/// Runs a program in this thread's namespace and returns what it printed. The program must succeed.
pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().expect(program);
    assert!(
        output.status.success(),
        "{program} {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("text")
}

/// Waits until the condition is true.
pub(crate) fn until(mut condition: impl FnMut() -> bool) {
    for _ in 0..200 {
        if condition() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(condition(), "waited for 2 s");
}

/// What `nft list table` prints.
pub(crate) fn list(family: &str) -> String {
    run("nft", &["list", "table", family, "tandem"])
}

/// Checks that nft accepts this file, in a fresh namespace.
pub(crate) fn check_loads(ruleset: &str) {
    in_namespace(|| {
        let mut nft = Command::new("nft")
            .args(["-c", "-f", "-"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("nft");
        nft.stdin
            .take()
            .expect("piped")
            .write_all(ruleset.as_bytes())
            .expect("nft reads");
        let output = nft.wait_with_output().expect("nft");
        assert!(
            output.status.success(),
            "{}\n{ruleset}",
            String::from_utf8_lossy(&output.stderr)
        );
    });
}

/// A listing without the parts that say that the table has an owner.
pub(crate) fn without_owner(listing: &str) -> String {
    let (first, rest) = listing.split_once('\n').expect("a listing");
    let first = first.split(" # progname").next().unwrap_or(first);
    format!(
        "{first}\n{}",
        rest.replacen("\tflags owner\n", "", 1).replacen("\n\n", "\n", 1)
    )
}

/// A text without the lines that contain something.
pub(crate) fn without_lines(text: &str, something: &str) -> String {
    text.split_inclusive('\n')
        .filter(|line| !line.contains(something))
        .collect()
}
