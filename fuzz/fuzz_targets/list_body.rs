//! The body of a list. The first byte is the kind and the encoding, the second the length of the pieces in which it arrives.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use tandem::fuzzing::{Given, list};
use tandem::source::decode::Decoder;
use tokio::runtime::{Builder, Runtime};

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Builder::new_current_thread().enable_time().build().unwrap());

fuzz_target!(|input: &[u8]| {
    let [kind, piece, body @ ..] = input else { return };
    let is = Given::of_list(*kind);
    let list = |pieces| RUNTIME.block_on(list(Decoder::new("node-a"), is, pieces));
    let whole = list(vec![body.to_vec()]);
    let pieces = body.chunks(usize::from(*piece).max(1)).map(<[u8]>::to_vec);
    assert_eq!(whole, list(pieces.collect()), "how a body is cut makes no difference");
});
