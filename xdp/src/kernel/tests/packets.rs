//! Single packets in the programs for packets. `make xdp-packets` runs all cases.

/// The cases of one family without a VLAN tag are a quarter of all; in a build that is not optimised they take a while.
#[test]
fn each_packet_is_translated_whole_or_passed_with_the_choice_and_counted_by_reason() {
    for family in ["IPv4 plain", "IPv6 VLAN"] {
        // The cases enter a network of their own with the thread that runs them.
        let run = std::thread::spawn(move || crate::packets::run(family).map_err(|error| error.to_string()));
        let report = run.join().unwrap().unwrap();
        assert!(report.cases > 500, "{family}: {}", report.cases);
        assert_eq!(report.wrong, Vec::<String>::new(), "{family}");
    }
}

#[test]
fn records_that_several_processors_take_over_from_each_other_never_mix_two_flows() {
    // `make xdp-race` takes a minute.
    let race = || crate::packets::race::run(std::time::Duration::from_secs(3), 1).map_err(|error| error.to_string());
    let report = std::thread::spawn(race).join().unwrap().unwrap();
    assert!(report.claims > 100 && report.certain > 1000, "{report:?}");
    assert_eq!((report.wrong, report.examples), (0, Vec::new()));
}
