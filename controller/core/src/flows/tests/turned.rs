//! Flows that answers began.

use super::*;

#[test]
fn what_an_answer_began_is_told_from_what_a_program_of_the_node_began() {
    let home = at([192, 0, 2, 11], 53);
    let home_too = Destination::Address(home.addr, home.port);
    let home_flows = |endpoints: &[Endpoint<V4>]| -> Change {
        (
            ObjectKey::new("ns", "dns"),
            [PortFlows::new([home_too], endpoints)].into(),
        )
    };
    let mut ledger = ledger([home_flows(&[home])]);
    let [client, other, outside] = [
        at([198, 51, 100, 2], 4000),
        at([198, 51, 100, 3], 4000),
        at([8, 8, 8, 8], 53),
    ];
    let answer = |to| flow(home, to, to);

    // It served the destination itself until now.
    let changes = ledger.apply([home_flows(&[endpoint(1)])]);
    assert_eq!(changes.dismissed, [home]);
    let dismissed = FlowCheck {
        servers: changes.dismissed.into_iter().collect(),
        ..FlowCheck::default()
    };
    assert_eq!(cut(&dismissed, &ledger, answer(client)), Some(Wrong::Turned));
    let masqueraded = Flow {
        back: at([192, 0, 2, 11], 54),
        ..answer(client)
    };
    assert_eq!(cut(&dismissed, &ledger, masqueraded), None);
    assert_eq!(
        cut(&dismissed, &ledger, flow(home, client, endpoint(2))),
        None,
        "translated"
    );
    assert_eq!(
        cut(&dismissed, &ledger, flow(at([192, 0, 2, 11], 54), client, client)),
        None
    );

    // Nothing knows it as a server.
    let look = FlowCheck {
        everything: true,
        changed: [home_too].into(),
        ..FlowCheck::default()
    };
    assert_eq!(cut(&look, &ledger, answer(client)), None);
    // One client asked it, and its answer was not seen yet.
    let asked = |answered| {
        let mut look = look.clone();
        look.servers.note(&Flow {
            answered,
            ..flow(client, home, home)
        });
        [client, other, outside].map(|to| cut(&look, &ledger, answer(to)).is_some())
    };
    assert_eq!(asked(false), [true, false, false]);
    // It has answered: it is a server for every client.
    assert_eq!(asked(true), [true, true, true]);

    // It serves again, or no endpoint serves.
    ledger.apply([home_flows(&[home, endpoint(1)])]);
    assert_eq!(cut(&dismissed, &ledger, answer(client)), None);
    ledger.apply([home_flows(&[])]);
    assert_eq!(
        cut(&dismissed, &ledger, answer(client)),
        Some(Wrong::Turned),
        "refused from now on"
    );
    ledger.apply([gone("dns")]);
    assert_eq!(cut(&dismissed, &ledger, answer(client)), None, "no Service's business");
}

#[test]
fn whoever_is_asked_through_a_translation_is_no_server_whose_answers_begin_flows() {
    let mut servers = Servers::default();
    servers.note(&flow(endpoint(9), at([10, 96, 0, 1], 53), endpoint(1)));
    servers.note(&Flow {
        back: endpoint(8),
        ..flow(endpoint(9), endpoint(1), endpoint(1))
    });
    assert!(servers.is_empty());
    servers.note(&flow(endpoint(9), endpoint(1), endpoint(1)));
    assert_eq!(servers.few(1), Some([endpoint(1)].into()));
    servers.note(&flow(endpoint(9), endpoint(2), endpoint(2)));
    assert_eq!(servers.few(1), None);
}
