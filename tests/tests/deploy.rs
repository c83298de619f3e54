//! The short form of `make deploy-test`: an installation comes, is upgraded and goes, on real kubelets.

use std::time::Duration;

use tandem_tests::deploy;

#[test]
fn the_chart_is_installed_upgraded_and_uninstalled_and_no_connection_is_lost() {
    let interval = Duration::from_millis(150);
    let figures = deploy::run(&deploy::short(), interval, |name, took, wrong| {
        println!("{name}: {took:.0?} {}", wrong.unwrap_or("right"));
    })
    .unwrap();
    assert_eq!(figures.wrong, [], "{figures:?}");
    assert_eq!(figures.steps, deploy::short().len());
    assert_eq!(
        (figures.lost, figures.leftovers.as_ref().map(Vec::len)),
        (0, Some(0)),
        "{figures:?}"
    );
    assert!(figures.connections > 1_000, "{figures:?}");
}
