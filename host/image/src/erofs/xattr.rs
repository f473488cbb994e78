//! Inline xattrs of an inode.

use super::LayoutError;

const HEADER: usize = 12;
/// Prefixes that have a number instead of their text.
const PREFIXES: [(&[u8], u8); 6] = [
    (b"user.", 1),
    (b"system.posix_acl_access", 2),
    (b"system.posix_acl_default", 3),
    (b"trusted.", 4),
    (b"lustre.", 5),
    (b"security.", 6),
];

/// The header and the entries; empty if there are none. Names that EROFS
/// has no number for are left out.
pub(super) fn encode(xattrs: &[(Vec<u8>, Vec<u8>)]) -> Result<Vec<u8>, LayoutError> {
    let mut sorted: Vec<&(Vec<u8>, Vec<u8>)> = xattrs.iter().collect();
    sorted.sort();
    let mut out = vec![0; HEADER];
    for (name, value) in sorted {
        let known = PREFIXES.iter().find_map(|(prefix, index)| {
            let rest = name.strip_prefix(*prefix)?;
            // ACLs are whole names, the others need something after the dot.
            (rest.is_empty() != prefix.ends_with(b".")).then_some((rest, *index))
        });
        let Some((rest, index)) = known else {
            continue;
        };
        out.push(u8::try_from(rest.len()).map_err(|_| LayoutError::Xattrs)?);
        out.push(index);
        let size = u16::try_from(value.len()).map_err(|_| LayoutError::Xattrs)?;
        out.extend_from_slice(&size.to_le_bytes());
        out.extend_from_slice(rest);
        out.extend_from_slice(value);
        out.resize(out.len().next_multiple_of(4), 0);
    }
    match out.len() {
        HEADER => Ok(Vec::new()),
        length if count(length).is_none() => Err(LayoutError::Xattrs),
        _ => Ok(out),
    }
}

/// `i_xattr_icount` for so many bytes.
pub(super) fn count(length: usize) -> Option<u16> {
    match length {
        0 => Some(0),
        n => u16::try_from((n - HEADER) / 4 + 1).ok(),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn one(name: &str, size: usize) -> Result<Vec<u8>, LayoutError> {
        encode(&[(name.as_bytes().to_vec(), vec![7; size])])
    }

    #[test]
    fn only_what_linux_knows_is_written() {
        let table = [
            ("user.a", true),
            ("user.", false),
            ("security.capability", true),
            ("system.posix_acl_access", true),
            ("system.posix_acl_access2", false),
            ("trusted.x", true),
            ("com.apple.quarantine", false),
        ];
        for (name, written) in table {
            assert_eq!(!one(name, 3).unwrap().is_empty(), written, "{name}");
        }
    }

    #[test]
    fn sizes_are_bounded() {
        assert!(one("user.a", 65_535).is_ok());
        assert_eq!(one("user.a", 65_536), Err(LayoutError::Xattrs));
        let many: Vec<_> = (0..5_u8)
            .map(|i| (vec![b'u', b's', b'e', b'r', b'.', i + 65], vec![0; 60_000]))
            .collect();
        assert_eq!(encode(&many), Err(LayoutError::Xattrs));
        assert_eq!(count(encode(&many[..1]).unwrap().len()), Some(15_003));
    }
}
