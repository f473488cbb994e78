//! Which address families a Service has: upstream's rules for single and dual
//! stack (`pkg/registry/core/service/storage`, KEP-563).

use api::field::{Errors, Path};
use api::kinds;
use api::meta;
use api::service_range::ServiceRange;
use serde_json::{Value, json};

const FAMILIES: &[&str] = &["IPv4", "IPv6"];

/// Settles `ipFamilies` and `ipFamilyPolicy` by what the client asks for and
/// what the cluster has.
pub(super) fn settle(
    new: &mut Value,
    old: Option<&Value>,
    ranges: &[ServiceRange],
    errors: &mut Errors,
) {
    if !kinds::needs_cluster_ip(new) {
        return;
    }
    let mut ours: Vec<&str> = Vec::new();
    for range in ranges {
        if !ours.contains(&range.family()) {
            ours.push(range.family());
        }
    }
    let mut families = texts(new, "ipFamilies");
    if families.iter().any(|f| !FAMILIES.contains(&f.as_str())) {
        // Validation says what is wrong with them.
        return;
    }
    let mut policy = meta::text(new, &["spec", "ipFamilyPolicy"]).to_owned();
    if kinds::is_headless(new) && meta::members(new, &["spec", "selector"]).next().is_none() {
        settle_free(&mut families, &mut policy, &ours);
    } else {
        give_up_second(new, old, &mut families, &policy);
        if !settle_bound(new, &mut families, &mut policy, &ours, errors) {
            return;
        }
    }
    let spec = meta::ensure(new, "spec");
    if !families.is_empty() {
        spec.insert("ipFamilies".to_owned(), json!(families));
        spec.insert("ipFamilyPolicy".to_owned(), policy.into());
    }
}

fn texts(object: &Value, key: &str) -> Vec<String> {
    meta::list(object, &["spec", key])
        .iter()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

/// Headless and without selector, a Service isn't bound to the cluster's
/// families: its endpoints come from elsewhere.
fn settle_free(families: &mut Vec<String>, policy: &mut String, ours: &[&str]) {
    if policy.is_empty() {
        *policy = "RequireDualStack".to_owned();
    }
    if families.is_empty() {
        families.extend(ours.first().map(|f| (*f).to_owned()));
    }
    if *policy != "SingleStack" {
        add_other(families, FAMILIES);
    }
}

/// Going back to a single stack lets the second address go.
fn give_up_second(new: &mut Value, old: Option<&Value>, families: &mut Vec<String>, policy: &str) {
    let Some(old) = old else {
        return;
    };
    if policy != "SingleStack" || families.len() < 2 || *families != texts(old, "ipFamilies") {
        return;
    }
    families.truncate(1);
    let mut ips = texts(new, "clusterIPs");
    if ips == texts(old, "clusterIPs") && ips.len() > 1 {
        ips.truncate(1);
        meta::ensure(new, "spec").insert("clusterIPs".to_owned(), json!(ips));
    }
}

/// False if the cluster can't serve it; `errors` says why.
fn settle_bound(
    new: &Value,
    families: &mut Vec<String>,
    policy: &mut String,
    ours: &[&str],
    errors: &mut Errors,
) -> bool {
    let path = Path::new("spec");
    let ips = texts(new, "clusterIPs");
    let named = families.len();
    for ip in ips.iter().skip(named).filter(|ip| *ip != "None") {
        let family = if ip.contains(':') { "IPv6" } else { "IPv4" };
        if !families.iter().any(|f| f == family) {
            families.push(family.to_owned());
        }
    }
    let before = errors.0.len();
    for (i, family) in families.iter().take(named).enumerate() {
        if !ours.contains(&family.as_str()) {
            let at = path.child("ipFamilies").index(i);
            errors.invalid(&at, family.as_str(), "not configured on this cluster");
        }
    }
    let at = path.child("ipFamilyPolicy");
    if policy == "RequireDualStack" && ours.len() < 2 {
        let why = "this cluster is not configured for dual-stack services";
        errors.invalid(&at, policy.as_str(), why);
    }
    if families.len() > 1 {
        if policy.is_empty() {
            *policy = "RequireDualStack".to_owned();
        } else if policy == "SingleStack" {
            let what = if named > 1 {
                "ipFamilies"
            } else {
                "clusterIPs"
            };
            let why = format!(
                "must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified"
            );
            errors.invalid(&at, policy.as_str(), why);
        }
    }
    if errors.0.len() > before {
        return false;
    }
    if policy.is_empty() {
        *policy = "SingleStack".to_owned();
    }
    if families.is_empty() {
        families.extend(ours.first().map(|f| (*f).to_owned()));
    }
    if policy != "SingleStack" {
        add_other(families, ours);
    }
    true
}

fn add_other(families: &mut Vec<String>, known: &[&str]) {
    for family in known {
        if !families.iter().any(|f| f == family) {
            families.push((*family).to_owned());
        }
    }
}
