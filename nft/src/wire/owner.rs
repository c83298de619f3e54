//! Who owns a table: turns the kernel's port ids into words. Used for errors and status. Reads `/proc/<pid>` and
//! nothing else.

/// The bits of a netlink port id that hold a process id, if the socket was bound as this crate, libmnl and libnl do
/// it.
pub(crate) const PID_BITS: u32 = 0x003f_ffff;

/// Names a process: `pid 1234 (kube-proxy)`.
pub(crate) fn describe_process(pid: u32) -> String {
    match std::fs::read_to_string(format!("/proc/{pid}/comm")) {
        Ok(name) => format!("pid {pid} ({})", name.trim_end()),
        Err(_) => format!("pid {pid}"),
    }
}

/// Names a process and how it was started: `pid 1234 (tandem run)`.
pub(crate) fn describe_process_and_arguments(pid: u32) -> String {
    match std::fs::read(format!("/proc/{pid}/cmdline")) {
        Ok(arguments) if !arguments.is_empty() => {
            let words: Vec<_> = arguments
                .split(|byte| *byte == 0)
                .map(String::from_utf8_lossy)
                .collect();
            format!("pid {pid} ({})", words.join(" ").trim_end())
        }
        _ => describe_process(pid),
    }
}

/// Whether a netlink port id can belong to a socket of the process with this pid. The pid is the one that the process
/// itself sees.
pub(crate) fn may_be_port_of(port: u32, pid: u32) -> bool {
    port >> 31 != 0 || port & PID_BITS == pid & PID_BITS
}

/// Names the process behind a netlink port id.
pub(crate) fn describe_port(port: u32) -> String {
    match port & PID_BITS {
        pid if port >> 31 == 0 && pid != 0 => describe_process(pid),
        _ => format!("netlink port {port}"),
    }
}
