//! `tandem flows`

use clap::{Args, ValueEnum};
use tandem_core::family::IpFamily;

use crate::api::{End, FlowView, FlowsWanted, HopView, List, get};

use super::format::{Table, age, counted, print, structured};
use super::{Agent, AskError, Output, block_on};

/// List the flows of packets from outside that XDP translates.
///
/// Connection tracking does not know these flows, so `conntrack -L` does not show them, and tcpdump does not see their packets.
/// Flows that nftables serves are in `conntrack -L` alone. PORT is the port that the endpoint sees; `-o wide` shows the address
/// too, and where packets go next in each direction. A next hop with "old" behind is looked up anew by the next packet. STATE
/// is as in `conntrack -L`.
///
/// Exits with 3 if no agent answers.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  tandem flows\n  tandem flows --frontend 192.0.2.10:443 -o wide\n  tandem flows --client 2001:db8::7 -o json"
)]
pub(super) struct Flows {
    /// Only this family.
    #[arg(long, value_enum)]
    family: Option<FamilyName>,
    /// Only this protocol.
    #[arg(long, value_enum)]
    protocol: Option<ProtocolName>,
    /// Only those of this client: its address, or address and port.
    #[arg(long, value_name = "ADDRESS[:PORT]")]
    client: Option<End>,
    /// Only those to this frontend.
    #[arg(long, value_name = "ADDRESS[:PORT]")]
    frontend: Option<End>,
    /// Only those to this endpoint.
    #[arg(long, value_name = "ADDRESS[:PORT]")]
    endpoint: Option<End>,
    /// Only those in this state.
    #[arg(long, value_enum, ignore_case = true)]
    state: Option<StateName>,
    /// Another form than a table.
    #[arg(short, long, value_enum)]
    output: Option<Output>,
    #[command(flatten)]
    agent: Agent,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum FamilyName {
    Ipv4,
    Ipv6,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ProtocolName {
    Tcp,
    Udp,
}

/// The states of TCP, and the last two of UDP.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "SCREAMING_SNAKE_CASE")]
enum StateName {
    SynSent,
    SynRecv,
    Established,
    Closing,
    Closed,
    Reset,
    Unreplied,
    Replied,
}

impl Flows {
    pub(super) fn run(self) -> Result<(), AskError> {
        let named =
            |value: &dyn Fn() -> Option<clap::builder::PossibleValue>| value().map(|value| value.get_name().to_owned());
        let wanted = FlowsWanted {
            family: self.family.map(|family| match family {
                FamilyName::Ipv4 => IpFamily::V4,
                FamilyName::Ipv6 => IpFamily::V6,
            }),
            protocol: self
                .protocol
                .and_then(|protocol| named(&|| protocol.to_possible_value())),
            client: self.client,
            frontend: self.frontend,
            endpoint: self.endpoint,
            state: self.state.and_then(|state| named(&|| state.to_possible_value())),
        };
        let list: List<FlowView> = block_on(get(&self.agent.socket, &format!("/v1/flows?{}", wanted.query())))??;
        if structured(&list, self.output)? {
            return Ok(());
        }
        if list.items.is_empty() {
            eprintln!("No flows found. `tandem status` says whether XDP takes any.");
            return Ok(());
        }
        Ok(print(&table(&list.items, self.output == Some(Output::Wide)))?)
    }
}

fn table(flows: &[FlowView], wide: bool) -> String {
    let mut headings = vec![
        "PROTOCOL", "CLIENT", "FRONTEND", "ENDPOINT", "PORT", "STATE", "AGE", "IDLE",
    ];
    if wide {
        headings[4] = "SEEN-AS";
        headings.extend(["TO-ENDPOINT", "TO-CLIENT"]);
    }
    let mut table = Table::new(&headings);
    for flow in flows {
        let port = flow.source.rsplit_once(':').map_or("", |(_, port)| port);
        let mut row = vec![
            flow.protocol.clone(),
            flow.client.clone(),
            flow.frontend.clone(),
            flow.endpoint.clone(),
            if wide { flow.source.clone() } else { port.to_owned() },
            flow.state.clone(),
            age(u64::from(flow.age_seconds)),
            age(u64::from(flow.idle_seconds)),
        ];
        if wide {
            row.extend([hop(&flow.to_endpoint), hop(&flow.to_client)]);
        }
        table.row(row);
    }
    let count = counted(flows.len() as u64, "flow");
    format!("{}\n{count}\n", table.print())
}

fn hop(hop: &HopView) -> String {
    let device = hop.device.as_deref().unwrap_or("<gone>");
    let old = if hop.current { "" } else { " old" };
    format!("{device}/{}{old}", hop.mac)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hop_view(device: Option<&str>, current: bool) -> HopView {
        HopView {
            device: device.map(str::to_owned),
            mac: "02:00:00:00:00:01".to_owned(),
            current,
        }
    }

    #[test]
    fn flows_stand_in_a_table_with_where_their_packets_go() {
        let flow = FlowView {
            protocol: "TCP".to_owned(),
            client: "198.51.100.1:40000".to_owned(),
            frontend: "192.0.2.10:80".to_owned(),
            endpoint: "10.244.1.1:8080".to_owned(),
            source: "172.16.1.1:51234".to_owned(),
            state: "ESTABLISHED".to_owned(),
            age_seconds: 61,
            idle_seconds: 2,
            to_endpoint: hop_view(Some("eth1"), true),
            to_client: hop_view(None, false),
        };
        insta::assert_snapshot!(table(std::slice::from_ref(&flow), false), @r"
        PROTOCOL   CLIENT               FRONTEND        ENDPOINT          PORT    STATE         AGE   IDLE
        TCP        198.51.100.1:40000   192.0.2.10:80   10.244.1.1:8080   51234   ESTABLISHED   61s   2s

        1 flow
        ");
        let wide = table(&[flow], true);
        let hops =
            "172.16.1.1:51234   ESTABLISHED   61s   2s     eth1/02:00:00:00:00:01   <gone>/02:00:00:00:00:01 old\n";
        assert!(wide.contains(hops), "{wide}");
    }
}
