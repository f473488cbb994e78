//! From a pod to a vmm that runs: open its files, size it, have `init` start
//! it, describe it.

use super::{Happened, Shared};
use crate::machine::{Control, LaunchError, Process};
use crate::pod::Pod;
use crate::pod::disks::Disks;
use crate::pod::resources::size;
use crate::pod::view::View;
use image::Reference;
use machine_spec::{
    DiskAccess, DiskId, DiskSpec, FdIndex, MachineId, MachineSpec, MemorySize, Start, Transport,
};
use rustix::fd::OwnedFd;
use std::fs::File;
use std::io;
use std::num::NonZeroU8;
use std::path::Path;
use tokio::net::unix::pipe;
use tokio::sync::OwnedSemaphorePermit;

/// Constant for every guest: it says nothing about a pod. The vmm adds its
/// devices and how the guest's end is told. The clock's watchdog would wake each
/// guest twice a second; the host's own watches the same counter.
const CMDLINE: &str = "console=ttyS0 quiet tsc=nowatchdog";
/// The guest's vsock address; each vmm has its own vsock, so one serves all.
const CID: u32 = 3;

/// What every guest boots.
#[derive(Debug)]
pub(crate) struct Kernel {
    kernel: File,
    initramfs: File,
    transport: Transport,
}

/// A machine that was found running.
#[derive(Debug)]
pub(crate) struct Adopted {
    pub(crate) process: Process,
    pub(crate) control: Control,
}

/// Why a launch failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("image {0} is not there any more")]
    ImageGone(String),
    #[error("{0}")]
    Other(String),
}

impl Failure {
    fn other(what: &str, error: impl std::fmt::Display) -> Self {
        Self::Other(format!("{what}: {error}"))
    }
}

impl Kernel {
    /// # Errors
    /// The file that can't be opened.
    pub(crate) fn open(kernel: &Path, initramfs: &Path, transport: Transport) -> io::Result<Self> {
        let open = |path: &Path| {
            File::open(path).map_err(|error| {
                io::Error::new(error.kind(), format!("{}: {error}", path.display()))
            })
        };
        Ok(Self {
            kernel: open(kernel)?,
            initramfs: open(initramfs)?,
            transport,
        })
    }
}

/// Starts the pod's machine, in its `place` among those that start. What it
/// began and could not end is taken back.
pub(super) async fn launch(
    shared: &Shared,
    pod: &Pod,
    images: &Disks,
    place: OwnedSemaphorePermit,
) -> Result<Happened, Failure> {
    let view = View(pod);
    let id = view
        .machine_id()
        .ok_or_else(|| Failure::Other("the pod's uid is no UUID".to_owned()))?;
    let (reader, writer) = console_pipe().map_err(|error| Failure::other("console", error))?;
    let (spec, fds) = describe(shared, view, (id, images), writer)?;
    let size = size(view, shared.defaults);
    let process = match shared.launcher.launch(id, size.limits()).await {
        Ok(process) => process,
        Err(error) => {
            if let LaunchError::Refused(_) = error {
                // A leftover of this pod's; the next attempt finds it gone.
                forget_leftover(shared, id).await;
            }
            return Err(Failure::other("launch", error));
        }
    };
    let at_ns = sys::event::monotonic_ns();
    let Process {
        control: socket,
        _pidfd,
        ended,
    } = process;
    let booted = async {
        let kept = rustix::io::dup(&socket)?;
        let control = Control::start(socket)?;
        control.boot(spec, fds).await.map_err(io::Error::other)?;
        io::Result::Ok((control, kept))
    };
    match booted.await {
        Ok((control, kept)) => Ok(Happened::Launched {
            process: Process {
                control: kept,
                _pidfd,
                ended,
            },
            control,
            console: Some(reader),
            at_ns,
            place,
        }),
        Err(error) => {
            // Its end is waited for, so that it can be forgotten.
            drop(shared.launcher.kill(id).await);
            drop(ended.await);
            forget_leftover(shared, id).await;
            Err(Failure::other("start", error))
        }
    }
}

async fn forget_leftover(shared: &Shared, id: MachineId) {
    for result in [
        shared.launcher.kill(id).await,
        shared.launcher.forget(id).await,
    ] {
        if let Err(error) = result {
            log::debug!("machine {id}: {error}");
        }
    }
}

fn describe(
    shared: &Shared,
    view: View<'_>,
    (id, images): (MachineId, &Disks),
    serial: OwnedFd,
) -> Result<(MachineSpec, Vec<OwnedFd>), Failure> {
    let size = size(view, shared.defaults);
    let duplicate = |file: &File| {
        let copy = file.try_clone().map(OwnedFd::from);
        copy.map_err(|error| Failure::other("guest kernel", error))
    };
    let mut fds = vec![
        duplicate(&shared.kernel.kernel)?,
        duplicate(&shared.kernel.initramfs)?,
        serial,
    ];
    let mut disks = Vec::new();
    for (name, reference) in images.first() {
        let (id, file) = image_disk(shared, name, reference)?;
        disks.push(DiskSpec {
            id,
            file: index(fds.len())?,
            access: DiskAccess::Read,
        });
        fds.push(file);
    }
    if let Some((id, file)) = scratch_disk(shared, view, id)? {
        disks.push(DiskSpec {
            id,
            file: index(fds.len())?,
            access: DiskAccess::Scratch,
        });
        fds.push(file.into());
    }
    let memory = MemorySize::from_mib(size.memory_mib);
    let spec = MachineSpec {
        id,
        vcpus: NonZeroU8::new(size.vcpus).unwrap_or(NonZeroU8::MIN),
        memory: memory.map_err(|error| Failure::other("memory", error))?,
        transport: shared.kernel.transport,
        disks,
        cid: CID,
        serial: Some(FdIndex(2)),
        start: Start::Boot {
            kernel: FdIndex(0),
            initramfs: Some(FdIndex(1)),
            cmdline: CMDLINE.to_owned(),
        },
    };
    spec.check(fds.len())
        .map_err(|error| Failure::other("machine", error))?;
    Ok((spec, fds))
}

fn image_disk(
    shared: &Shared,
    name: String,
    reference: &str,
) -> Result<(DiskId, OwnedFd), Failure> {
    let gone = || Failure::ImageGone(reference.to_owned());
    let parsed = Reference::try_from(reference.to_owned()).map_err(|_| gone())?;
    let image = shared.images.get(&parsed).ok_or_else(gone)?;
    let file = match File::open(&image.erofs) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(gone()),
        Err(error) => return Err(Failure::other("image", error)),
    };
    let id = DiskId::new(name).map_err(|error| Failure::other("image", error))?;
    Ok((id, file.into()))
}

/// Sees to it that a machine has the disk of an image: gives its name.
pub(super) async fn attach(
    shared: &Shared,
    control: &Control,
    disks: &Disks,
    reference: &str,
) -> Result<String, Failure> {
    let (name, late) = disks
        .of(reference)
        .ok_or_else(|| Failure::ImageGone(reference.to_owned()))?;
    if late {
        let (id, file) = image_disk(shared, name.clone(), reference)?;
        let attached = control.attach(id, file).await;
        attached.map_err(|error| Failure::other(&format!("disk of image {reference}"), error))?;
    }
    Ok(name)
}

fn scratch_disk(
    shared: &Shared,
    view: View<'_>,
    id: MachineId,
) -> Result<Option<(DiskId, File)>, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::other("scratch disk", error);
    let made = super::scratch::make(&shared.data, &shared.scratch(view, None), id);
    let Some(file) = made.map_err(|error| failed(&error))? else {
        return Ok(None);
    };
    let id = DiskId::new(guest_protocol::SCRATCH_DISK).map_err(|error| failed(&error))?;
    Ok(Some((id, file)))
}

fn index(at: usize) -> Result<FdIndex, Failure> {
    if at >= machine_spec::control::FDS_MAX {
        return Err(Failure::Other("too many images for one machine".to_owned()));
    }
    u8::try_from(at)
        .map(FdIndex)
        .map_err(|error| Failure::other("image", error))
}

/// Neither end blocks: a console that nobody reads loses text.
fn console_pipe() -> io::Result<(pipe::Receiver, OwnedFd)> {
    use rustix::pipe::PipeFlags;
    let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    Ok((pipe::Receiver::from_owned_fd(reader)?, writer))
}
