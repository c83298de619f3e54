//! The Services of the demo, as manifests.

use anyhow::Result;
use serde_json::{Value, json};
use tandem_tests::manifests::{Folder, Policy, Service};
use tandem_tests::stage::{Ip, TARGET, bare_service, slices};
use tandem_tests::traffic::Protocol;

/// The last numbers of their ClusterIPs.
pub(crate) const WEB: u8 = 1;
pub(crate) const API: u8 = 2;
pub(crate) const CART: u8 = 3;
pub(crate) const DNS: u8 = 4;
pub(crate) const IDLE: u8 = 5;
pub(crate) const FAR: u8 = 6;

pub(crate) const WEB_PORT: u16 = 30_080;
pub(crate) const API_PORT: u16 = 30_081;
pub(crate) const CART_PORT: u16 = 30_082;
pub(crate) const FAR_PORT: u16 = 30_083;

/// The file that the demo edits.
pub(crate) const WEB_ENDPOINTS: &str = "web-endpoints.yaml";

/// Writes them all, one file each.
pub(crate) fn write(folder: &Folder, now: &str) -> Result<()> {
    let http = |name, number, port| bare_service(name, number).node_port("tcp", Protocol::Tcp, 80, TARGET, port);
    let balanced =
        |service: Service, number| service.load_balancer(&Ip::external_ips(number).each_ref().map(String::as_str));
    let both = ["web-1", "web-3"];
    let service = |service: Service| {
        let mut service = service.build();
        service["metadata"]["creationTimestamp"] = json!(now);
        service
    };
    let with = |service: Value, name: &str, pods: &[&str]| {
        let mut objects = vec![service];
        objects.extend(slices(name, pods));
        objects
    };

    folder.write("web.yaml", &[service(balanced(http("web", WEB, WEB_PORT), WEB))])?;
    folder.write(WEB_ENDPOINTS, &slices("web", &both))?;
    let api = balanced(http("api", API, API_PORT), API).external_policy(Policy::Local);
    folder.write("api.yaml", &with(service(api), "api", &both))?;
    let cart = http("cart", CART, CART_PORT).affinity(10_800);
    folder.write("cart.yaml", &with(service(cart), "cart", &["web-1", "web-2", "web-3"]))?;
    let dns = bare_service("dns", DNS).port("udp", Protocol::Udp, 53, TARGET);
    folder.write("dns.yaml", &with(service(dns), "dns", &both))?;
    folder.write(
        "idle.yaml",
        &[service(bare_service("idle", IDLE).port(
            "tcp",
            Protocol::Tcp,
            80,
            TARGET,
        ))],
    )?;
    let far = http("far", FAR, FAR_PORT).external_policy(Policy::Local);
    // It is in a namespace of its own, because its columns would be too wide for the output of `tandem services -n
    // shop`.
    let mut far = with(service(far), "far", &["web-3"]);
    for object in &mut far {
        object["metadata"]["namespace"] = json!("far");
    }
    folder.write("far.yaml", &far)
}
