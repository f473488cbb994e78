//! What a projection may say, decided before one of its bytes is read.
//!
//! Upstream cleans paths (`pkg/volume/util/atomic_writer.go`), so `a//b` and
//! `./a/b` are `a/b` here, too. Its bounds of a path hold; of its own this guest
//! bounds how deep a path is and how many directories there are, because a few
//! megabytes of short names could make millions.

use super::{check_path, cut};
use crate::errors::invalid;
use guest_protocol::{
    PROJECTED_BYTES_MAX, PROJECTED_FILES_MAX, ProjectedFile, Projection, Refusal,
};
use std::collections::{BTreeMap, BTreeSet};

/// What a mode may hold.
const PERMISSIONS: u32 = 0o777;

/// A projection that can be carried out.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Plan<'a> {
    /// In the order of their bytes.
    files: Vec<Planned<'a>>,
    /// Of all files.
    length: usize,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Planned<'a> {
    /// The names of the path, at least one.
    pub(super) names: Vec<&'a str>,
    pub(super) mode: u32,
    pub(super) owner: Option<u32>,
    length: usize,
}

impl<'a> Plan<'a> {
    /// # Errors
    /// Names the field that is wrong.
    pub(crate) fn new(projection: &'a Projection) -> Result<Self, Refusal> {
        let count = projection.files.len();
        if count > PROJECTED_FILES_MAX {
            let message = format!("files: {count} of them, at most {PROJECTED_FILES_MAX}");
            return Err(invalid(message));
        }
        let mut files = Vec::with_capacity(count);
        let mut length = 0_u64;
        for (index, file) in projection.files.iter().enumerate() {
            let wrong = |what: String| invalid(format!("files[{index}].{what}"));
            files.push(plan(file).map_err(wrong)?);
            length = length.saturating_add(file.length);
            if length > PROJECTED_BYTES_MAX {
                let what = format!("length: in all more than {PROJECTED_BYTES_MAX} bytes");
                return Err(wrong(what));
            }
        }
        check_tree(&files)?;
        let length = usize::try_from(length).map_err(|_| invalid("files: too long"))?;
        Ok(Self { files, length })
    }

    /// How many bytes follow.
    pub(crate) fn length(&self) -> usize {
        self.length
    }

    /// Each file with its content, of the bytes that came.
    pub(super) fn files<'b>(
        &'b self,
        mut bytes: &'b [u8],
    ) -> impl Iterator<Item = (&'b Planned<'a>, &'b [u8])> {
        self.files.iter().map(move |file| {
            let (content, rest) = bytes.split_at_checked(file.length).unwrap_or((bytes, &[]));
            bytes = rest;
            (file, content)
        })
    }

    /// The names that are seen at the top of the volume.
    pub(super) fn tops(&self) -> BTreeSet<&'a str> {
        let names = self.files.iter();
        names
            .filter_map(|file| file.names.first().copied())
            .collect()
    }
}

fn plan(file: &ProjectedFile) -> Result<Planned<'_>, String> {
    let path = file.path.as_str();
    let wrong = |what: &str| format!("path {:?}: {what}", cut(path));
    if path.starts_with('/') {
        return Err(wrong("not relative"));
    }
    check_path(path).map_err(wrong)?;
    let names = path.split('/');
    let names: Vec<_> = names.filter(|name| !matches!(*name, "" | ".")).collect();
    match names.first() {
        None => return Err(wrong("empty")),
        Some(first) if first.starts_with("..") => return Err(wrong("begins with \"..\"")),
        Some(_) => {}
    }
    if file.mode & !PERMISSIONS != 0 {
        return Err(format!("mode {:o}: not permission bits", file.mode));
    }
    if file.owner == Some(u32::MAX) {
        return Err(format!("owner {}: not a user", u32::MAX));
    }
    let length = usize::try_from(file.length).unwrap_or(usize::MAX);
    Ok(Planned {
        names,
        mode: file.mode,
        owner: file.owner,
        length,
    })
}

/// Each path once, none below another, not too many directories. Sorted by
/// names, what is below a path follows it at once.
fn check_tree(files: &[Planned<'_>]) -> Result<(), Refusal> {
    let mut sorted = BTreeMap::new();
    for (index, file) in files.iter().enumerate() {
        let wrong = |first| {
            let path = file.names.join("/");
            invalid(format!(
                "files[{index}].path {:?}: also that of files[{first}]",
                cut(&path)
            ))
        };
        if let Some(first) = sorted.insert(file.names.as_slice(), index) {
            return Err(wrong(first));
        }
    }
    let mut directories = 0;
    let mut before: Option<(&[&str], usize)> = None;
    for (names, index) in sorted {
        let shared = match before {
            Some((other, first)) => {
                if names.starts_with(other) {
                    let path = names.join("/");
                    return Err(invalid(format!(
                        "files[{index}].path {:?}: below files[{first}], which is a file",
                        cut(&path)
                    )));
                }
                let pairs = names.iter().zip(other);
                pairs.take_while(|(one, other)| one == other).count()
            }
            None => 0,
        };
        directories += (names.len() - 1).saturating_sub(shared);
        if directories > PROJECTED_FILES_MAX {
            let message = format!("files: more than {PROJECTED_FILES_MAX} directories");
            return Err(invalid(message));
        }
        before = Some((names, index));
    }
    Ok(())
}
