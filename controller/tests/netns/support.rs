//! Private network namespaces. Each vanishes with the thread of its test. Nothing outside it is touched.

use std::process::Command;

use rustix::thread::{UnshareFlags, unshare_unsafe};
use tandem::net::{Link, Links, Rtnetlink};
use tandem_core::node::InterfaceName;

/// Runs a test in a new network namespace. It has `lo` and one end of a cable, `d0`, both up.
pub(crate) fn in_namespace(test: impl FnOnce() + Send) {
    let result = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            enter_new_namespace();
            ip("link set lo up");
            ip("link add d0 type veth peer name d9");
            ip("link set d0 up");
            ip("link set d9 up");
            test();
        });
        thread.join()
    });
    result.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

/// Moves this thread to a new network namespace.
#[expect(unsafe_code, reason = "unshare has no safe wrapper")]
fn enter_new_namespace() {
    // SAFETY: only the network namespace changes, which no descriptor of this test depends on.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.expect("these tests need root");
}

/// Runs `ip` with these words and returns what it printed. It must succeed.
pub(crate) fn ip(words: &str) -> String {
    run("ip", words)
}

/// Runs `bridge` with these words and returns what it printed. It must succeed.
pub(crate) fn bridge(words: &str) -> String {
    run("bridge", words)
}

fn run(program: &str, words: &str) -> String {
    let output = Command::new(program)
        .args(words.split_whitespace())
        .output()
        .expect(program);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {words}: {error}");
    String::from_utf8(output.stdout).expect("text")
}

/// The link with this name.
pub(crate) fn link(kernel: &mut Rtnetlink, name: &str) -> Option<Link> {
    let name = InterfaceName::parse(name).expect("a name");
    let links = kernel.list::<Link>(&Links).expect("links");
    links.into_iter().find(|link| link.name == Some(name))
}
