//! Container images as values, and OCI layouts as their files.
//!
//! An [`Image`] is a [`Tree`] of files and a [`Config`]. [`layout::write`] writes images as an OCI layout, a folder that
//! skopeo, crane and containerd read. [`layout::archive`] makes one tar of it, for `ctr images import`. No daemon and no
//! root is needed.
//!
//! The same values give the same bytes, in any folder and at any time: entries are sorted, all belong to uid 0 and
//! gid 0, and the only time in them is the one that the caller gives.
//!
//! ```
//! use tandem_image::{Architecture, Config, Created, Image, Mode, Named, Tree, layout};
//!
//! # fn main() -> Result<(), tandem_image::Error> {
//! let mut tree = Tree::default();
//! tree.file("/bin/hello", Mode::PROGRAM, b"\x7fELF".to_vec())?;
//! let mut config = Config::default();
//! config.entrypoint = vec!["/bin/hello".to_owned()];
//! let image = Image::new(tree, config, Architecture::Amd64, Created::from_seconds(1_700_000_000)?);
//! let named = Named::new("example.test/hello:1", vec![image])?;
//! # let folder = std::env::temp_dir().join(format!("tandem-image-doc-{}", std::process::id()));
//! let written = layout::write(&folder, &[named])?;
//! assert!(written[0].digest.starts_with("sha256:"));
//! # std::fs::remove_dir_all(&folder).ok();
//! # Ok(())
//! # }
//! ```

pub mod error;
pub mod host;
pub mod image;
mod layer;
pub mod layout;
pub mod name;
pub mod path;
pub mod product;
pub mod tree;

pub use error::Error;
pub use image::{Architecture, Compression, Config, Created, Image, Named};
pub use name::Name;
pub use path::ImagePath;
pub use tree::{Mode, Tree};
