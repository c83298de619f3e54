//! From text to events. `decode` keeps only what Tandem uses while it reads objects, and `directory` follows a folder
//! of manifests. `crate::cluster` sends what comes from an API server. Both send the same [`crate::event::Event`]s.
//! They hold no rows, know nothing of families, and do not touch the kernel.

pub mod decode;
pub mod directory;
