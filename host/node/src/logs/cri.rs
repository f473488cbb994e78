//! One line of a log file, as the Container Runtime Interface lays it out:
//! `2016-10-06T00:17:09.669794202Z stdout F content\n`.

use jiff::Timestamp;

/// The longest line that a reader takes: a frame's payload and its prefix.
pub(crate) const LINE_MAX: usize = guest_protocol::DATA_MAX + 64;

/// A parsed line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry<'a> {
    pub(crate) time: Timestamp,
    /// The time as it stands in the file.
    pub(crate) time_text: &'a str,
    pub(crate) stderr: bool,
    /// Whether a newline followed the content.
    pub(crate) full: bool,
    pub(crate) content: &'a [u8],
}

impl Entry<'_> {
    /// How many bytes of the container's output this line stands for.
    pub(crate) fn output_len(&self) -> u64 {
        self.content.len() as u64 + u64::from(self.full)
    }
}

/// Parses a line without its newline; `None` for what is none.
pub(crate) fn parse(line: &[u8]) -> Option<Entry<'_>> {
    let mut parts = line.splitn(4, |byte| *byte == b' ');
    let time_text = std::str::from_utf8(parts.next()?).ok()?;
    let time = time_text.parse().ok()?;
    let stderr = match parts.next()? {
        b"stdout" => false,
        b"stderr" => true,
        _ => return None,
    };
    // Tags are separated by colons; the first says partial or full.
    let full = match parts.next()?.split(|byte| *byte == b':').next()? {
        b"F" => true,
        b"P" => false,
        _ => return None,
    };
    Some(Entry {
        time,
        time_text,
        stderr,
        full,
        content: parts.next()?,
    })
}

/// Appends `bytes`, as they were read at `time`, to `out`: one line for each
/// line of output, the last one partial if no newline ends it.
pub(crate) fn encode(out: &mut Vec<u8>, time: Timestamp, stderr: bool, bytes: &[u8]) {
    let stream = if stderr { "stderr" } else { "stdout" };
    for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
        let (content, tag) = match piece.strip_suffix(b"\n") {
            Some(content) => (content, "F"),
            None => (piece, "P"),
        };
        out.extend_from_slice(format!("{time:.9} {stream} {tag} ").as_bytes());
        out.extend_from_slice(content);
        out.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: &str = "2026-11-21T08:00:00.000000001Z";

    #[test]
    fn output_survives_a_round_trip() {
        for (bytes, lines) in [
            (&b"a\n"[..], 1),
            (b"a", 1),
            (b"\n", 1),
            (b"a\n\nb", 3),
            (b" x y \n", 1),
            (b"", 0),
            (&[0xff, 0, b'\n'], 1),
        ] {
            let mut out = Vec::new();
            encode(&mut out, TIME.parse().expect("a time"), true, bytes);
            let mut back = Vec::new();
            let mut count = 0;
            for line in out.split_inclusive(|b| *b == b'\n') {
                let entry = parse(line.strip_suffix(b"\n").expect("whole")).expect("parses");
                assert_eq!((entry.time_text, entry.stderr), (TIME, true));
                back.extend_from_slice(entry.content);
                if entry.full {
                    back.push(b'\n');
                }
                count += 1;
            }
            assert_eq!((&back[..], count), (bytes, lines));
        }
    }

    #[test]
    fn what_is_no_line_is_refused() {
        for line in [
            "",
            "x",
            "2026-11-21T08:00:00Z stdout F",
            "2026-11-21T08:00:00Z stdin F x",
            "2026-11-21T08:00:00Z stdout Q x",
            "yesterday stdout F x",
        ] {
            assert_eq!(parse(line.as_bytes()), None, "{line}");
        }
        let tagged = format!("{TIME} stdout P:x y");
        assert!(parse(tagged.as_bytes()).is_some_and(|e| !e.full && e.content == b"y"));
    }

    #[test]
    fn mutated_lines_never_panic() {
        let line = format!("{TIME} stdout F hello world");
        for seed in 1..fuzzing::rounds(20_000) {
            let mut bytes = line.clone().into_bytes();
            let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            for _ in 0..=seed % 3 {
                state ^= state >> 29;
                state = state.wrapping_mul(0xbf58_476d_1ce4_e5b9);
                let at = usize::try_from(state % bytes.len() as u64).expect("small");
                bytes[at] = state.to_le_bytes()[5];
            }
            if let Some(entry) = parse(&bytes) {
                assert!(entry.content.len() < bytes.len(), "seed {seed}");
            }
        }
    }
}
