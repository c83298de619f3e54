//! What an earlier run left, and whose switches cannot be reached.

use super::super::Found;
use super::*;

#[test]
fn programs_whose_switch_cannot_be_reached_are_detached() {
    let place = Place::new();
    let (sockets, mut v4, v6) = place.open();
    v4.renew(&RuleSettings::default(), &rows4()).unwrap();
    sockets.set_node(place.cookie());
    sockets.attach(Who::Node, &place.cgroup).unwrap();
    drop((sockets, v4, v6));
    assert_eq!(place.python(ASK4), "10.96.0.1:80");
    let found = Found::look(&place.pins).unwrap();
    // As long as its switch is there, it goes on as it was found.
    drop(found.switches(false).unwrap());
    assert_eq!(place.python(ASK4), "10.96.0.1:80");
    // A process without the right to open maps gets no switch either, on kernels and under filters that ask for it.
    let layout = place.pins.join("v1");
    fs::remove_file(layout.join("maps/SWITCH6")).unwrap();
    let _switches = found.switches(false).unwrap();
    assert_eq!(place.python(REFUSED), "timed out");
    assert!(!found.translates());
    assert!(layout.join("links/recvmsg4").exists());
    found.remove().unwrap();
}
