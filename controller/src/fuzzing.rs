//! Doors to parsers that nothing outside needs, for `fuzz/` and for the tests that replay what it found.

pub use crate::source::directory::fuzzing::manifest;
pub use crate::source::kubernetes::fuzzing::watch;
