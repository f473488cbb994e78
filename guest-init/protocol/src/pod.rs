//! What the guest is asked to run: the pod's shared part, containers, execs.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The part of a pod that its containers share.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pod {
    pub hostname: String,
    /// Written to `/etc/hosts` and `/etc/resolv.conf` of each container.
    pub hosts: String,
    pub resolv_conf: String,
    /// `/dev/shm` of all containers, in bytes.
    pub shm_size: u64,
    pub share_process_namespace: bool,
    /// At most [`crate::VOLUMES_MAX`], each name once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<Volume>,
    /// Where writable layers are that are not in memory, by container.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub layers: BTreeMap<String, Slice>,
    /// Values of the kernel's parameters, by their paths below `/proc/sys`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sysctls: BTreeMap<String, String>,
    /// Owns what is in volumes; new files inherit it (set-group-ID directories).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fs_group: Option<u32>,
}

/// A directory that the containers of a pod share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Volume {
    /// A DNS label, as in the pod.
    pub name: String,
    pub kind: VolumeKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum VolumeKind {
    /// Empty at first, in the guest's memory: at most so many bytes, 0 for half
    /// of the memory.
    Memory { size: u64 },
    /// Empty at first, on the scratch disk.
    Disk(Slice),
    /// Files that the host sends ([`crate::Open::Project`]) and nobody else
    /// changes; none at first.
    Files,
}

/// A part of the scratch disk ([`crate::SCRATCH_DISK`]), which holds an empty
/// ext4 file system when the machine starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slice {
    /// From 1 to [`crate::SLICES_MAX`]; each once in a pod.
    pub number: u16,
    /// In bytes, whole sectors.
    pub start: u64,
    pub length: u64,
}

/// A volume, or a part of one, in a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mount {
    pub volume: String,
    /// Absolute; made if the image lacks it, as a directory or a file.
    pub path: String,
    /// Relative; links are followed inside of the volume only. What is not there
    /// is made as a directory, but not in an image. Empty for the whole volume.
    pub sub_path: String,
    pub read_only: bool,
    /// The serial of the disk whose EROFS the volume is, if it is an image: it is
    /// none of the pod's volumes then, and nothing in it can be written or run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<String>,
}

/// The whole content of a volume of files, which takes the place of what was
/// there at once, as one link changes (`..data`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Projection {
    pub volume: String,
    /// At most [`crate::PROJECTED_FILES_MAX`].
    pub files: Vec<ProjectedFile>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProjectedFile {
    /// Relative, without `..` and not beginning with two dots; each once.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// A user other than root who owns it.
    pub owner: Option<u32>,
    /// How many of the bytes that follow are its content.
    pub length: u64,
}

/// One attempt to run a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Container {
    pub name: String,
    /// 0 for the first start; as `restartCount` counts.
    pub attempt: u32,
    /// The serial of the disk that holds the EROFS root.
    pub disk: String,
    /// The limit of the writable layer in bytes, if that is in memory.
    pub overlay_size: u64,
    pub args: Vec<String>,
    /// In order; `NAME=value`.
    pub env: Vec<String>,
    pub working_dir: String,
    pub user: User,
    pub security: SecurityContext,
    pub limits: Limits,
    pub rlimits: Vec<Rlimit>,
    pub stdin: bool,
    /// Its input ends for good with the first connection that was attached to it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stdin_once: bool,
    pub tty: bool,
    /// The image's stop signal; SIGTERM (15) by default.
    pub stop_signal: u8,
    pub termination_message_path: String,
    /// Files put over the root, read-only, parents made as needed.
    pub files: Vec<FileEntry>,
    /// In the order in which they are mounted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
    /// The container, running, whose process namespace it shares, unless all of
    /// the pod's share one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
}

/// Who runs a process; names are looked up in the container's own files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub struct User {
    /// As in the image's `User`: `name`, `uid`, `name:group`, `uid:gid`;
    /// empty for root.
    pub user: String,
    /// Takes precedence over the group of `user`.
    pub group: Option<u32>,
    pub additional_groups: Vec<u32>,
    /// Without the groups that the image gives its user
    /// (`supplementalGroupsPolicy: Strict`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub strict: bool,
}

/// Who the first process of a container was when it began.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    pub uid: u32,
    pub gid: u32,
    /// With `gid` among them; at most [`crate::GROUPS_MAX`].
    pub groups: Vec<u32>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecurityContext {
    /// Kept in bounding, permitted and effective sets; `CAP_` and name.
    pub capabilities: Vec<String>,
    pub no_new_privileges: bool,
    pub read_only_root: bool,
    pub privileged: bool,
    /// Nothing of `/proc` is masked or read-only (`procMount: Unmasked`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unmasked_proc: bool,
}

/// cgroup v2 limits inside the guest; 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    pub memory: u64,
    /// Thousandths of a CPU.
    pub cpu_milli: u64,
    pub cpu_weight: u64,
    pub pids: u64,
}

/// `setrlimit(2)`: `resource` as in the kernel's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rlimit {
    pub resource: u8,
    pub soft: u64,
    pub hard: u64,
}

/// A small file projected into a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    pub path: String,
    pub mode: u32,
    pub content: Vec<u8>,
}

/// A process to run in a container besides its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exec {
    pub container: String,
    pub args: Vec<String>,
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub tty: bool,
}
