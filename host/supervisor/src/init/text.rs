//! What goes to the console: plain text, bounded, without escape sequences.

/// Printable text of a line that anybody may have written: control characters
/// and the sequences that steer terminals (ECMA-48, 5.4) are left out.
pub(super) fn printable(line: &[u8], max: usize) -> String {
    let text = String::from_utf8_lossy(line);
    let mut out = String::new();
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        if out.len() + character.len_utf8() > max {
            break;
        }
        match character {
            '\u{1b}' => skip_sequence(&mut characters),
            '\t' => out.push(' '),
            other if other.is_control() => {}
            other => out.push(other),
        }
    }
    out
}

/// Of `ESC [ 1 ; 3 1 m` everything up to the final byte; of others one character.
fn skip_sequence(characters: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    if characters.next_if_eq(&'[').is_none() {
        characters.next();
        return;
    }
    for character in characters.by_ref() {
        if ('@'..='~').contains(&character) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminals_are_not_steered() {
        for (line, wanted) in [
            (&b"plain"[..], "plain"),
            (b"\x1b[1;31mred\x1b[0m", "red"),
            (b"\x1b]0;title\x07x", "0;titlex"),
            (b"a\r\x08\x00b\tc", "ab c"),
            (b"\xff\xfeok", "\u{fffd}\u{fffd}ok"),
            (b"\x1b", ""),
            (b"\x1b[12", ""),
            (b"\xc2\x9b31mx", "31mx"),
            (b"0123456789abcdef", "0123456789ab"),
        ] {
            assert_eq!(printable(line, 12), wanted, "{line:?}");
        }
    }
}
