//! Where objects come from: a Kubernetes API server, or a folder of manifests. Both yield the same [`crate::event::Event`]s,
//! trimmed while decoding; neither holds rows, knows families or touches the kernel.

pub mod decode;
pub mod directory;
pub mod kubernetes;
