//! What the kernel itself says of a transaction that is only to be checked. Needs root and nft. Each test runs in a network
//! namespace of its own. MUST NOT send packets.

use super::support::{in_namespace, run};
use crate::rules::fixed_chain::FixedChain;
use crate::table::session::Session;
use crate::table::{adopt, check};
use crate::wire::socket::Buffers;
use crate::wire::{APPEND, CREATE, Command, attr, nested, text};
use tandem_core::family::{Family, V4, V6};
use tandem_core::plane::RuleSettings;

/// Has a table checked whose last rule has an expression that no kernel knows.
fn with_an_unknown_expression<F: Family>() -> String {
    let mut session = Session::<F>::new(RuleSettings::default(), Buffers::SMALL).expect("a socket");
    let first = session.begin();
    adopt::encode_new(&mut session, &[]);
    session.batch.message(Command::NewRule, CREATE | APPEND, |buf| {
        text(buf, attr::rule::TABLE, crate::TABLE);
        text(buf, attr::rule::CHAIN, FixedChain::Postrouting.name());
        nested(buf, attr::rule::EXPRESSIONS, |buf| {
            nested(buf, attr::LIST_ELEM, |buf| text(buf, attr::expr::NAME, "nobody-has-it"));
        });
    });
    check::ask(&mut session, first)
        .expect_err("the kernel took it")
        .to_string()
}

#[test]
fn the_kernel_names_what_it_does_not_know_and_keeps_nothing_of_the_check() {
    in_namespace(|| {
        for (family, error) in [
            ("ip", with_an_unknown_expression::<V4>()),
            ("ip6", with_an_unknown_expression::<V6>()),
        ] {
            assert_eq!(
                error,
                format!(
                    "in table {family} tandem, it refuses a rule of chain postrouting with nobody-has-it: No such file or \
                     directory (os error 2)"
                )
            );
        }
        assert_eq!(run("nft", &["list", "ruleset"]), "");
    });
}
