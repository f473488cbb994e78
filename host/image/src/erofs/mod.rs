//! Writes an EROFS image of a [`Tree`](crate::tree::Tree).
//!
//! Format: Linux, `fs/erofs/erofs_fs.h` and Documentation/filesystems/
//! erofs.rst; nothing newer than Linux 5.15 is used.
//!
//! ```text
//! block 0         1..               m..              d..                 end
//! ┌─────────────┬─────────────────┬────────────────┬───────────────────┬─────┐
//! │ superblock  │ inodes, xattrs, │ full blocks of │ files' bytes, each│  0  │
//! │ at 1024     │ small dirs,     │ large dirs,    │ from a block on,  │  to │
//! │             │ symlinks, chunk │ long symlinks  │ as they lie in the│ 2MiB│
//! │             │ maps            │                │ layers            │     │
//! └─────────────┴─────────────────┴────────────────┴───────────────────┴─────┘
//! ```
//!
//! Uncompressed, 4 KiB blocks, extended inodes (they alone have times). File
//! data is never packed into the metadata: DAX needs whole blocks. Files with
//! holes are chunk-based. xattrs are inline. A layout is computed completely
//! before the first byte is written, so every number in it is final, and two
//! runs over the same layers write the same bytes.

mod directory;
mod holes;
mod layout;
mod superblock;
mod write;
mod xattr;

pub(crate) use layout::{Copy, Layout};
pub(crate) use write::write_metadata;

pub(crate) const BLOCK: u64 = 4096;
/// The image's size is a multiple of it: a virtio-pmem region must be one.
pub(crate) const ALIGN: u64 = 2 << 20;

/// Why a tree can't be an image.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LayoutError {
    #[error("the image has {0} bytes, more than {1} (limits.maxImageBytes)")]
    TooLarge(u64, u64),
    #[error("a file has more xattrs than fit")]
    Xattrs,
}
