//! What Tandem does with input: with any history of objects, with bad objects, and with what fuzzers found. Real JSON
//! and YAML goes through the public decoder, the index and the engine into a data plane in memory. There are no files,
//! no network and no clock.

#[cfg(test)]
mod host;

#[cfg(test)]
mod bad;

#[cfg(test)]
mod finds;

#[cfg(test)]
mod histories;
