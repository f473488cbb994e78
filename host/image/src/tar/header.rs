//! The 512 bytes of a tar header (POSIX.1-2017, pax, "ustar Interchange
//! Format"; GNU tar manual, "Basic Tar Format").

use super::{Attributes, Data, Device, Entry, Kind};

pub(super) const BLOCK: usize = 512;

/// A block whose checksum fits.
pub(super) struct Header([u8; BLOCK]);

impl Header {
    pub(super) fn new(block: [u8; BLOCK]) -> Result<Header, &'static str> {
        let stored = number(&block[148..156])?;
        let as_sum = |value: &dyn Fn(u8) -> i64| -> i64 {
            block
                .iter()
                .enumerate()
                .map(|(i, b)| {
                    if (148..156).contains(&i) {
                        32
                    } else {
                        value(*b)
                    }
                })
                .sum()
        };
        let unsigned = as_sum(&|b| i64::from(b));
        // Some old tars summed signed characters.
        let signed = as_sum(&|b| i64::from(b.cast_signed()));
        match stored == unsigned || stored == signed {
            true => Ok(Header(block)),
            false => Err("the checksum is wrong"),
        }
    }

    pub(super) fn bytes(&self) -> &[u8; BLOCK] {
        &self.0
    }

    pub(super) fn kind(&self) -> u8 {
        self.0[156]
    }

    /// Links, devices, directories and fifos have none whatever their size
    /// field says.
    pub(super) fn has_data(&self) -> bool {
        !matches!(self.kind(), b'1'..=b'6')
    }

    /// Stored bytes.
    pub(super) fn size(&self) -> Result<u64, &'static str> {
        u64::try_from(number(&self.0[124..136])?).map_err(|_| "the size is negative")
    }

    /// Without data and extensions.
    pub(super) fn entry(&self) -> Result<Entry, &'static str> {
        let b = &self.0;
        let link = || field(&b[157..257]).to_vec();
        let device = || {
            Ok::<_, &'static str>(Device {
                major: narrow(number(&b[329..337])?, "the major number is too large")?,
                minor: narrow(number(&b[337..345])?, "the minor number is too large")?,
            })
        };
        let kind = match self.kind() {
            b'0' | 0 | b'7' | b'S' => Kind::File(Data {
                size: 0,
                extents: Vec::new(),
            }),
            b'1' => Kind::HardLink(link()),
            b'2' => Kind::Symlink(link()),
            b'3' => Kind::Char(device()?),
            b'4' => Kind::Block(device()?),
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            // POSIX: an unknown type is treated as a file.
            _ => Kind::File(Data {
                size: 0,
                extents: Vec::new(),
            }),
        };
        let mode = number(&b[100..108])?;
        Ok(Entry {
            path: self.path(),
            kind,
            attributes: Attributes {
                mode: u16::try_from(mode & 0o7777).unwrap_or_default(),
                uid: narrow(number(&b[108..116])?, "the uid is too large")?,
                gid: narrow(number(&b[116..124])?, "the gid is too large")?,
                mtime: number(&b[136..148])?,
                mtime_nsec: 0,
                xattrs: Vec::new(),
            },
        })
    }

    /// GNU's format uses the prefix for times and the sparse map.
    fn path(&self) -> Vec<u8> {
        let b = &self.0;
        let name = field(&b[0..100]);
        let is_posix = &b[257..263] == b"ustar\0";
        let prefix = field(&b[345..500]);
        match is_posix && !prefix.is_empty() {
            true => [prefix, b"/", name].concat(),
            false => name.to_vec(),
        }
    }
}

fn field(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    &bytes[..end]
}

fn narrow(value: i64, what: &'static str) -> Result<u32, &'static str> {
    u32::try_from(value).map_err(|_| what)
}

/// Octal digits, or GNU's base 256 (the first bit set, two's complement).
/// Empty is zero.
pub(super) fn number(bytes: &[u8]) -> Result<i64, &'static str> {
    const BAD: &str = "a number is malformed";
    match bytes.first() {
        Some(first) if first & 0x80 != 0 => {
            let negative = first & 0x40 != 0;
            let mut value: i64 = if negative { -1 } else { 0 };
            for (i, byte) in bytes.iter().enumerate() {
                let byte = match (i, negative) {
                    (0, true) => *byte,
                    (0, false) => byte & 0x7f,
                    _ => *byte,
                };
                value = value.checked_mul(256).ok_or(BAD)?;
                value |= i64::from(byte);
            }
            Ok(value)
        }
        _ => {
            let text = field(bytes).trim_ascii();
            text.iter().try_fold(0_i64, |value, digit| match digit {
                b'0'..=b'7' => value
                    .checked_mul(8)
                    .map(|v| v + i64::from(digit - b'0'))
                    .ok_or(BAD),
                _ => Err(BAD),
            })
        }
    }
}
