//! What a kernel's refusals say, without a kernel.

use crate::elements::sets::Set;
use crate::rules::fixed_chain::FixedChain;
use crate::rules::{self, fixed};
use crate::wire::batch::Batch;
use tandem_core::family::IpFamily;
use tandem_core::plane::Place;

use super::*;

/// A transaction with a set, a chain and its rules. Message 11 is the set, 12 the chain, 13 its first rule.
fn batch() -> Batch {
    let mut batch = Batch::default();
    batch.begin(numbers(IpFamily::V4).nfproto, 10);
    Set::Services.layout().encode(&mut batch, IpFamily::V4);
    let (chain, hook) = FixedChain::of_nat(Place::First).next().expect("there are nat chains");
    rules::encode_chain(&mut batch, chain.name(), Some(hook));
    fixed::encode_fixed(&mut batch, IpFamily::V4, chain, chain.name(), RuleSettings::default());
    batch.end_without_marker();
    batch
}

fn refused(answers: &[(u32, i32)]) -> Result<(), String> {
    let refusal = |(sequence, errno): &(u32, i32)| Refusal {
        sequence: *sequence,
        errno: *errno,
        words: None,
    };
    let outcome = Outcome::Refused(answers.iter().map(refusal).collect());
    judge("ip", batch().bytes(), outcome).map_err(|error| error.to_string())
}

#[test]
fn what_the_kernel_does_not_know_is_named_with_what_is_in_it() {
    let texts: Vec<_> = [11, 12, 13]
        .map(|sequence| refused(&[(sequence, libc::ENOENT)]).expect_err("it is refused"))
        .into();
    insta::assert_snapshot!(texts.join("\n"));
}

#[test]
fn of_several_refusals_the_first_one_counts() {
    let error = refused(&[(13, libc::ENOENT), (12, libc::EOPNOTSUPP)]).expect_err("it is refused");
    assert!(error.contains("it refuses chain"), "{error}");
}

#[test]
fn a_refusal_that_may_pass_says_nothing_about_the_kernel() {
    for errno in [libc::EBUSY, libc::ENOMEM, libc::EPERM, libc::ENOBUFS] {
        assert_eq!(refused(&[(12, errno)]), Ok(()));
    }
    assert!(judge("ip", batch().bytes(), Outcome::Done).is_ok());
}
