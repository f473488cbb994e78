//! Names that are derived: container ids.

use sha2::{Digest, Sha256};

/// `atoll://` and 64 hexadecimal digits, the same for the same attempt always.
pub(crate) fn container_id(uid: &str, container: &str, attempt: u32) -> String {
    let digest = Sha256::digest(format!("{uid}\n{container}\n{attempt}"));
    let mut text = String::from("atoll://");
    for byte in digest.as_slice() {
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn ids_differ_by_attempt_and_have_64_digits() {
        let (a, b) = (
            super::container_id("u", "c", 0),
            super::container_id("u", "c", 1),
        );
        assert_ne!(a, b);
        assert_eq!(a.len(), "atoll://".len() + 64);
    }
}
