//! The files that a node manages in each container: hosts and resolv.conf.

use super::names::Names;
use super::scratch::Scratch;
use super::view::View;
use guest_protocol::Pod as GuestPod;

/// `/dev/shm` as container runtimes give it.
const SHM_SIZE: u64 = 64 << 20;
/// The shared part of a pod, as the guest is told it.
///
/// `nameservers` are those of the node (`dnsPolicy: Default`; there is no
/// cluster DNS yet).
pub(crate) fn guest_pod(view: View<'_>, nameservers: &[String], scratch: Scratch) -> GuestPod {
    let spec = view.spec();
    let names = Names::of(view);
    GuestPod {
        // One that doesn't fit is refused when a container is described.
        hostname: names.of_kernel().unwrap_or_else(|_| names.host.clone()),
        hosts: hosts(view, &names),
        resolv_conf: resolv_conf(view, nameservers),
        shm_size: SHM_SIZE,
        share_process_namespace: spec
            .and_then(|s| s.share_process_namespace)
            .unwrap_or(false),
        volumes: super::volumes::declare(view, &scratch),
        layers: scratch.layers,
        sysctls: super::sysctls::by_path(view),
        fs_group: fs_group(view),
    }
}

/// A number that is no group is refused when a container is described.
fn fs_group(view: View<'_>) -> Option<u32> {
    let security = view.spec()?.security_context.as_ref()?;
    u32::try_from(security.fs_group?).ok()
}

/// As upstream manages it; there is no pod address yet, so the name is local.
fn hosts(view: View<'_>, names: &Names) -> String {
    let mut text = "# Kubernetes-managed hosts file.\n\
        127.0.0.1\tlocalhost\n\
        ::1\tlocalhost ip6-localhost ip6-loopback\n\
        fe00::\tip6-localnet\n\
        fe00::\tip6-mcastprefix\n\
        fe00::1\tip6-allnodes\n\
        fe00::2\tip6-allrouters\n"
        .to_owned();
    let own = names.full().map(|full| format!("{full}\t"));
    let own = own.unwrap_or_default();
    text.push_str(&format!("127.0.0.1\t{own}{}\n", names.host));
    let aliases = view
        .spec()
        .and_then(|s| s.host_aliases.as_deref())
        .unwrap_or_default();
    if !aliases.is_empty() {
        text.push_str("\n# Entries added by HostAliases.\n");
        for alias in aliases {
            let names = alias.hostnames.as_deref().unwrap_or_default().join("\t");
            text.push_str(&format!("{}\t{names}\n", alias.ip));
        }
    }
    text
}

fn resolv_conf(view: View<'_>, nameservers: &[String]) -> String {
    let spec = view.spec();
    let own = spec.and_then(|s| s.dns_config.as_ref());
    let none = spec.and_then(|s| s.dns_policy.as_deref()) == Some("None");
    let mut servers: Vec<&str> = Vec::new();
    if !none {
        servers.extend(nameservers.iter().map(String::as_str));
    }
    let added = own
        .and_then(|c| c.nameservers.as_deref())
        .unwrap_or_default();
    servers.extend(added.iter().map(String::as_str));
    let mut text = String::new();
    let searches = own.and_then(|c| c.searches.as_deref()).unwrap_or_default();
    if !searches.is_empty() {
        text.push_str(&format!("search {}\n", searches.join(" ")));
    }
    for server in servers {
        text.push_str(&format!("nameserver {server}\n"));
    }
    let options: Vec<String> = own
        .and_then(|c| c.options.as_deref())
        .unwrap_or_default()
        .iter()
        .filter_map(|option| {
            let name = option.name.clone()?;
            Some(match &option.value {
                Some(value) => format!("{name}:{value}"),
                None => name,
            })
        })
        .collect();
    if !options.is_empty() {
        text.push_str(&format!("options {}\n", options.join(" ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::samples::pod;
    use super::*;
    use serde_json::json;

    #[test]
    fn files_follow_the_pod() {
        let pod = pod(json!({
            "containers": [],
            "subdomain": "db", "setHostnameAsFQDN": false,
            "hostname": "a-very-long-name-that-is-longer-than-linux-allows-for-host-name-s-",
            "hostAliases": [{"ip": "10.1.1.1", "hostnames": ["x", "y"]}],
            "dnsPolicy": "None",
            "dnsConfig": {
                "nameservers": ["10.0.0.10"], "searches": ["a", "b"],
                "options": [{"name": "ndots", "value": "5"}, {"name": "edns0"}],
            },
        }));
        let made = guest_pod(View(&pod), &["192.0.2.1".to_owned()], Scratch::default());
        assert_eq!(
            made.hostname,
            "a-very-long-name-that-is-longer-than-linux-allows-for-host-name"
        );
        let own = format!(
            "\n127.0.0.1\t{0}.db.default.svc.cluster.local\t{0}\n",
            made.hostname
        );
        assert!(made.hosts.contains(&own), "{}", made.hosts);
        assert!(
            made.hosts
                .ends_with("\n# Entries added by HostAliases.\n10.1.1.1\tx\ty\n")
        );
        assert_eq!(
            made.resolv_conf,
            "search a b\nnameserver 10.0.0.10\noptions ndots:5 edns0\n"
        );
    }
}
