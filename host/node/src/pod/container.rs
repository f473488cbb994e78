//! One attempt of a container, as the guest is asked to run it: what the image
//! says, overridden by what the pod says.

use super::environment::{ConfigError, HostFacts, Sources, environment, expand};
use super::names::Names;
use super::resources::{limit, milli, request, units};
use super::view::View;
use guest_protocol::{
    CAPABILITIES, Container as GuestContainer, FileEntry, Limits, Rlimit, SecurityContext, User,
};
use k8s_openapi::api::core::v1::Container;
use std::collections::BTreeMap;

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const TERMINATION_LOG: &str = "/dev/termination-log";
const SIGTERM: u8 = 15;
/// `RLIMIT_NOFILE`; container runtimes give as many.
const NOFILE: Rlimit = Rlimit {
    resource: 7,
    soft: 1 << 20,
    hard: 1 << 20,
};

/// What an image says about how it is run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ImageConfig {
    pub(crate) entrypoint: Vec<String>,
    pub(crate) cmd: Vec<String>,
    pub(crate) env: Vec<String>,
    pub(crate) working_dir: String,
    pub(crate) user: String,
    pub(crate) stop_signal: String,
}

/// Where an attempt runs.
#[derive(Clone, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) disk: &'a str,
    /// The disks of the volumes that are images, by volume.
    pub(crate) volumes: &'a BTreeMap<String, String>,
    pub(crate) overlay_size: u64,
    pub(crate) host: &'a HostFacts,
}

/// The description of attempt `attempt`.
///
/// # Errors
/// What must be there and is not (yet): references, a command, a user.
pub(crate) fn describe(
    view: View<'_>,
    container: &Container,
    attempt: u32,
    image: &ImageConfig,
    sources: &Sources,
    files: Vec<FileEntry>,
    place: &Place<'_>,
) -> Result<GuestContainer, ConfigError> {
    let own = environment(view, container, sources, place.host)?;
    let known: BTreeMap<String, String> = own.iter().cloned().collect();
    let tty = container.tty.unwrap_or(false);
    let privileged = security(container, |s| s.privileged).unwrap_or(false);
    let escalation = security(container, |s| s.allow_privilege_escalation);
    let working_dir = container.working_dir.as_ref().filter(|dir| !dir.is_empty());
    let path = container.termination_message_path.as_deref();
    Ok(GuestContainer {
        name: container.name.clone(),
        attempt,
        disk: place.disk.to_owned(),
        overlay_size: place.overlay_size,
        args: arguments(container, image, &known)?,
        env: variables(&Names::of(view).of_kernel()?, image, own, tty),
        working_dir: working_dir.unwrap_or(&image.working_dir).clone(),
        user: user(view, container, image)?,
        security: SecurityContext {
            capabilities: capabilities(container, privileged),
            no_new_privileges: escalation == Some(false) && !privileged,
            read_only_root: security(container, |s| s.read_only_root_filesystem).unwrap_or(false),
            privileged,
            unmasked_proc: security(container, |s| s.proc_mount.clone()).as_deref()
                == Some("Unmasked"),
        },
        limits: limits(container),
        rlimits: vec![NOFILE],
        stdin: container.stdin.unwrap_or(false),
        stdin_once: container.stdin_once.unwrap_or(false),
        tty,
        stop_signal: stop_signal(own_signal(container).unwrap_or(&image.stop_signal)),
        termination_message_path: path.unwrap_or(TERMINATION_LOG).to_owned(),
        files,
        mounts: super::volumes::mounts(view, container, &known, place.volumes)?,
        target: view.target(&container.name).map(str::to_owned),
    })
}

fn security<T>(
    container: &Container,
    pick: impl Fn(&k8s_openapi::api::core::v1::SecurityContext) -> Option<T>,
) -> Option<T> {
    container.security_context.as_ref().and_then(pick)
}

/// `command` replaces the image's entrypoint and command, `args` the command.
fn arguments(
    container: &Container,
    image: &ImageConfig,
    known: &BTreeMap<String, String>,
) -> Result<Vec<String>, ConfigError> {
    let expanded = |list: &Option<Vec<String>>| -> Vec<String> {
        let list = list.as_deref().unwrap_or_default();
        list.iter().map(|text| expand(text, known)).collect()
    };
    let (command, args) = (expanded(&container.command), expanded(&container.args));
    let mut all = command.clone();
    if command.is_empty() {
        all.clone_from(&image.entrypoint);
    }
    if !args.is_empty() {
        all.extend(args);
    } else if command.is_empty() {
        all.extend(image.cmd.iter().cloned());
    }
    if all.is_empty() {
        return Err(ConfigError("no command specified".to_owned()));
    }
    Ok(all)
}

/// The image's variables, then the pod's; each name once.
fn variables(
    hostname: &str,
    image: &ImageConfig,
    own: Vec<(String, String)>,
    tty: bool,
) -> Vec<String> {
    let name_of = |pair: &String| pair.split('=').next().unwrap_or_default().to_owned();
    let mut base = image.env.clone();
    if !base.iter().any(|pair| pair.starts_with("PATH=")) {
        base.insert(0, PATH.to_owned());
    }
    base.push(format!("HOSTNAME={hostname}"));
    if tty {
        base.push("TERM=xterm".to_owned());
    }
    base.retain(|pair| !own.iter().any(|(name, _)| *name == name_of(pair)));
    base.extend(
        own.into_iter()
            .map(|(name, value)| format!("{name}={value}")),
    );
    base
}

fn user(view: View<'_>, container: &Container, image: &ImageConfig) -> Result<User, ConfigError> {
    let pod = view.spec().and_then(|s| s.security_context.as_ref());
    let id = security(container, |s| s.run_as_user).or_else(|| pod.and_then(|p| p.run_as_user));
    let group =
        security(container, |s| s.run_as_group).or_else(|| pod.and_then(|p| p.run_as_group));
    let non_root =
        security(container, |s| s.run_as_non_root).or_else(|| pod.and_then(|p| p.run_as_non_root));
    if non_root == Some(true) {
        check_non_root(view, container, id, image)?;
    }
    let narrow = |field: &str, value: i64| {
        u32::try_from(value).map_err(|_| ConfigError(format!("{field}: {value} is no group id")))
    };
    let groups = pod
        .and_then(|p| p.supplemental_groups.clone())
        .unwrap_or_default();
    let fs_group = pod.and_then(|p| p.fs_group);
    Ok(User {
        user: id.map_or_else(|| image.user.clone(), |id| id.to_string()),
        group: group.map(|g| narrow("runAsGroup", g)).transpose()?,
        additional_groups: groups
            .into_iter()
            .chain(fs_group)
            .map(|g| narrow("supplementalGroups", g))
            .collect::<Result<_, _>>()?,
        strict: pod.and_then(|p| p.supplemental_groups_policy.as_deref()) == Some("Strict"),
    })
}

fn check_non_root(
    view: View<'_>,
    container: &Container,
    id: Option<i64>,
    image: &ImageConfig,
) -> Result<(), ConfigError> {
    let who = format!("(pod: \"{}\", container: {})", view.label(), container.name);
    let image_user = image.user.split(':').next().unwrap_or_default();
    match (id, image_user.parse::<i64>()) {
        (Some(0), _) => Err(ConfigError(format!(
            "container's runAsUser breaks non-root policy {who}"
        ))),
        (Some(_), _) => Ok(()),
        (None, Ok(0)) => Err(root_image(&who)),
        (None, Ok(_)) => Ok(()),
        (None, Err(_)) if image_user.is_empty() => Err(root_image(&who)),
        (None, Err(_)) => Err(ConfigError(format!(
            "container has runAsNonRoot and image has non-numeric user ({image_user}), \
             cannot verify user is non-root {who}"
        ))),
    }
}

fn root_image(who: &str) -> ConfigError {
    ConfigError(format!(
        "container has runAsNonRoot and image will run as root {who}"
    ))
}

/// What container runtimes give to an unprivileged container.
const DEFAULT_CAPABILITIES: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// The default set, or all or none by `ALL`, with `drop` and then `add`.
fn capabilities(container: &Container, privileged: bool) -> Vec<String> {
    let owned = |list: &[&str]| -> Vec<String> { list.iter().map(|&c| c.to_owned()).collect() };
    if privileged {
        return owned(&CAPABILITIES);
    }
    let asked = security(container, |s| s.capabilities.clone()).unwrap_or_default();
    let full = |name: &String| {
        let upper = name.to_ascii_uppercase();
        if upper.starts_with("CAP_") {
            upper
        } else {
            format!("CAP_{upper}")
        }
    };
    let add: Vec<String> = asked.add.iter().flatten().map(full).collect();
    let drop: Vec<String> = asked.drop.iter().flatten().map(full).collect();
    let has_all = |list: &[String]| list.iter().any(|c| c == "CAP_ALL");
    let mut set = if has_all(&add) {
        owned(&CAPABILITIES)
    } else if has_all(&drop) {
        Vec::new()
    } else {
        owned(&DEFAULT_CAPABILITIES)
    };
    set.retain(|c| !drop.contains(c));
    for name in add {
        if CAPABILITIES.contains(&name.as_str()) && !set.contains(&name) {
            set.push(name);
        }
    }
    set
}

pub(crate) fn limits(container: &Container) -> Limits {
    let shares = request(container, "cpu")
        .and_then(milli)
        .map(|m| m * 1024 / 1000);
    // From shares (2 to 262144) to weight (1 to 10000), as runtimes map it.
    let weight = shares.map_or(0, |s| 1 + (s.clamp(2, 262_144) - 2) * 9999 / 262_142);
    Limits {
        memory: limit(container, "memory").and_then(units).unwrap_or(0),
        cpu_milli: limit(container, "cpu").and_then(milli).unwrap_or(0),
        cpu_weight: weight,
        pids: 0,
    }
}

/// What the pod says takes precedence over the image (KEP-4960).
fn own_signal(container: &Container) -> Option<&str> {
    container.lifecycle.as_ref()?.stop_signal.as_deref()
}

/// `SIGTERM`, `TERM` or `15`; what is no signal is SIGTERM.
fn stop_signal(text: &str) -> u8 {
    const NAMES: [(&str, u8); 12] = [
        ("HUP", 1),
        ("INT", 2),
        ("QUIT", 3),
        ("ABRT", 6),
        ("KILL", 9),
        ("USR1", 10),
        ("USR2", 12),
        ("PIPE", 13),
        ("ALRM", 14),
        ("TERM", 15),
        ("CONT", 18),
        ("WINCH", 28),
    ];
    if let Ok(number) = text.parse::<u8>() {
        return if (1..=64).contains(&number) {
            number
        } else {
            SIGTERM
        };
    }
    let name = text.strip_prefix("SIG").unwrap_or(text);
    if let Some(offset) = name
        .strip_prefix("RTMIN+")
        .and_then(|n| n.parse::<u8>().ok())
    {
        return offset
            .checked_add(34)
            .filter(|n| *n <= 64)
            .unwrap_or(SIGTERM);
    }
    let known = NAMES.iter().find(|(own, _)| *own == name);
    known.map_or(SIGTERM, |(_, number)| *number)
}

#[cfg(test)]
mod tests {
    use super::super::samples::pod;
    use super::*;
    use serde_json::{Value, json};

    fn made(mut container: Value, image: &ImageConfig) -> Result<GuestContainer, ConfigError> {
        container["name"] = json!("a");
        container["image"] = json!("a:1");
        let pod = pod(json!({"containers": [container]}));
        let view = View(&pod);
        let (_, container) = view.container("a").expect("it is there");
        let host = HostFacts::default();
        let place = Place {
            disk: "img0",
            volumes: &BTreeMap::new(),
            overlay_size: 1 << 20,
            host: &host,
        };
        describe(
            view,
            container,
            0,
            image,
            &Sources::new(),
            Vec::new(),
            &place,
        )
    }

    #[test]
    fn command_and_args_replace_what_the_image_says() {
        let image = ImageConfig {
            entrypoint: vec!["/e".to_owned()],
            cmd: vec!["c".to_owned()],
            ..ImageConfig::default()
        };
        for (container, args) in [
            (json!({}), vec!["/e", "c"]),
            (json!({"command": ["/x"]}), vec!["/x"]),
            (json!({"args": ["y"]}), vec!["/e", "y"]),
            (
                json!({"command": ["/x"], "args": ["y", "$(Z)"]}),
                vec!["/x", "y", "$(Z)"],
            ),
            (
                json!({"args": ["$(Z)"], "env": [{"name": "Z", "value": "1"}]}),
                vec!["/e", "1"],
            ),
        ] {
            assert_eq!(
                made(container.clone(), &image).expect("valid").args,
                args,
                "{container}"
            );
        }
        assert!(made(json!({}), &ImageConfig::default()).is_err());
    }

    #[test]
    fn security_contexts_become_users_and_capabilities() {
        let image = ImageConfig {
            cmd: vec!["c".to_owned()],
            user: "www:www".to_owned(),
            stop_signal: "SIGQUIT".to_owned(),
            env: vec!["PATH=/p".to_owned(), "X=1".to_owned()],
            ..ImageConfig::default()
        };
        let plain = made(json!({"env": [{"name": "X", "value": "2"}]}), &image).expect("valid");
        assert_eq!(plain.user.user, "www:www");
        assert_eq!(plain.stop_signal, 3);
        assert_eq!(plain.env, ["PATH=/p", "HOSTNAME=web", "X=2"]);
        assert_eq!(plain.security.capabilities.len(), 14);
        let dropped = json!({"securityContext": {
            "runAsUser": 7, "runAsGroup": 8, "allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN", "NONSENSE"]},
        }});
        let dropped = made(dropped, &image).expect("valid");
        assert_eq!(dropped.security.capabilities, ["CAP_NET_ADMIN"]);
        assert!(dropped.security.no_new_privileges);
        assert_eq!(
            (dropped.user.user.as_str(), dropped.user.group),
            ("7", Some(8))
        );
        let all = json!({"securityContext": {"privileged": true}});
        assert_eq!(
            made(all, &image)
                .expect("valid")
                .security
                .capabilities
                .len(),
            41
        );
        assert!(!plain.user.strict && !plain.stdin_once);
        let once = made(json!({"stdin": true, "stdinOnce": true}), &image).expect("valid");
        assert!(once.stdin && once.stdin_once);
        let root = json!({"securityContext": {"runAsNonRoot": true}});
        let error = made(root, &image).expect_err("not to be verified");
        assert!(error.0.contains("non-numeric user (www)"), "{error}");
    }

    #[test]
    fn stop_signals_have_names_and_numbers() {
        for (text, number) in [
            ("SIGTERM", 15),
            ("QUIT", 3),
            ("9", 9),
            ("SIGRTMIN+3", 37),
            ("", 15),
            ("999", 15),
            ("SIGRTMIN+255", 15),
        ] {
            assert_eq!(stop_signal(text), number, "{text}");
        }
    }
}
