//! Flows that are cut while their clients go on to send.

use tandem_core::family::{V4, V6};
use tandem_xdp_layout::{RecordNumber, StateWord, record};

use super::net::{Net, mac, neighbour, port};
use super::place::Place;
use super::shape::{Shape, What};
use super::{Failed, REDIRECT, Shown, shown};
use crate::kernel::Records;
use crate::{Cut, Plane, cut_datagrams};

/// Sends a datagram, or the first packet of a connection, of this client.
fn send(place: &Place, net: Net, client: u8, what: What) -> Result<(), Failed> {
    let mut shape = Shape::new(net.client(client, 40_000), (net.vip(), port::MANY).into(), what);
    shape.macs = [mac(0), neighbour(0)];
    let answer = place.packets.try_packet(false, &shape.bytes())?;
    assert_eq!(answer.action, REDIRECT, "client {client}");
    Ok(())
}

/// The records of all flows of a client.
fn of_client<A: Shown>(records: &Records<A>, net: Net, client: u8) -> Vec<(RecordNumber, StateWord)> {
    let of_client = |(number, words)| {
        let (state, flow) = record::read::<A>(words);
        (shown(flow?.client) == net.client(client, 40_000)).then_some((number, state))
    };
    records.all().filter_map(of_client).collect()
}

fn cut<F: Plane<Mapped: Shown>>(place: &Place, six: bool) -> Result<(), Failed> {
    let net = Net { six };
    for (client, what) in [(1, What::Udp(true)), (2, What::Udp(true)), (1, What::Tcp(2))] {
        send(place, net, client, what)?;
    }
    let records = place.packets.records::<F::Mapped>(six)?;
    let [(number, first), connection] = of_client(&records, net, 1)[..] else {
        return Err("the client has not two flows".into());
    };
    let (udp, tcp) = if first.protocol() == 17 {
        ((number, first), connection)
    } else {
        (connection, (number, first))
    };
    let other = of_client(&records, net, 2);
    let wrong = record::read::<F::Mapped>(records.at(udp.0).ok_or("no such record")?);
    let wrong = shown(wrong.1.ok_or("no flow")?.endpoint);

    let all = records.all().map(|(_, words)| words);
    let now = Records::<F::Mapped>::now();
    let found = cut_datagrams::<F>(all, now, &place.packets.times(), |flow| {
        let to = (flow.to.addr.into(), flow.to.port.get());
        assert_eq!(to, (net.vip(), port::MANY));
        (flow.with.addr.into(), flow.with.port.get()) == (wrong.ip(), wrong.port())
    });
    assert_eq!(found, Cut { read: 2, cut: 1 });
    assert_eq!(of_client(&records, net, 1), [tcp], "the connection stays");
    assert_eq!(of_client(&records, net, 2), other);

    for _ in 0..2 {
        send(place, net, 1, What::Udp(true))?;
    }
    let mut flows = of_client(&records, net, 1);
    flows.retain(|flow| *flow != tcp);
    let [(number, after)] = flows[..] else {
        return Err(format!("datagrams after the cut are {} flows", flows.len()).into());
    };
    assert!(number != udp.0 || !after.is_same_claim(udp.1), "it is another flow");
    assert_eq!(of_client(&records, net, 2), other);
    Ok(())
}

#[test]
fn the_next_datagram_after_a_flow_is_cut_begins_another_one_and_other_flows_stay() {
    // A node has a network of its own, which the thread enters.
    let run = std::thread::spawn(|| {
        let place = Place::new(1)?;
        cut::<V4>(&place, false)?;
        cut::<V6>(&place, true)
    });
    run.join().unwrap().unwrap();
}
