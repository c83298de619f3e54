//! Which flows a question asks for.

use std::net::{IpAddr, SocketAddr};

use tandem_core::family::IpFamily;

use crate::xdp::FlowShown;

/// Some flows. What is not said is not asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlowsWanted {
    /// Of this family.
    pub family: Option<IpFamily>,
    /// Of this protocol: `TCP` or `UDP`
    pub protocol: Option<String>,
    /// Of a client.
    pub client: Option<End>,
    /// To a frontend.
    pub frontend: Option<End>,
    /// To an endpoint.
    pub endpoint: Option<End>,
    /// In this state.
    pub state: Option<String>,
}

/// An address, with a port or with any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    addr: IpAddr,
    port: Option<u16>,
}

impl std::str::FromStr for End {
    type Err = String;

    /// `10.0.0.1`, `10.0.0.1:80`, `2001:db8::1`, `[2001:db8::1]:80`
    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(whole) = text.parse::<SocketAddr>() {
            return Ok(Self {
                addr: whole.ip(),
                port: Some(whole.port()),
            });
        }
        let bare = text
            .strip_prefix('[')
            .and_then(|text| text.strip_suffix(']'))
            .unwrap_or(text);
        let addr = bare.parse().map_err(|_| {
            format!("{text:?}: must be an address, or an address and a port: 10.0.0.1, 10.0.0.1:80, [2001:db8::1]:80")
        })?;
        Ok(Self { addr, port: None })
    }
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}", SocketAddr::new(self.addr, port)),
            None => write!(f, "{}", self.addr),
        }
    }
}

impl End {
    fn is(self, end: SocketAddr) -> bool {
        self.addr == end.ip() && self.port.is_none_or(|port| port == end.port())
    }
}

impl FlowsWanted {
    /// Whether a flow is asked for.
    pub(super) fn has(&self, flow: &FlowShown) -> bool {
        let is = |wanted: Option<End>, end| wanted.is_none_or(|wanted| wanted.is(end));
        let named = |wanted: &Option<String>, name: &str| {
            wanted.as_deref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(name))
        };
        named(&self.protocol, &flow.protocol.to_string())
            && named(&self.state, flow.state)
            && is(self.client, flow.client)
            && is(self.frontend, flow.frontend)
            && is(self.endpoint, flow.endpoint)
    }

    /// The families that are asked for.
    pub(super) fn families(&self) -> impl Iterator<Item = IpFamily> {
        let all = [IpFamily::V4, IpFamily::V6].into_iter();
        let ends = [self.client, self.frontend, self.endpoint].into_iter().flatten();
        let of_ends: Vec<IpFamily> = ends.map(|end| IpFamily::of(end.addr)).collect();
        let family = self.family;
        all.filter(move |one| family.is_none_or(|only| only == *one) && of_ends.iter().all(|other| other == one))
    }

    /// It as a query of a URL.
    pub fn query(&self) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        let end = |end: Option<End>| end.map(|end| end.to_string());
        for (name, value) in [
            ("family", self.family.map(|family| family.to_string())),
            ("protocol", self.protocol.clone()),
            ("client", end(self.client)),
            ("frontend", end(self.frontend)),
            ("endpoint", end(self.endpoint)),
            ("state", self.state.clone()),
        ] {
            if let Some(value) = value {
                query.append_pair(name, &value);
            }
        }
        query.finish()
    }

    /// It from a query.
    pub(super) fn of(query: &str) -> Result<Self, String> {
        let mut wanted = Self::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let end = || value.parse::<End>().map(Some);
            match &*name {
                "family" => {
                    wanted.family = match &*value {
                        "IPv4" => Some(IpFamily::V4),
                        "IPv6" => Some(IpFamily::V6),
                        _ => return Err(format!("family: {value:?}: must be IPv4 or IPv6")),
                    }
                }
                "protocol" => wanted.protocol = Some(value.into_owned()),
                "client" => wanted.client = end()?,
                "frontend" => wanted.frontend = end()?,
                "endpoint" => wanted.endpoint = end()?,
                "state" => wanted.state = Some(value.into_owned()),
                _ => return Err(format!("{name:?}: flows are not asked for by this")),
            }
        }
        Ok(wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xdp::HopShown;
    use tandem_core::row::Protocol;

    fn flow(client: &str, frontend: &str) -> FlowShown {
        let hop = HopShown {
            device: None,
            mac: crate::net::Mac::default(),
            current: true,
        };
        FlowShown {
            protocol: Protocol::Tcp,
            client: client.parse().unwrap(),
            frontend: frontend.parse().unwrap(),
            endpoint: "10.244.1.1:8080".parse().unwrap(),
            source: "10.0.0.1:50000".parse().unwrap(),
            state: "ESTABLISHED",
            age: 1,
            idle: 0,
            to_endpoint: hop,
            to_client: hop,
        }
    }

    #[test]
    fn a_question_for_flows_comes_back_from_its_query_and_finds_what_it_asks_for() {
        let one = flow("198.51.100.1:4000", "192.0.2.10:80");
        for (client, state, finds) in [
            ("198.51.100.1", "established", true),
            ("198.51.100.1:4000", "ESTABLISHED", true),
            ("198.51.100.1:4001", "ESTABLISHED", false),
            ("198.51.100.2", "ESTABLISHED", false),
            ("198.51.100.1", "CLOSED", false),
        ] {
            let wanted = FlowsWanted {
                client: Some(client.parse().unwrap()),
                state: Some(state.to_owned()),
                protocol: Some("tcp".to_owned()),
                ..FlowsWanted::default()
            };
            assert_eq!(FlowsWanted::of(&wanted.query()), Ok(wanted.clone()));
            assert_eq!(wanted.has(&one), finds, "{client} {state}");
            assert_eq!(wanted.families().collect::<Vec<_>>(), [IpFamily::V4]);
        }
        assert_eq!(FlowsWanted::default().families().count(), 2);
        assert!(FlowsWanted::default().has(&one));
    }

    #[test]
    fn what_is_no_address_is_named() {
        for wrong in ["", "10.0.0", "10.0.0.1:99999", "web", "[::1"] {
            let error = wrong.parse::<End>().unwrap_err();
            assert!(error.starts_with(&format!("{wrong:?}: must be an address")), "{error}");
        }
        for (text, shown) in [
            ("[2001:db8::1]:80", "[2001:db8::1]:80"),
            ("[::1]", "::1"),
            ("::1", "::1"),
        ] {
            assert_eq!(text.parse::<End>().unwrap().to_string(), shown);
        }
    }
}
