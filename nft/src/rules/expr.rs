//! One rule as a list of expressions: those that load and compare. The expressions have the form in which nft 1.0.6
//! writes rules, so that nft can print them as rules. Used by the rules. It does not decide what a rule does.

use netlink_bindings::nftables::{
    CmpOps, CtDirection, CtKeys, FibFlags, LookupFlags, MetaKeys, NumgenTypes, PayloadBase, PushExprListAttrs,
    Registers,
};

use tandem_core::plane::DetectLocal;
use tandem_core::row::Protocol;

use crate::elements::field::{Field, SHARES, SLOTS};
use crate::elements::sets::Set;
use crate::family::Numbers;
use crate::rules::COUNTER;
use crate::wire::{ANONYMOUS, attr, nested, number, text};

/// The expressions of one rule. Registers are counted in words of four bytes, from 0.
#[derive(Debug)]
pub(crate) struct ExprList<'b> {
    buf: &'b mut Vec<u8>,
    pub(super) family: &'static Numbers,
}

/// The register that a verdict is written to.
pub(super) const VERDICT: u32 = Registers::RegVerdict as u32;

/// Where the headers of TCP, UDP and SCTP hold the destination port.
const DPORT_OFFSET: u32 = 2;

/// A word behind everything that a key of two words needs.
pub(super) const BEHIND_KEY: u32 = 4;

/// The kernel's number of a register.
pub(super) fn register(word: u32) -> u32 {
    Registers::Reg3200 as u32 + word
}

impl<'b> ExprList<'b> {
    pub(crate) fn new(buf: &'b mut Vec<u8>, family: &'static Numbers) -> Self {
        Self { buf, family }
    }

    pub(super) fn list(&mut self) -> PushExprListAttrs<&mut Vec<u8>> {
        PushExprListAttrs::new(&mut *self.buf)
    }

    pub(super) fn meta(&mut self, key: MetaKeys, word: u32) -> &mut Self {
        let _ = self
            .list()
            .nested_elem()
            .nested_data_meta()
            .push_key(key as u32)
            .push_dreg(register(word));
        self
    }

    fn set_meta(&mut self, key: MetaKeys) -> &mut Self {
        let _ = self
            .list()
            .nested_elem()
            .nested_data_meta()
            .push_key(key as u32)
            .push_sreg(register(0));
        self
    }

    pub(super) fn payload(&mut self, base: PayloadBase, offset: u32, len: u32, word: u32) -> &mut Self {
        let _ = self
            .list()
            .nested_elem()
            .nested_data_payload()
            .push_dreg(register(word))
            .push_base(base as u32)
            .push_offset(offset)
            .push_len(len);
        self
    }

    /// Loads one field. Its first word is this one.
    pub(crate) fn load_at(&mut self, field: Field, word: u32) -> &mut Self {
        let (family, len) = (self.family, field.len(self.family));
        match field {
            Field::Saddr => self.payload(PayloadBase::NetworkHeader, family.saddr_offset, len, word),
            Field::Daddr => self.payload(PayloadBase::NetworkHeader, family.daddr_offset, len, word),
            Field::Port => self.payload(PayloadBase::TransportHeader, DPORT_OFFSET, len, word),
            Field::Protocol => self.meta(MetaKeys::L4Proto, word),
            Field::Priority => self.meta(MetaKeys::Priority, word),
            Field::Slot => self.random(SLOTS, word),
            Field::Share => self.share(word),
            Field::Connection => self.ct(CtKeys::CtId, word),
        }
    }

    /// Loads fields one behind the other.
    pub(crate) fn load(&mut self, fields: &[Field]) -> &mut Self {
        let mut word = 0;
        for field in fields {
            self.load_at(*field, word);
            word += field.len(self.family).div_ceil(4);
        }
        self
    }

    /// Loads a random number below `modulus`.
    pub(crate) fn random(&mut self, modulus: u32, word: u32) -> &mut Self {
        let _ = self
            .list()
            .nested_elem()
            .nested_data_numgen()
            .push_dreg(register(word).to_be()) // the builder writes this one in host order
            .push_modulus(modulus)
            .push_type(NumgenTypes::Random as u32)
            .push_offset(0);
        self
    }

    pub(crate) fn load_mark(&mut self) -> &mut Self {
        self.meta(MetaKeys::Mark, 0)
    }

    pub(crate) fn set_mark(&mut self) -> &mut Self {
        self.set_meta(MetaKeys::Mark)
    }

    pub(crate) fn set_priority(&mut self) -> &mut Self {
        self.set_meta(MetaKeys::Priority)
    }

    /// Loads the share of clients that the source belongs to. The seed is always the same, because what is remembered
    /// outlives a restart. Who finds sources of one share gains nothing: each leads to an endpoint of the Service.
    fn share(&mut self, word: u32) -> &mut Self {
        const SEED: u32 = 0x7461_6e64;
        const JENKINS: u32 = 0;
        let len = u32::from(self.family.addr_len);
        self.load_at(Field::Saddr, BEHIND_KEY);
        self.expression("hash", |buf| {
            number(buf, attr::hash::SREG, register(BEHIND_KEY));
            number(buf, attr::hash::DREG, register(word));
            number(buf, attr::hash::LEN, len);
            number(buf, attr::hash::MODULUS, SHARES);
            number(buf, attr::hash::SEED, SEED);
            number(buf, attr::hash::TYPE, JENKINS);
        });
        self
    }

    fn ct(&mut self, key: CtKeys, word: u32) -> &mut Self {
        let _ = self
            .list()
            .nested_elem()
            .nested_data_ct()
            .push_dreg(register(word))
            .push_key(key as u32);
        self
    }

    pub(crate) fn load_ct_state(&mut self) -> &mut Self {
        self.ct(CtKeys::State, 0)
    }

    pub(crate) fn load_ct_status(&mut self) -> &mut Self {
        self.ct(CtKeys::Status, 0)
    }

    /// Requires that the packet has the direction of its connection's first packet. An answer of this host does not
    /// have it.
    pub(crate) fn is_original(&mut self) -> &mut Self {
        const ORIGINAL: u8 = CtDirection::Original as u8;
        self.ct(CtKeys::Direction, 0).compare(CmpOps::Eq, &[ORIGINAL])
    }

    /// Requires that the packet may be the first of its connection.
    pub(crate) fn is_new(&mut self) -> &mut Self {
        const NEW: u32 = 8;
        self.load_ct_state().bits(NEW).is_not(0)
    }

    /// Counts by a counter of the table.
    pub(crate) fn count(&mut self, counter: &str) -> &mut Self {
        self.expression("objref", |buf| {
            number(buf, attr::objref::TYPE, COUNTER);
            text(buf, attr::objref::NAME, counter);
        });
        self
    }

    /// Loads what kind of address the source is to this host.
    pub(crate) fn load_source_type(&mut self) -> &mut Self {
        self.address_type(FibFlags::Saddr)
    }

    /// Loads what kind of address the destination is to this host.
    pub(crate) fn load_destination_type(&mut self) -> &mut Self {
        self.address_type(FibFlags::Daddr)
    }

    fn address_type(&mut self, of: FibFlags) -> &mut Self {
        /// `NFT_FIB_RESULT_ADDRTYPE`. The builder numbers it wrongly.
        const ADDRTYPE: u32 = 3;
        let _ = self
            .list()
            .nested_elem()
            .nested_data_fib()
            .push_dreg(register(0))
            .push_result(ADDRTYPE)
            .push_flags(of as u32);
        self
    }

    pub(crate) fn load_number(&mut self, number: u32) -> &mut Self {
        self.load_bytes(&number.to_ne_bytes(), 0)
    }

    pub(super) fn load_bytes(&mut self, bytes: &[u8], word: u32) -> &mut Self {
        let _ = self
            .list()
            .nested_elem()
            .nested_data_immediate()
            .push_dreg(register(word))
            .nested_data()
            .push_value(bytes);
        self
    }

    /// Keeps the bits of `and`, then flips those of `xor`.
    pub(crate) fn bits_at(&mut self, and: u32, xor: u32, word: u32) -> &mut Self {
        self.bitwise(&and.to_ne_bytes(), &xor.to_ne_bytes(), word)
    }

    /// The same for as many bytes as the two have.
    pub(super) fn bitwise(&mut self, and: &[u8], xor: &[u8], word: u32) -> &mut Self {
        let len = u32::try_from(and.len()).unwrap_or(u32::MAX); // the kernel refuses what no register holds
        let _ = self
            .list()
            .nested_elem()
            .nested_data_bitwise()
            .push_sreg(register(word))
            .push_dreg(register(word))
            .push_len(len)
            .nested_mask()
            .push_value(and)
            .end_nested()
            .nested_xor()
            .push_value(xor);
        self
    }

    pub(crate) fn bits(&mut self, and: u32) -> &mut Self {
        self.bits_at(and, 0, 0)
    }

    pub(super) fn compare(&mut self, op: CmpOps, bytes: &[u8]) -> &mut Self {
        let _ = self
            .list()
            .nested_elem()
            .nested_data_cmp()
            .push_sreg(register(0))
            .push_op(op as u32)
            .nested_data()
            .push_value(bytes);
        self
    }

    pub(crate) fn is(&mut self, number: u32) -> &mut Self {
        self.compare(CmpOps::Eq, &number.to_ne_bytes())
    }

    pub(crate) fn is_not(&mut self, number: u32) -> &mut Self {
        self.compare(CmpOps::Neq, &number.to_ne_bytes())
    }

    pub(crate) fn is_protocol(&mut self, protocol: Protocol) -> &mut Self {
        self.load(&[Field::Protocol]).compare(CmpOps::Eq, &[protocol.number()])
    }

    /// Looks up what is loaded. The builder numbers the attributes of this expression wrongly.
    fn lookup(&mut self, set: &str, rest: impl FnOnce(&mut Vec<u8>)) -> &mut Self {
        self.expression("lookup", |buf| {
            text(buf, attr::lookup::SET, set);
            number(buf, attr::lookup::SREG, register(0));
            rest(buf);
        });
        self
    }

    pub(crate) fn is_in(&mut self, set: Set) -> &mut Self {
        self.lookup(set.name(), |_| ())
    }

    pub(crate) fn is_not_in(&mut self, set: Set) -> &mut Self {
        const INVERTED: u32 = LookupFlags::Invert as u32;
        self.lookup(set.name(), |buf| number(buf, attr::lookup::FLAGS, INVERTED))
    }

    /// Requires that the source is a pod or, if `yes` is false, that it is none. If pods are not detected, every
    /// packet passes.
    pub(crate) fn is_pod(&mut self, detect: DetectLocal, yes: bool) -> &mut Self {
        let op = if yes { CmpOps::Eq } else { CmpOps::Neq };
        match detect {
            DetectLocal::Nothing => self,
            DetectLocal::Sources(()) if yes => self.load(&[Field::Saddr]).is_in(Set::LocalPods),
            DetectLocal::Sources(()) => self.load(&[Field::Saddr]).is_not_in(Set::LocalPods),
            DetectLocal::Interface(name) => self.meta(MetaKeys::Iifname, 0).compare(op, name.padded()),
            // A comparison with fewer bytes than a name has is what nft prints as `name*`.
            DetectLocal::InterfacePrefix(name) => self.meta(MetaKeys::Iifname, 0).compare(op, name.as_str().as_bytes()),
        }
    }

    /// Requires a protocol of the transaction's anonymous set `id`.
    pub(crate) fn has_ports(&mut self, id: u32) -> &mut Self {
        self.load(&[Field::Protocol])
            .lookup(ANONYMOUS, |buf| number(buf, attr::lookup::SET_ID, id))
    }

    /// Replaces what is loaded by what the map holds for it.
    pub(crate) fn map(&mut self, set: Set) -> &mut Self {
        self.lookup(set.name(), |buf| number(buf, attr::lookup::DREG, register(0)))
    }

    /// Takes the verdict that the map holds for it.
    pub(crate) fn vmap(&mut self, set: Set) -> &mut Self {
        self.lookup(set.name(), |buf| number(buf, attr::lookup::DREG, VERDICT))
    }

    pub(super) fn expression(&mut self, name: &str, data: impl FnOnce(&mut Vec<u8>)) {
        nested(self.buf, attr::LIST_ELEM, |buf| {
            text(buf, attr::expr::NAME, name);
            nested(buf, attr::expr::DATA, data);
        });
    }
}
