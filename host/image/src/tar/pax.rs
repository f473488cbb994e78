//! PAX extended headers: `"%d %s=%s\n"` records (POSIX.1-2017, pax).

use super::Attributes;
use super::sparse::PaxSparse;

/// What the extensions before a header say of it; later records win.
#[derive(Default)]
pub(super) struct Pax {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    uid: Option<u32>,
    gid: Option<u32>,
    mtime: Option<(i64, u32)>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) sparse: PaxSparse,
    seen: bool,
}

impl Pax {
    pub(super) fn is_empty(&self) -> bool {
        !self.seen && self.path.is_none() && self.link.is_none()
    }

    pub(super) fn read(&mut self, mut bytes: &[u8]) -> Result<(), &'static str> {
        const BAD: &str = "a PAX record is malformed";
        self.seen = true;
        while !bytes.is_empty() {
            // Some writers pad with NULs.
            if bytes.iter().all(|b| *b == 0) {
                return Ok(());
            }
            let space = bytes.iter().position(|b| *b == b' ').ok_or(BAD)?;
            let length = decimal(&bytes[..space]).ok_or(BAD)?;
            let length = usize::try_from(length).map_err(|_| BAD)?;
            let record = bytes.get(space + 1..length).ok_or(BAD)?;
            let record = record.strip_suffix(b"\n").ok_or(BAD)?;
            let equals = record.iter().position(|b| *b == b'=').ok_or(BAD)?;
            self.record(&record[..equals], &record[equals + 1..])?;
            bytes = &bytes[length..];
        }
        Ok(())
    }

    fn record(&mut self, key: &[u8], value: &[u8]) -> Result<(), &'static str> {
        let number = |what| decimal(value).ok_or(what);
        let id = |what| u32::try_from(number(what)?).map_err(|_| what);
        match key {
            b"path" => self.path = name(value)?,
            b"linkpath" => self.link = name(value)?,
            b"size" => self.size = Some(number("the PAX size is malformed")?),
            b"uid" => self.uid = Some(id("the PAX uid is malformed")?),
            b"gid" => self.gid = Some(id("the PAX gid is malformed")?),
            b"mtime" => self.mtime = Some(time(value).ok_or("the PAX mtime is malformed")?),
            _ => {
                if let Some(xattr) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.xattr(xattr, value)?;
                } else if let Some(sparse) = key.strip_prefix(b"GNU.sparse.") {
                    self.sparse.record(sparse, value)?;
                }
            }
        }
        Ok(())
    }

    fn xattr(&mut self, name: &[u8], value: &[u8]) -> Result<(), &'static str> {
        // Linux: XATTR_NAME_MAX, XATTR_SIZE_MAX.
        if name.is_empty() || name.len() > 255 || name.contains(&0) || value.len() > 1 << 16 {
            return Err("an xattr is beyond what Linux can hold");
        }
        self.xattrs.retain(|(n, _)| n != name);
        self.xattrs.push((name.to_vec(), value.to_vec()));
        Ok(())
    }

    pub(super) fn attributes(&mut self, to: &mut Attributes) {
        to.uid = self.uid.unwrap_or(to.uid);
        to.gid = self.gid.unwrap_or(to.gid);
        if let Some((seconds, nanoseconds)) = self.mtime {
            to.mtime = seconds;
            to.mtime_nsec = nanoseconds;
        }
        to.xattrs = std::mem::take(&mut self.xattrs);
    }
}

/// An empty value takes a record back.
fn name(value: &[u8]) -> Result<Option<Vec<u8>>, &'static str> {
    match (value.contains(&0), value.is_empty()) {
        (true, _) => Err("a PAX name holds a NUL"),
        (false, true) => Ok(None),
        (false, false) => Ok(Some(value.to_vec())),
    }
}

pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |value, digit| match digit {
        b'0'..=b'9' => value.checked_mul(10)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}

/// `-1.25` is 750 ms after -2.
fn time(text: &[u8]) -> Option<(i64, u32)> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let mut parts = text.splitn(2, |b| *b == b'.');
    let seconds = i64::try_from(decimal(parts.next()?)?).ok()?;
    let fraction = parts.next().unwrap_or_default();
    let mut nanoseconds = 0_u32;
    for i in 0..9 {
        let digit = fraction.get(i).copied().unwrap_or(b'0');
        nanoseconds = nanoseconds * 10 + u32::from(digit.checked_sub(b'0').filter(|d| *d < 10)?);
    }
    Some(match (negative, nanoseconds) {
        (false, n) => (seconds, n),
        (true, 0) => (-seconds, 0),
        (true, n) => (-seconds - 1, 1_000_000_000 - n),
    })
}
