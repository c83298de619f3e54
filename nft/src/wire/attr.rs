//! The numbers of nftables' attributes that this crate writes or reads by itself, by the message or attribute that
//! holds them. The names and numbers are those of `linux/netfilter/nf_tables.h`. Where the builders of
//! `netlink-bindings` do, they are used instead.

/// `NFTA_LIST_ELEM`: one part of a list.
pub(crate) const LIST_ELEM: u16 = 1;

/// `NFTA_TABLE_*`
pub(crate) mod table {
    pub(crate) const NAME: u16 = 1;
}

/// `NFTA_CHAIN_*`
pub(crate) mod chain {
    pub(crate) const TABLE: u16 = 1;
    pub(crate) const NAME: u16 = 3;
}

/// `NFTA_RULE_*`
pub(crate) mod rule {
    pub(crate) const TABLE: u16 = 1;
    pub(crate) const CHAIN: u16 = 2;
    pub(crate) const EXPRESSIONS: u16 = 4;
}

/// `NFTA_EXPR_*`
pub(crate) mod expr {
    pub(crate) const NAME: u16 = 1;
    pub(crate) const DATA: u16 = 2;
}

/// `NFTA_SET_*`
pub(crate) mod set {
    pub(crate) const TABLE: u16 = 1;
    #[cfg(test)]
    pub(crate) const NAME: u16 = 2;
    #[cfg(test)]
    pub(crate) const FLAGS: u16 = 3;
}

/// `NFTA_SET_ELEM_LIST_*`: a message about elements of one set.
pub(crate) mod elements {
    pub(crate) const TABLE: u16 = 1;
    pub(crate) const SET: u16 = 2;
    pub(crate) const ELEMENTS: u16 = 3;
    pub(crate) const SET_ID: u16 = 4;
}

/// `NFTA_SET_ELEM_*`: one element.
pub(crate) mod element {
    pub(crate) const KEY: u16 = 1;
    pub(crate) const DATA: u16 = 2;
    pub(crate) const FLAGS: u16 = 3;
    pub(crate) const USERDATA: u16 = 6;
    pub(crate) const EXPR: u16 = 7;
    pub(crate) const KEY_END: u16 = 10;
}

/// `NFTA_DATA_*`: the content of a key, of a value or of a register.
pub(crate) mod data {
    pub(crate) const VALUE: u16 = 1;
    pub(crate) const VERDICT: u16 = 2;
}

/// `NFTA_VERDICT_*`
pub(crate) mod verdict {
    pub(crate) const CODE: u16 = 1;
    pub(crate) const CHAIN: u16 = 2;
}

/// `NFTA_OBJ_*`
pub(crate) mod object {
    pub(crate) const TABLE: u16 = 1;
    pub(crate) const NAME: u16 = 2;
    pub(crate) const TYPE: u16 = 3;
    pub(crate) const DATA: u16 = 4;
    pub(crate) const USERDATA: u16 = 8;
}

/// `NFTA_COUNTER_*`
pub(crate) mod counter {
    pub(crate) const BYTES: u16 = 1;
    pub(crate) const PACKETS: u16 = 2;
}

/// `NFTA_GEN_*`
pub(crate) mod generation {
    pub(crate) const ID: u16 = 1;
}

/// `NFTA_IMMEDIATE_*`
pub(crate) mod immediate {
    pub(crate) const DATA: u16 = 2;
}

/// `NFTA_LOOKUP_*`. The builder numbers these wrongly.
pub(crate) mod lookup {
    pub(crate) const SET: u16 = 1;
    pub(crate) const SREG: u16 = 2;
    pub(crate) const DREG: u16 = 3;
    pub(crate) const SET_ID: u16 = 4;
    pub(crate) const FLAGS: u16 = 5;
}

/// `NFTA_HASH_*`. There is no builder for it.
pub(crate) mod hash {
    pub(crate) const SREG: u16 = 1;
    pub(crate) const DREG: u16 = 2;
    pub(crate) const LEN: u16 = 3;
    pub(crate) const MODULUS: u16 = 4;
    pub(crate) const SEED: u16 = 5;
    pub(crate) const TYPE: u16 = 7;
}

/// `NFTA_OBJREF_*`
pub(crate) mod objref {
    pub(crate) const TYPE: u16 = 1;
    pub(crate) const NAME: u16 = 2;
}

/// `NFTA_DYNSET_*`. There is no builder for it.
pub(crate) mod dynset {
    pub(crate) const SET: u16 = 1;
    pub(crate) const OP: u16 = 3;
    pub(crate) const SREG_KEY: u16 = 4;
    pub(crate) const SREG_DATA: u16 = 5;
    pub(crate) const TIMEOUT: u16 = 6;
}

/// `NFTA_LIMIT_*`. There is no builder for it.
pub(crate) mod limit {
    pub(crate) const RATE: u16 = 1;
    pub(crate) const UNIT: u16 = 2;
    pub(crate) const BURST: u16 = 3;
    pub(crate) const TYPE: u16 = 4;
}
