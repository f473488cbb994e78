//! The description of one micro-VM, checked when it is parsed.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::num::NonZeroU8;

/// The vsock port on which `guest-init` listens.
pub const VSOCK_PORT_AGENT: u32 = 1024;

/// Why a description was refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SpecError {
    #[error(
        "disk id {0:?}: 1 to 20 characters of a-z, 0-9 and '-' are allowed (virtio 1.3, 5.2.6)"
    )]
    DiskId(String),
    #[error("memory of {0} MiB: between 16 and 1048576 MiB are allowed")]
    Memory(u32),
    #[error("machine id {0:?}: 32 hexadecimal digits are required")]
    MachineId(String),
    #[error("{0} vCPUs: at most 64 are allowed")]
    Vcpus(u8),
    #[error("{field}: descriptor index {index}, but only {count} came with the message")]
    FdIndex {
        field: &'static str,
        index: u8,
        count: usize,
    },
    #[error("disk id {0} is used twice")]
    DuplicateDisk(DiskId),
}

/// Names one micro-VM for as long as it runs; for a pod, the bytes of its UID.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MachineId(pub [u8; 16]);

impl fmt::Display for MachineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for MachineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<MachineId> for String {
    fn from(id: MachineId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for MachineId {
    type Error = SpecError;

    fn try_from(text: String) -> Result<Self, SpecError> {
        let refuse = || SpecError::MachineId(text.clone());
        if text.len() != 32 || !text.is_ascii() {
            return Err(refuse());
        }
        let mut bytes = [0; 16];
        for (index, byte) in bytes.iter_mut().enumerate() {
            let digits = text.get(index * 2..index * 2 + 2).ok_or_else(refuse)?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| refuse())?;
        }
        Ok(Self(bytes))
    }
}

/// Guest memory in MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct MemorySize(u32);

impl MemorySize {
    /// # Errors
    /// Refuses less than 16 MiB and more than 1 TiB.
    pub const fn from_mib(mib: u32) -> Result<Self, SpecError> {
        if mib < 16 || mib > 1 << 20 {
            return Err(SpecError::Memory(mib));
        }
        Ok(Self(mib))
    }

    #[must_use]
    pub const fn mib(self) -> u32 {
        self.0
    }

    #[must_use]
    pub const fn bytes(self) -> u64 {
        (self.0 as u64) << 20
    }
}

impl TryFrom<u32> for MemorySize {
    type Error = SpecError;

    fn try_from(mib: u32) -> Result<Self, SpecError> {
        Self::from_mib(mib)
    }
}

impl From<MemorySize> for u32 {
    fn from(size: MemorySize) -> Self {
        size.0
    }
}

/// The position of a descriptor among those that came with the same message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FdIndex(pub u8);

/// The serial of a disk, by which `guest-init` finds it (`VIRTIO_BLK_T_GET_ID`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DiskId(String);

impl DiskId {
    /// # Errors
    /// Refuses what does not fit the 20 bytes of a virtio-blk serial.
    pub fn new(text: impl Into<String>) -> Result<Self, SpecError> {
        let text = text.into();
        let fits = (1..=20).contains(&text.len());
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if fits && text.bytes().all(plain) {
            Ok(Self(text))
        } else {
            Err(SpecError::DiskId(text))
        }
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DiskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for DiskId {
    type Error = SpecError;

    fn try_from(text: String) -> Result<Self, SpecError> {
        Self::new(text)
    }
}

impl From<DiskId> for String {
    fn from(id: DiskId) -> Self {
        id.0
    }
}

/// One virtio-blk device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskSpec {
    pub id: DiskId,
    /// A regular file or block device; its size is the disk's.
    pub file: FdIndex,
    pub access: DiskAccess,
}

/// What a guest may do with a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DiskAccess {
    Read,
    /// What the guest flushes is durable.
    Write,
    /// Nothing is ever flushed: the disk ends with its machine.
    Scratch,
}

/// How a guest finds its virtio devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// virtio over MMIO, unused slots present with device id 0 (virtio 1.3, 4.2).
    Mmio,
    /// virtio over PCI, found by ports 0xCF8 and 0xCFC, MSI-X (virtio 1.3, 4.1).
    Pci,
}

/// Where a micro-VM's first instruction comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Start {
    /// Direct boot of an uncompressed kernel (ELF, PVH entry).
    Boot {
        kernel: FdIndex,
        initramfs: Option<FdIndex>,
        /// Says nothing about the pod: only console, panic and quiet settings.
        cmdline: String,
    },
    /// Continues a frozen guest; memory is mapped copy-on-write.
    Thaw { state: FdIndex, memory: FdIndex },
}

/// Everything that a vmm needs to know to run one guest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachineSpec {
    pub id: MachineId,
    pub vcpus: NonZeroU8,
    pub memory: MemorySize,
    pub transport: Transport,
    pub disks: Vec<DiskSpec>,
    /// The context id of the guest's vsock device; at least 3.
    pub cid: u32,
    /// Takes what the guest writes to its serial port; never blocks the guest.
    pub serial: Option<FdIndex>,
    pub start: Start,
}

impl MachineSpec {
    /// Checks what single fields can't: descriptor indices and unique disks.
    ///
    /// # Errors
    /// The first field that is wrong.
    pub fn check(&self, descriptors: usize) -> Result<(), SpecError> {
        if self.vcpus.get() > 64 {
            return Err(SpecError::Vcpus(self.vcpus.get()));
        }
        let within = |field: &'static str, fd: FdIndex| {
            if usize::from(fd.0) < descriptors {
                return Ok(());
            }
            Err(SpecError::FdIndex {
                field,
                index: fd.0,
                count: descriptors,
            })
        };
        self.serial.map_or(Ok(()), |fd| within("serial", fd))?;
        match &self.start {
            Start::Boot {
                kernel, initramfs, ..
            } => {
                within("start.boot.kernel", *kernel)?;
                initramfs.map_or(Ok(()), |fd| within("start.boot.initramfs", fd))?;
            }
            Start::Thaw { state, memory } => {
                within("start.thaw.state", *state)?;
                within("start.thaw.memory", *memory)?;
            }
        }
        for (position, disk) in self.disks.iter().enumerate() {
            within("disks.file", disk.file)?;
            if self.disks.iter().take(position).any(|d| d.id == disk.id) {
                return Err(SpecError::DuplicateDisk(disk.id.clone()));
            }
        }
        Ok(())
    }
}
