//! What the config child tells `init`: a fixed layout, so that PID 1 parses
//! nothing.
//!
//! ```text
//!   magic 8 | flags u32 | log level u32 | watchdog seconds u32
//!   | shutdown seconds u32
//!   | state 72 | data 72 | node name 64        little-endian
//!   disk: kind u32 | length u32 | name 64
//! ```

/// The length of a `Decision` in bytes.
pub(crate) const LENGTH: usize = 8 + 16 + 2 * DISK + NAME;
const DISK: usize = 8 + NAME;
const NAME: usize = 64;
const MAGIC: [u8; 8] = *b"ATOLLCF1";
const FORMAT_STATE: u32 = 1;
const FORMAT_DATA: u32 = 2;
const BROKEN: u32 = 4;
const SHOW_CREDENTIALS: u32 = 8;

/// How a disk is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Locator {
    /// A file system's label or a partition's name.
    Label(String),
    /// A name in `/dev`, such as `vda` or `nvme0n1p2`.
    Device(String),
    /// What the disk says its serial number is.
    Serial(String),
    /// None: in memory.
    Memory,
}

/// Where STATE or DATA is, and whether an empty disk may be formatted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Disk {
    pub(crate) locator: Locator,
    pub(crate) format: bool,
}

/// Everything that `init` wants from the machine config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Decision {
    pub(crate) state: Disk,
    pub(crate) data: Disk,
    pub(crate) node_name: String,
    pub(crate) log_level: log::LevelFilter,
    /// 0 leaves the watchdog alone.
    pub(crate) watchdog_seconds: u32,
    /// What pods are given when the machine ends; 0 without such a config.
    pub(crate) shutdown_seconds: u32,
    /// The config couldn't be used, these are defaults.
    pub(crate) broken: bool,
    /// Nobody chose credentials: the console shows those made at first boot.
    pub(crate) show_credentials: bool,
}

impl Default for Decision {
    fn default() -> Self {
        let by_label = |label: &str| Disk {
            locator: Locator::Label(label.to_owned()),
            format: false,
        };
        Self {
            state: by_label("ATOLL-STATE"),
            data: by_label("ATOLL-DATA"),
            node_name: "atoll".to_owned(),
            log_level: log::LevelFilter::Info,
            watchdog_seconds: 60,
            shutdown_seconds: 0,
            broken: false,
            show_credentials: true,
        }
    }
}

impl Decision {
    /// `None` if a name is longer than its field.
    pub(crate) fn encode(&self) -> Option<[u8; LENGTH]> {
        let flag = |set: bool, bit: u32| if set { bit } else { 0 };
        let flags = flag(self.state.format, FORMAT_STATE)
            | flag(self.data.format, FORMAT_DATA)
            | flag(self.broken, BROKEN)
            | flag(self.show_credentials, SHOW_CREDENTIALS);
        let mut bytes = Vec::with_capacity(LENGTH);
        bytes.extend(MAGIC);
        let seconds = [self.watchdog_seconds, self.shutdown_seconds];
        for number in [flags, self.log_level as u32].into_iter().chain(seconds) {
            bytes.extend(number.to_le_bytes());
        }
        for disk in [&self.state, &self.data] {
            let (kind, name) = match &disk.locator {
                Locator::Label(name) => (0_u32, name.as_str()),
                Locator::Device(name) => (1, name.as_str()),
                Locator::Serial(name) => (2, name.as_str()),
                Locator::Memory => (3, ""),
            };
            bytes.extend(kind.to_le_bytes());
            bytes.extend(u32::try_from(name.len()).ok()?.to_le_bytes());
            bytes.extend(padded(name)?);
        }
        bytes.extend(padded(&self.node_name)?);
        bytes.try_into().ok()
    }

    /// `None` for anything that `encode` doesn't make.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; LENGTH] = bytes.try_into().ok()?;
        if bytes.get(..8)? != MAGIC {
            return None;
        }
        let flags = number(bytes, 8)?;
        let level = usize::try_from(number(bytes, 12)?).ok()?;
        let decision = Self {
            state: disk(bytes, 24, flags & FORMAT_STATE != 0)?,
            data: disk(bytes, 24 + DISK, flags & FORMAT_DATA != 0)?,
            node_name: unpadded(bytes.get(24 + 2 * DISK..)?)?,
            log_level: log::LevelFilter::iter().nth(level)?,
            watchdog_seconds: number(bytes, 16)?,
            shutdown_seconds: number(bytes, 20)?,
            broken: flags & BROKEN != 0,
            show_credentials: flags & SHOW_CREDENTIALS != 0,
        };
        (decision.encode()? == *bytes).then_some(decision)
    }
}

fn padded(name: &str) -> Option<[u8; NAME]> {
    let mut field = [0; NAME];
    field
        .get_mut(..name.len())?
        .copy_from_slice(name.as_bytes());
    Some(field)
}

/// Names go into paths: plain characters only.
fn unpadded(field: &[u8]) -> Option<String> {
    let end = field
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(field.len());
    let name = std::str::from_utf8(field.get(..end)?).ok()?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:+=@ ".contains(c);
    (name.chars().all(plain) && !name.starts_with('.')).then(|| name.to_owned())
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn disk(bytes: &[u8], at: usize, format: bool) -> Option<Disk> {
    let name = unpadded(bytes.get(at + 8..at + DISK)?)?;
    let locator = match number(bytes, at)? {
        0 => Locator::Label(name),
        1 => Locator::Device(name),
        2 => Locator::Serial(name),
        3 => Locator::Memory,
        _ => return None,
    };
    Some(Disk { locator, format })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn decisions_survive_a_round_trip() {
        let mut decision = Decision::default();
        for locator in [
            Locator::Label("ATOLL-STATE".into()),
            Locator::Device("nvme0n1p2".into()),
            Locator::Serial("QM00001".into()),
            Locator::Memory,
        ] {
            decision.state.locator = locator;
            decision.state.format = !decision.state.format;
            decision.broken = !decision.broken;
            decision.log_level = log::LevelFilter::Debug;
            decision.shutdown_seconds += 90;
            let bytes = decision.encode().unwrap();
            assert_eq!(Decision::decode(&bytes), Some(decision.clone()));
        }
    }

    #[test]
    fn no_bytes_make_a_path_or_a_panic() {
        let good = Decision::default().encode().unwrap();
        for at in 0..LENGTH {
            for value in [0, 1, b'/', 0xff] {
                let mut bytes = good;
                bytes[at] = value;
                if let Some(decision) = Decision::decode(&bytes) {
                    assert!(!decision.node_name.contains('/'), "{decision:?}");
                }
            }
        }
        assert_eq!(Decision::decode(&good[1..]), None);
        let long = Decision {
            node_name: "x".repeat(65),
            ..Decision::default()
        };
        assert_eq!(long.encode(), None);
    }
}
