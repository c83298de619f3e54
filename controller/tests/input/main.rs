//! What Tandem makes of input: of any history of objects, of bad ones, and of what fuzzers found. Real JSON and YAML goes
//! through the public decoder, the index and the engine into a data plane in memory. No files, no network, no clock.

#[cfg(test)]
mod host;

#[cfg(test)]
mod bad;

#[cfg(test)]
mod finds;

#[cfg(test)]
mod histories;
