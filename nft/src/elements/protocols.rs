//! The anonymous set `{ tcp, udp, sctp }`. The rules that translate look up a packet's protocol in it.

use netlink_bindings::nftables::PushSetAttrs;
use tandem_core::family::IpFamily;
use tandem_core::row::Protocol;

use crate::elements::field::Field;
use crate::elements::layout::{ANONYMOUS_SET, CONSTANT};
use crate::elements::udata;
use crate::family::numbers;
use crate::wire::batch::Batch;
use crate::wire::{ANONYMOUS, CREATE, Command, attr, nested, number, text, value};

/// Writes the set for one rule. Returns its number in the transaction.
pub(crate) fn encode_protocols(batch: &mut Batch, family: IpFamily) -> u32 {
    const COUNT: u32 = 3;
    const PROTOCOLS: [Protocol; COUNT as usize] = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
    let family = numbers(family);
    let id = batch.anonymous_set();
    batch.message(Command::NewSet, CREATE, |buf| {
        let _ = PushSetAttrs::new(buf)
            .push_table_bytes(crate::TABLE.as_bytes())
            .push_name_bytes(ANONYMOUS.as_bytes())
            .push_flags(ANONYMOUS_SET | CONSTANT)
            .push_key_type(Field::Protocol.data_type(family))
            .push_key_len(Field::Protocol.len(family))
            .push_id(id.to_be()) // the builder writes this one in host order
            .nested_desc()
            .push_size(COUNT)
            .end_nested()
            .push_userdata(&udata::protocols());
    });
    batch.message(Command::NewSetElem, CREATE, |buf| {
        text(buf, attr::elements::TABLE, crate::TABLE);
        text(buf, attr::elements::SET, ANONYMOUS);
        number(buf, attr::elements::SET_ID, id);
        nested(buf, attr::elements::ELEMENTS, |buf| {
            for protocol in PROTOCOLS {
                nested(buf, attr::LIST_ELEM, |buf| {
                    nested(buf, attr::element::KEY, |buf| {
                        value(buf, attr::data::VALUE, &[protocol.number()]);
                    });
                });
            }
        });
    });
    id
}
