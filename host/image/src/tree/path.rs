//! Paths of archives, cleaned lexically.

use super::show;

const MAX_NAME: usize = 255;
const MAX_PATH: usize = 4096;

/// Why a layer can't be applied.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TreeError {
    #[error("{what}: \"{path}\"")]
    Path { what: &'static str, path: String },
    #[error("hard link \"{0}\" to \"{1}\": no such file")]
    MissingTarget(String, String),
    #[error("a file has {0} bytes, more than {1} (limits.maxFileBytes)")]
    FileTooLarge(u64, u64),
    #[error("more than {0} files (limits.maxInodes)")]
    TooManyInodes(u32),
    #[error("names and metadata exceed {0} bytes (limits.converterMemoryBytes)")]
    TooMuchMetadata(u64),
}

impl TreeError {
    pub(super) fn path(what: &'static str, path: &[u8]) -> TreeError {
        let path = show(path);
        TreeError::Path { what, path }
    }
}

/// Without empty ones and dots.
pub(super) fn components(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|b| *b == b'/')
        .filter(|part| !matches!(*part, b"" | b"."))
}

/// The components from the root, `..` taken back, never above the root.
pub(super) fn clean(path: &[u8]) -> Result<Vec<&[u8]>, TreeError> {
    if path.len() > MAX_PATH {
        return Err(TreeError::path("a path has more than 4096 bytes", path));
    }
    let mut parts = Vec::new();
    for part in components(path) {
        match part {
            b".." => {
                parts.pop();
            }
            part if part.len() > MAX_NAME => {
                return Err(TreeError::path("a name has more than 255 bytes", path));
            }
            part if part.contains(&0) => {
                return Err(TreeError::path("a name holds a NUL", path));
            }
            part => parts.push(part),
        }
    }
    Ok(parts)
}
