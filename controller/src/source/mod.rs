//! From text to events: `decode` trims objects while it reads them, and `directory` follows a folder of manifests. What comes
//! from an API server comes by `crate::cluster`. All yield the same [`crate::event::Event`]s; none holds rows, knows families
//! or touches the kernel.

pub mod decode;
pub mod directory;
