//! Objects that nobody uses. If every node has their last form, every node has everything that was changed before.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::{Fleet, PATIENCE};
use crate::cluster::path;
use crate::eventually;
use crate::manifests::{Service, Slice};
use crate::traffic::Protocol;

const NAMESPACE: &str = "default";
const NAME: &str = "marker";
const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 254));

impl Fleet {
    /// Makes the objects.
    pub(super) fn plant(&self) -> Result<()> {
        let service = Service::new(NAMESPACE, NAME).port("", Protocol::Tcp, 1, 1);
        let mut service = service.build();
        service["spec"]["selector"] = Value::Null; // the controller makes no slice for it
        let slice = Slice::new(NAMESPACE, NAME, NAME).port("", Protocol::Tcp, 1);
        self.cluster.api().create(&service)?;
        self.cluster.api().create(&slice.ready(ADDRESS, "elsewhere").build())?;
        Ok(())
    }

    /// Waits until every node has programmed all changes that the test has made at the API server. Controllers may
    /// react to these changes later; see [`Self::wait_for`].
    pub fn settle(&mut self) -> Result<()> {
        self.changes += 1;
        let (api, port) = (self.cluster.api(), 1 + self.changes);
        let ports = json!([{ "name": "", "protocol": "TCP", "port": port }]);
        api.patch(
            &path("Service", NAMESPACE, NAME)?,
            &json!({ "spec": { "ports": &ports } }),
        )?;
        api.patch(&path("EndpointSlice", NAMESPACE, NAME)?, &json!({ "ports": &ports }))?;
        let endpoints = json!([SocketAddr::new(ADDRESS, port).to_string()]);
        for tandem in &self.tandems {
            let programmed = || {
                let text = tandem.command(&["services", NAME, "-n", NAMESPACE, "-o", "json"]);
                let service: Value = serde_json::from_str(&text.ok()?).ok()?;
                let seen = &service["ports"][0];
                (seen["port"] == port && seen["families"][0]["all"]["endpoints"] == endpoints).then_some(())
            };
            eventually(PATIENCE, programmed).with_context(|| format!("a change was not programmed in {PATIENCE:?}"))?;
        }
        Ok(())
    }
}
