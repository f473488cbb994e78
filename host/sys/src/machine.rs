//! What only PID 1 does to the whole machine: modules, names, power, watchdog.

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Write};

/// How the machine ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Power {
    Off,
    Restart,
}

/// Ends the machine at once; sync and unmount before.
///
/// # Errors
/// What reboot(2) says; it doesn't return otherwise.
pub fn power(power: Power) -> io::Result<()> {
    use rustix::system::RebootCommand;
    let command = match power {
        Power::Off => RebootCommand::PowerOff,
        Power::Restart => RebootCommand::Restart,
    };
    Ok(rustix::system::reboot(command)?)
}

/// Ctrl-Alt-Del becomes SIGINT to PID 1, rather than a hard reset.
///
/// # Errors
/// What reboot(2) says.
pub fn catch_ctrl_alt_del() -> io::Result<()> {
    Ok(rustix::system::reboot(
        rustix::system::RebootCommand::CadOff,
    )?)
}

/// Writes all dirty data of all file systems.
pub fn sync() {
    rustix::fs::sync();
}

/// Sets the kernel's host name.
///
/// # Errors
/// What sethostname(2) says.
pub fn set_hostname(name: &str) -> io::Result<()> {
    Ok(rustix::system::sethostname(name.as_bytes())?)
}

/// The running kernel's release, as in `/lib/modules/<release>`.
#[must_use]
pub fn kernel_release() -> String {
    rustix::system::uname().release().to_string_lossy().into()
}

/// What came of loading a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loaded {
    New,
    /// It was there, or is built in.
    Already,
}

/// Loads one module, given as its file's bytes.
///
/// # Errors
/// What init_module(2) says: `ENODEV` when its hardware is absent.
pub fn load_module(image: &[u8], parameters: &CStr) -> io::Result<Loaded> {
    use rustix::io::Errno;
    match rustix::system::init_module(image, parameters) {
        Ok(()) => Ok(Loaded::New),
        Err(Errno::EXIST) => Ok(Loaded::Already),
        Err(errno) => Err(errno.into()),
    }
}

nix::ioctl_readwrite!(watchdog_set_timeout, b'W', 6, i32);

/// An armed hardware watchdog: it resets the machine unless `pet` in time.
///
/// Dropping it leaves it armed; only `disarm` writes the magic character
/// (kernel, Documentation/watchdog/watchdog-api.rst).
#[derive(Debug)]
pub struct Watchdog {
    file: File,
    /// What the hardware took.
    pub timeout_seconds: u32,
}

impl Watchdog {
    /// Opens and thereby arms it.
    ///
    /// # Errors
    /// `ENOENT` where there is none.
    pub fn arm(path: &str, timeout_seconds: u32) -> io::Result<Self> {
        use std::os::fd::AsRawFd;
        let mut file = File::options().write(true).open(path)?;
        let wanted = i32::try_from(timeout_seconds).unwrap_or(i32::MAX);
        let mut granted = wanted;
        // SAFETY: the ioctl reads and writes the one `int` it is given; another
        // kind of file answers ENOTTY.
        let set = unsafe { watchdog_set_timeout(file.as_raw_fd(), &raw mut granted) };
        if set.is_err() {
            // Fixed time-outs exist; be faster than the shortest usual one.
            granted = 10.min(wanted);
        }
        file.write_all(b"\0")?;
        Ok(Self {
            file,
            timeout_seconds: u32::try_from(granted).unwrap_or(10),
        })
    }

    /// Tells it that the machine is alive.
    ///
    /// # Errors
    /// What the device says.
    pub fn pet(&mut self) -> io::Result<()> {
        self.file.write_all(b"\0")
    }

    /// Disarms it, where the driver lets one.
    ///
    /// # Errors
    /// What the device says.
    pub fn disarm(mut self) -> io::Result<()> {
        self.file.write_all(b"V")
    }
}
