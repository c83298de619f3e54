//! The parts of the benchmarks. The programs are in `src/bin`; README.md says what each figure means.
//!
//! | module | what it has |
//! |---|---|
//! | [`report`] | samples, quantiles, and the lines `name: value` |
//! | [`synthetic`] | synthetic clusters of any size: as objects, and as the API server writes them |
//! | [`kernel`] | Tandem's engine and tables in the namespace of the calling thread |
//! | [`netlink`] | a bare nftables socket: transactions, and the kernel's generation events |
//! | [`raw`] | what Tandem's change is compared with: the same elements, encoded before |
//! | [`kube_proxy`] | the ruleset that kube-proxy writes, as text |
//! | [`api_server`] | a stand-in that lists and watches a synthetic cluster |
//! | [`second`] | the second data plane in this process, and beside an engine |
//! | [`connections`] | a client that connects as fast as it can, and its server |
//! | [`questions`] | what clients ask a Service, over and over, and its servers |
//! | [`turns`] | rates that are measured in turns |
//! | [`memory`] | the memory of a process, and of the kernel |
//! | [`population`] | fills a real API server with a synthetic cluster |
//! | [`proxies`] | what kube-proxy has programmed |
//! | [`sockets`] | the connections to the API server, and the bytes that arrived |
//! | [`audit`] | how many requests the API server got, and from whom |
//!
//! Nothing here judges a figure: a benchmark prints figures, and fails only if it could not measure.

pub mod api_server;
pub mod audit;
pub mod connections;
pub mod kernel;
pub mod kube_proxy;
pub mod memory;
pub mod netlink;
pub mod population;
pub mod proxies;
pub mod questions;
pub mod raw;
pub mod report;
pub mod second;
pub mod sockets;
pub mod synthetic;
pub mod turns;
