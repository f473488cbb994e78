//! HTML as it passes through a proxy: attributes that hold a link are rewritten,
//! every other byte stays as it came. The HTML specification's tokenizer, as far
//! as finding start tags asks for it (13.2.5); memory is bounded by `MAX_TAG`.
//!
//! ```text
//! Text --<name ...>--> Text, or Until("</script") and the like
//! Text --<!----------> Until("-->") --found--> Text
//! ```

/// Longer tags pass as text.
const MAX_TAG: usize = 16 * 1024;

/// Which attributes of which elements hold a link (HTML 4.01 and HTML's index
/// of attributes, as upstream has chosen them).
const LINKS: &[(&str, &[&str])] = &[
    ("a", &["href"]),
    ("applet", &["codebase"]),
    ("area", &["href"]),
    ("audio", &["src"]),
    ("base", &["href"]),
    ("blockquote", &["cite"]),
    ("body", &["background"]),
    ("button", &["formaction"]),
    ("command", &["icon"]),
    ("del", &["cite"]),
    ("embed", &["src"]),
    ("form", &["action"]),
    ("frame", &["longdesc", "src"]),
    ("head", &["profile"]),
    ("html", &["manifest"]),
    ("iframe", &["longdesc", "src"]),
    ("img", &["longdesc", "src", "usemap"]),
    ("input", &["src", "usemap", "formaction"]),
    ("ins", &["cite"]),
    ("link", &["href"]),
    ("object", &["classid", "codebase", "data", "usemap"]),
    ("q", &["cite"]),
    ("script", &["src"]),
    ("source", &["src"]),
    ("video", &["poster", "src"]),
];

/// Elements whose content is text up to their end tag, and how that begins.
const RAW: &[(&str, &[u8])] = &[
    ("iframe", b"</iframe"),
    ("noembed", b"</noembed"),
    ("noframes", b"</noframes"),
    ("script", b"</script"),
    ("style", b"</style"),
    ("textarea", b"</textarea"),
    ("title", b"</title"),
    ("xmp", b"</xmp"),
];

enum Mode {
    Text,
    Until(&'static [u8]),
}

/// A document on its way; `rewrite` gives what a link becomes, if it changes.
pub(crate) struct Html<F> {
    rewrite: F,
    mode: Mode,
    pending: Vec<u8>,
}

/// A start tag in the bytes that begin with it.
struct Tag {
    name: String,
    /// Name and place of each value, quotes not included.
    values: Vec<(String, usize, usize)>,
    end: usize,
}

impl<F: Fn(&str) -> Option<String>> Html<F> {
    pub(crate) fn new(rewrite: F) -> Html<F> {
        Html {
            rewrite,
            mode: Mode::Text,
            pending: Vec::new(),
        }
    }

    /// Takes more of the document; appends to `out` what is decided.
    pub(crate) fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        self.pending.extend_from_slice(bytes);
        self.work(false, out);
    }

    /// The end of the document.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) {
        self.work(true, out);
        out.append(&mut self.pending);
    }

    fn work(&mut self, last: bool, out: &mut Vec<u8>) {
        let pending = std::mem::take(&mut self.pending);
        let mut at = 0;
        while at < pending.len() {
            match self.step(&pending[at..], last, out) {
                0 => break,
                used => at += used,
            }
        }
        self.pending = pending[at..].to_vec();
    }

    /// How many bytes of `rest` are dealt with; 0: more are needed.
    fn step(&mut self, rest: &[u8], last: bool, out: &mut Vec<u8>) -> usize {
        if let Mode::Until(stop) = self.mode {
            let used = match find(rest, stop) {
                Some(at) => {
                    self.mode = Mode::Text;
                    at + stop.len()
                }
                // The end may be cut in two.
                None => rest.len().saturating_sub(stop.len() - 1),
            };
            out.extend_from_slice(&rest[..used]);
            return used;
        }
        let text = rest.iter().position(|b| *b == b'<').unwrap_or(rest.len());
        if text > 0 {
            out.extend_from_slice(&rest[..text]);
            return text;
        }
        if rest.starts_with(b"<!--") {
            self.mode = Mode::Until(b"-->");
            // `<!-->` is a whole comment.
            out.extend_from_slice(b"<!");
            return 2;
        }
        let cut = !last && rest.len() < MAX_TAG;
        match rest.get(1) {
            Some(b) if b.is_ascii_alphabetic() => match tag(rest) {
                Some(tag) => {
                    self.pass(&tag, rest, out);
                    tag.end
                }
                None if cut => 0,
                None => text_mark(out),
            },
            None | Some(b'!') if cut && rest.len() < 4 => 0,
            _ => text_mark(out),
        }
    }

    fn pass(&mut self, tag: &Tag, bytes: &[u8], out: &mut Vec<u8>) {
        let of = LINKS.iter().find(|(name, _)| *name == tag.name);
        let mut at = 0;
        for (key, start, end) in &tag.values {
            let is_link = of.is_some_and(|(_, keys)| keys.contains(&key.as_str()));
            let text = std::str::from_utf8(&bytes[*start..*end]);
            if let (true, Ok(text)) = (is_link, text)
                && let Some(new) = (self.rewrite)(text)
            {
                out.extend_from_slice(&bytes[at..*start]);
                out.extend_from_slice(new.as_bytes());
                at = *end;
            }
        }
        out.extend_from_slice(&bytes[at..tag.end]);
        if let Some((_, stop)) = RAW.iter().find(|(name, _)| *name == tag.name) {
            self.mode = Mode::Until(stop);
        }
    }
}

/// A `<` that opens nothing.
fn text_mark(out: &mut Vec<u8>) -> usize {
    out.push(b'<');
    1
}

/// Where `what` stands, letters of either case.
fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes
        .windows(what.len())
        .position(|w| w.eq_ignore_ascii_case(what))
}

fn is_space(b: u8) -> bool {
    matches!(b, b' ' | b'\n' | b'\r' | b'\t' | 0x0c)
}

/// The start tag that `bytes` begin with; `None` if its end isn't there.
fn tag(bytes: &[u8]) -> Option<Tag> {
    let text = |from: usize, to: usize| String::from_utf8_lossy(&bytes[from..to]).to_lowercase();
    let until = |from: usize, stop: &dyn Fn(u8) -> bool| {
        let more = bytes.get(from..)?;
        more.iter().position(|b| stop(*b)).map(|n| from + n)
    };
    let mut at = until(1, &|b| is_space(b) || b == b'/' || b == b'>')?;
    let name = text(1, at);
    let mut values = Vec::new();
    loop {
        at = until(at, &|b| !is_space(b) && b != b'/')?;
        if bytes[at] == b'>' {
            let end = at + 1;
            return Some(Tag { name, values, end });
        }
        // A name may begin with `=`.
        let start = at;
        at = until(at + 1, &|b| is_space(b) || matches!(b, b'/' | b'=' | b'>'))?;
        let key = text(start, at);
        let after = until(at, &|b| !is_space(b))?;
        if bytes[after] != b'=' {
            continue;
        }
        at = until(after + 1, &|b| !is_space(b))?;
        let quote = bytes[at];
        if matches!(quote, b'"' | b'\'') {
            let end = until(at + 1, &|b| b == quote)?;
            values.push((key, at + 1, end));
            at = end + 1;
        } else if quote != b'>' {
            let end = until(at, &|b| is_space(b) || b == b'>')?;
            values.push((key, at, end));
            at = end;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a document becomes that arrives in pieces of `size`.
    fn rewritten(document: &[u8], size: usize) -> Vec<u8> {
        let mut html = Html::new(|link: &str| {
            let absolute = link.starts_with('/');
            absolute.then(|| format!("/p{link}"))
        });
        let mut out = Vec::new();
        for piece in document.chunks(size) {
            html.push(piece, &mut out);
        }
        html.finish(&mut out);
        out
    }

    #[test]
    fn links_are_found_where_a_browser_finds_them() {
        for (document, wanted) in [
            (r#"<a href="/x">t</a>"#, r#"<a href="/p/x">t</a>"#),
            (r#"<A  HREF = '/x'>"#, r#"<A  HREF = '/p/x'>"#),
            ("<a href=/x>", "<a href=/p/x>"),
            ("<a b href=/x/ c>", "<a b href=/p/x/ c>"),
            (r#"<img/src="/x"/>"#, r#"<img/src="/p/x"/>"#),
            (
                r#"<a title="<a href='/x'>" href="/y">"#,
                r#"<a title="<a href='/x'>" href="/p/y">"#,
            ),
            (r#"<a title=">" href="/y">"#, r#"<a title=">" href="/p/y">"#),
            (r#"<p href="/x">"#, r#"<p href="/x">"#),
            (
                r#"<!-- <a href="/x"> --><a href="/y">"#,
                r#"<!-- <a href="/x"> --><a href="/p/y">"#,
            ),
            (r#"<!--><a href="/y">"#, r#"<!--><a href="/p/y">"#),
            (
                r#"<script src="/s">"<a href='/x'>"</SCRIPT><a href="/y">"#,
                r#"<script src="/p/s">"<a href='/x'>"</SCRIPT><a href="/p/y">"#,
            ),
            (
                r#"<!DOCTYPE html><html><a href="/y">"#,
                r#"<!DOCTYPE html><html><a href="/p/y">"#,
            ),
            (r#"1 < 2 <<a href="/y">"#, r#"1 < 2 <<a href="/p/y">"#),
            (r#"<a href="/x"#, r#"<a href="/x"#),
            ("<", "<"),
            ("", ""),
        ] {
            for size in 1..=document.len().max(1) {
                let found = rewritten(document.as_bytes(), size);
                let found = String::from_utf8_lossy(&found);
                assert_eq!(found, wanted, "in pieces of {size}");
            }
        }
    }

    #[test]
    fn a_tag_without_end_is_text() {
        let mut document = b"<a href=\"/x".to_vec();
        document.resize(2 * MAX_TAG, b'x');
        document.extend_from_slice(b"\"><a href=/y>");
        let found = rewritten(&document, 4096);
        assert!(found.starts_with(b"<a href=\"/xx"));
        assert!(found.ends_with(b"<a href=/p/y>"));
    }

    /// Pieces of HTML in any order: cuts change nothing, and only links grow.
    #[test]
    fn any_bytes_pass_and_cuts_change_nothing() {
        const PARTS: &[&str] = &[
            "<",
            ">",
            "/",
            "a",
            " href",
            "=",
            "\"",
            "'",
            "/x",
            "<!--",
            "-->",
            "<script",
            "</script",
            "<a href=/x>",
            "\u{0}",
            "é",
            "!",
            "-",
            "<img src='/y'>",
            " ",
            "\n",
            "<textarea>",
        ];
        let mut random = fuzzing::Random::seeded();
        for _ in 0..fuzzing::rounds(2000) {
            let mut document = Vec::new();
            for _ in 0..random.below(24) {
                let part: &str = random.pick(PARTS);
                document.extend_from_slice(part.as_bytes());
            }
            let whole = rewritten(&document, document.len().max(1));
            let cut = rewritten(&document, 1 + random.below(5));
            assert_eq!(whole, cut, "{:?}", String::from_utf8_lossy(&document));
            let plain = String::from_utf8_lossy(&whole).replace("/p/", "/");
            assert_eq!(plain.as_bytes(), document.as_slice());
        }
    }
}
