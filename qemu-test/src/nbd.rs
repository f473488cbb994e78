//! A block device that can lose power (NBD protocol, fixed newstyle handshake).
//!
//! Writes go to a volatile cache: they are seen by reads, but on the platter
//! only after a flush. When power is cut, a random part of what was written
//! since the last flush has reached the platter, sector by sector; the rest is
//! gone. The random choice comes from a seed, so that a failure can be repeated.
//!
//! ```text
//! write -> view, pending ----flush----> platter
//!                       \---cut-----> some sectors to the platter; view := platter
//! ```
//!
//! All disks of a machine hang on one `Supply`. Cut at any moment, it would find
//! every sector flushed nearly always; so it is armed, and goes by itself at a
//! request that finds sectors pending. Nothing is answered after that.
//!
//! Pending writes are bounded only by what the guest writes between flushes;
//! the harness trusts its own guest with that.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

const SECTOR: u64 = 512;

/// The disk: what is durable, and what a reader sees.
struct Medium {
    platter: File,
    /// Sectors written since the last flush, newest content.
    pending: BTreeMap<u64, Vec<u8>>,
    size: u64,
}

impl Medium {
    fn read(&self, offset: u64, length: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.platter.read_exact_at(&mut bytes, offset)?;
        let end = offset + length as u64;
        for (sector, content) in self.pending.range(offset / SECTOR..end.div_ceil(SECTOR)) {
            let start = sector * SECTOR;
            for (at, byte) in (start..).zip(content) {
                if (offset..end).contains(&at) {
                    bytes[usize::try_from(at - offset)?] = *byte;
                }
            }
        }
        Ok(bytes)
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        if !offset.is_multiple_of(SECTOR) || !(bytes.len() as u64).is_multiple_of(SECTOR) {
            bail!(
                "a write of {} bytes at {offset} is not whole sectors",
                bytes.len()
            );
        }
        for (sector, content) in (offset / SECTOR..).zip(bytes.chunks(SECTOR as usize)) {
            self.pending.insert(sector, content.to_vec());
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        for (sector, content) in std::mem::take(&mut self.pending) {
            self.platter.write_all_at(&content, sector * SECTOR)?;
        }
        Ok(())
    }

    /// Power is gone: each pending sector is kept or lost by the toss of a coin.
    fn cut(&mut self, seed: u64) -> Result<(usize, usize)> {
        let mut random = Random(seed);
        let pending = std::mem::take(&mut self.pending);
        let all = pending.len();
        let mut kept = 0;
        for (sector, content) in pending {
            if random.draw() & 1 == 0 {
                self.platter.write_all_at(&content, sector * SECTOR)?;
                kept += 1;
            }
        }
        Ok((kept, all - kept))
    }
}

/// SplitMix64: small, and every seed gives its own sequence.
pub struct Random(pub u64);

impl Random {
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// Where the disks of a machine have their power from.
#[derive(Clone, Default)]
pub struct Supply(Arc<(Mutex<Power>, Condvar)>);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Power {
    #[default]
    On,
    /// It goes after so many requests, at the next one that leaves or finds
    /// sectors pending.
    Until(u64),
    Off,
}

impl Supply {
    /// Lets it go after `requests` more writes and flushes.
    pub fn arm(&self, requests: u64) {
        *lock(&self.0.0) = Power::Until(requests);
    }

    /// Waits for the power to be gone; false if it still is there.
    #[must_use]
    pub fn gone(&self, patience: Duration) -> bool {
        let (power, changed) = &*self.0;
        let waited =
            changed.wait_timeout_while(lock(power), patience, |power| *power != Power::Off);
        let (power, _) = waited.unwrap_or_else(PoisonError::into_inner);
        *power == Power::Off
    }

    pub fn restore(&self) {
        *lock(&self.0.0) = Power::On;
    }

    fn is_on(&self) -> bool {
        *lock(&self.0.0) != Power::Off
    }

    /// Counts a write or a flush; false if it was the last of all.
    fn lasts(&self, pending: bool) -> bool {
        let (power, changed) = &*self.0;
        let mut power = lock(power);
        match *power {
            Power::Until(0) if pending => {
                *power = Power::Off;
                changed.notify_all();
            }
            Power::Until(requests) => *power = Power::Until(requests.saturating_sub(1)),
            Power::On | Power::Off => {}
        }
        *power != Power::Off
    }
}

/// The device, served to one QEMU after the other.
pub struct Device {
    medium: Arc<Mutex<Medium>>,
    socket: PathBuf,
}

impl Device {
    /// Serves a new, empty disk of `size` bytes kept in `directory`.
    pub fn serve(directory: &Path, name: &str, size: u64, supply: &Supply) -> Result<Self> {
        let platter = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(directory.join(format!("{name}.platter")))?;
        platter.set_len(size)?;
        let socket = directory.join(format!("{name}.nbd"));
        let listener = UnixListener::bind(&socket).with_context(|| socket.display().to_string())?;
        let medium = Arc::new(Mutex::new(Medium {
            platter,
            pending: BTreeMap::new(),
            size,
        }));
        let (shared, supply) = (Arc::clone(&medium), supply.clone());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (medium, supply) = (Arc::clone(&shared), supply.clone());
                thread::spawn(move || {
                    let session = Session {
                        stream,
                        medium,
                        supply,
                    };
                    if let Err(error) = session.run() {
                        eprintln!("nbd: {error:#}");
                    }
                });
            }
        });
        Ok(Self { medium, socket })
    }

    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Sectors kept and lost. The machine must be gone already.
    pub fn cut(&self, seed: u64) -> Result<(usize, usize)> {
        lock(&self.medium).cut(seed)
    }
}

/// A panicked session leaves whole sectors, so the medium stays usable.
fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054;
const REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
const REQUEST_MAGIC: u32 = 0x2560_9513;
const SIMPLE_REPLY_MAGIC: u32 = 0x6744_6698;
/// HAS_FLAGS | SEND_FLUSH | SEND_FUA.
const FLAGS: u16 = 1 | 4 | 8;
const COMMAND_FLAG_FUA: u16 = 1;
const LARGEST: u32 = 32 << 20;

struct Session {
    stream: UnixStream,
    medium: Arc<Mutex<Medium>>,
    supply: Supply,
}

impl Session {
    fn run(mut self) -> Result<()> {
        if self.negotiate()? {
            while self.serve_one()? {}
        }
        Ok(())
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn take_u16(&mut self) -> Result<u16> {
        Ok(u16::from_be_bytes(self.take()?))
    }

    fn take_u32(&mut self) -> Result<u32> {
        Ok(u32::from_be_bytes(self.take()?))
    }

    fn take_u64(&mut self) -> Result<u64> {
        Ok(u64::from_be_bytes(self.take()?))
    }

    /// True when transmission begins.
    fn negotiate(&mut self) -> Result<bool> {
        let mut greeting = b"NBDMAGICIHAVEOPT".to_vec();
        // FIXED_NEWSTYLE | NO_ZEROES.
        greeting.extend(3_u16.to_be_bytes());
        self.stream.write_all(&greeting)?;
        self.take_u32()?;
        loop {
            if self.take_u64()? != OPTION_MAGIC {
                bail!("no option where one belongs");
            }
            let option = self.take_u32()?;
            let length = self.take_u32()?;
            let mut data = vec![0; length.min(4096) as usize];
            self.stream.read_exact(&mut data)?;
            match option {
                // EXPORT_NAME: no reply header.
                1 => {
                    let size = lock(&self.medium).size;
                    let mut answer = size.to_be_bytes().to_vec();
                    answer.extend(FLAGS.to_be_bytes());
                    self.stream.write_all(&answer)?;
                    return Ok(true);
                }
                // ABORT.
                2 => {
                    self.reply(option, 1, &[])?;
                    return Ok(false);
                }
                // INFO and GO: NBD_INFO_EXPORT, then ACK.
                6 | 7 => {
                    let size = lock(&self.medium).size;
                    let mut export = 0_u16.to_be_bytes().to_vec();
                    export.extend(size.to_be_bytes());
                    export.extend(FLAGS.to_be_bytes());
                    self.reply(option, 3, &export)?;
                    self.reply(option, 1, &[])?;
                    if option == 7 {
                        return Ok(true);
                    }
                }
                // Anything else: NBD_REP_ERR_UNSUP.
                _ => self.reply(option, 0x8000_0001, &[])?,
            }
        }
    }

    fn reply(&mut self, option: u32, kind: u32, data: &[u8]) -> Result<()> {
        let mut bytes = REPLY_MAGIC.to_be_bytes().to_vec();
        bytes.extend(option.to_be_bytes());
        bytes.extend(kind.to_be_bytes());
        bytes.extend(u32::try_from(data.len())?.to_be_bytes());
        bytes.extend(data);
        Ok(self.stream.write_all(&bytes)?)
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        let mut medium = lock(&self.medium);
        if self.supply.is_on() {
            medium.write(offset, bytes)?;
            self.supply.lasts(!medium.pending.is_empty());
        }
        Ok(())
    }

    fn flush(&self) -> Result<()> {
        let mut medium = lock(&self.medium);
        if self.supply.lasts(!medium.pending.is_empty()) {
            medium.flush()?;
        }
        Ok(())
    }

    /// False when the client is done or gone.
    fn serve_one(&mut self) -> Result<bool> {
        let mut magic = [0; 4];
        match self.stream.read_exact(&mut magic) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(false),
            other => other?,
        }
        if u32::from_be_bytes(magic) != REQUEST_MAGIC {
            bail!("no request where one belongs");
        }
        let flags = self.take_u16()?;
        let command = self.take_u16()?;
        let cookie = self.take_u64()?;
        let offset = self.take_u64()?;
        let length = self.take_u32()?;
        if length > LARGEST {
            bail!("a request of {length} bytes");
        }
        let done: Result<Vec<u8>> = match command {
            0 => lock(&self.medium).read(offset, length as usize),
            1 => {
                let mut bytes = vec![0; length as usize];
                self.stream.read_exact(&mut bytes)?;
                let mut wrote = self.write(offset, &bytes);
                if wrote.is_ok() && flags & COMMAND_FLAG_FUA != 0 {
                    wrote = self.flush();
                }
                wrote.map(|()| Vec::new())
            }
            2 => return Ok(false),
            3 => self.flush().map(|()| Vec::new()),
            other => Err(anyhow::anyhow!("unknown command {other}")),
        };
        if !self.supply.is_on() {
            // Nobody answers; the machine goes at once, too.
            std::io::copy(&mut self.stream, &mut std::io::sink())?;
            return Ok(false);
        }
        // EIO for whatever failed.
        let (error, data) = match done {
            Ok(data) => (0_u32, data),
            Err(_) => (5, Vec::new()),
        };
        let mut answer = SIMPLE_REPLY_MAGIC.to_be_bytes().to_vec();
        answer.extend(error.to_be_bytes());
        answer.extend(cookie.to_be_bytes());
        answer.extend(data);
        self.stream.write_all(&answer)?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests;
