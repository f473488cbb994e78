//! From the kernel's first process to the point where roles can start.
//!
//! Each step that fails is told and survived, if anything useful remains: an
//! appliance with a console message is better than a dead one.

use super::descriptor::Decision;
use super::jail::Jail;
use super::journal::Journal;
use super::modules::Modules;
use super::pipes::Pipe;
use super::storage::{self, Place};
use super::{cgroup, configure, mounts, source, stop, sysctl};
use crate::config::NODE_CREDENTIALS;
use std::fs::File;
use std::io;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::time::Duration;
use sys::kvm::Keeper;
use sys::machine::Watchdog;
use sys::namespace::EmptyNamespaces;
use sys::signals::Signals;
use sys::uevent::Uevents;

const WATCHDOG: &str = "/dev/watchdog";
const KVM: &str = "/dev/kvm";

/// Everything that the loop works with.
pub(super) struct Booted {
    pub(super) journal: Journal,
    pub(super) signals: Signals,
    pub(super) uevents: Uevents,
    pub(super) modules: Option<Modules>,
    pub(super) watchdog: Option<Watchdog>,
    #[expect(dead_code, reason = "what it keeps, it keeps by being open")]
    pub(super) kvm: Option<Keeper>,
    pub(super) jail: Option<Jail>,
    pub(super) system_log: Pipe,
    pub(super) test_agent: bool,
    pub(super) show_credentials: bool,
    /// What `node` has to stop its pods.
    pub(super) for_pods: Duration,
}

/// Runs once; what it can't do without is an error.
pub(super) fn boot() -> io::Result<Booted> {
    let failed = mounts::mount_all();
    let journal = Journal::new();
    journal.install();
    for error in failed {
        log::error!("{error}");
    }
    let release = sys::machine::kernel_release();
    log::info!("atoll {} on Linux {release}", env!("CARGO_PKG_VERSION"));
    let signals = Signals::new()?;
    let uevents = Uevents::subscribe()?;
    sys::machine::catch_ctrl_alt_del().unwrap_or_else(|error| log::warn!("ctrl-alt-del: {error}"));
    sysctl::apply();
    cgroup::prepare().unwrap_or_else(|error| log::error!("cgroups: {error}"));
    let jail = jail()
        .inspect_err(|error| log::error!("no micro-VM can run: {error}"))
        .ok();
    let modules = Modules::open()
        .inspect_err(|error| log::error!("modules: {error}"))
        .ok();
    if let Some(modules) = &modules {
        modules.load_for_present();
    }
    let mut system_log = Pipe::new("system")?;
    let decision = configure(&mut system_log, &journal);
    log::set_max_level(decision.log_level);
    sys::machine::set_hostname(&decision.node_name)
        .unwrap_or_else(|error| log::warn!("host name: {error}"));
    let watchdog = watchdog(&decision);
    let kvm = kvm_for_vmms()
        .inspect_err(|error| log::error!("{KVM}: {error}: no micro-VM can run here"))
        .ok();
    role_directories();
    sys::mount::remount_root_read_only().unwrap_or_else(|error| log::warn!("/: {error}"));
    let test_agent = source::kernel_parameter("atoll.test").as_deref() == Some("1");
    Ok(Booted {
        journal,
        signals,
        uevents,
        modules,
        watchdog,
        kvm,
        jail,
        system_log,
        test_agent,
        show_credentials: decision.show_credentials,
        for_pods: stop::for_pods(decision.shutdown_seconds),
    })
}

/// The empty namespaces are made before disks are mounted, so that they keep
/// none of them busy.
fn jail() -> io::Result<Jail> {
    std::fs::create_dir_all("/var/empty")?;
    let hidden = [c"/proc", c"/sys", c"/dev", c"/run", c"/tmp"];
    Ok(Jail {
        namespaces: EmptyNamespaces::create(c"/var/empty", &hidden)?,
        program: File::open("/usr/bin/atoll-vmm")?,
        kvm: KVM.into(),
        cgroups: cgroup::MACHINES.into(),
    })
}

/// Finds the config, has it checked, mounts what it says.
fn configure(log: &mut Pipe, journal: &Journal) -> Decision {
    let drain = |log: &mut Pipe| log.drain(journal, super::looping::now());
    let mut found = source::find();
    if found.is_none() && storage::mount_labelled_state() {
        found = source::saved(storage::STATE);
    }
    let decision = configure::configure(found.as_ref(), log);
    drain(log);
    if decision.broken {
        log::error!("the machine config is not used; defaults are, until it is right");
    }
    let (state, data) = storage::mount_all(&decision, log);
    drain(log);
    if state == Place::Memory && data == Place::Memory {
        log::warn!("live: without a disk for STATE and DATA everything is in memory");
    }
    if let (Some(source), Place::Disk(_), false) = (&found, &state, decision.broken) {
        source::save(source, storage::STATE)
            .unwrap_or_else(|error| log::warn!("machine config not saved: {error}"));
    }
    decision
}

fn watchdog(decision: &Decision) -> Option<Watchdog> {
    if decision.watchdog_seconds == 0 {
        return None;
    }
    match Watchdog::arm(WATCHDOG, decision.watchdog_seconds) {
        Ok(watchdog) => {
            log::info!("watchdog armed, {} s", watchdog.timeout_seconds);
            Some(watchdog)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            log::warn!("{WATCHDOG}: {error}");
            None
        }
    }
}

/// Vmms get `/dev/kvm` open; nobody else needs it.
fn kvm_for_vmms() -> io::Result<Keeper> {
    std::fs::set_permissions(KVM, std::fs::Permissions::from_mode(0o600))?;
    let device = File::options().read(true).write(true).open(KVM)?;
    Keeper::new(&sys::kvm::open(device.into()))
}

/// Where roles write at run time.
fn role_directories() {
    for role in [super::role::CONTROL, super::role::NODE, super::role::FABRIC] {
        let path = format!("/run/atoll/{}", role.name);
        let made = std::fs::create_dir_all(&path)
            .and_then(|()| chown(&path, Some(role.uid), Some(role.uid)));
        made.unwrap_or_else(|error| log::error!("{path}: {error}"));
    }
    node_credentials().unwrap_or_else(|error| log::error!("{NODE_CREDENTIALS}: {error}"));
    // Names resolve for everybody by what fabric learned.
    symlink("fabric/resolv.conf", "/run/atoll/resolv.conf")
        .unwrap_or_else(|error| log::warn!("/run/atoll/resolv.conf: {error}"));
}

/// `control` writes here, files get `node`'s group by the set-group-id bit.
fn node_credentials() -> io::Result<()> {
    std::fs::create_dir_all(NODE_CREDENTIALS)?;
    let (owner, group) = (super::role::CONTROL.uid, super::role::NODE.uid);
    chown(NODE_CREDENTIALS, Some(owner), Some(group))?;
    std::fs::set_permissions(NODE_CREDENTIALS, std::fs::Permissions::from_mode(0o2750))
}
