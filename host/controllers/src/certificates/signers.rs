//! What the built-in signers take: names and usages. Pure
//! (`pkg/apis/certificates/helpers.go`, `pkg/controller/certificates/signer`).
//!
//! `kubernetes.io/legacy-unknown` isn't among them: the v1 API refuses requests
//! for it.

use super::authority::Usage;
use api::kinds::SigningRequest;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signer {
    ApiClient,
    KubeletClient,
    KubeletServing,
}

const NODE: &str = "system:node:";
const NODES: &str = "system:nodes";

const CLIENT: [&str; 3] = ["client auth", "digital signature", "key encipherment"];
const SERVING: [&str; 3] = ["digital signature", "key encipherment", "server auth"];

impl Signer {
    pub(crate) fn named(name: &str) -> Option<Signer> {
        match name {
            "kubernetes.io/kube-apiserver-client" => Some(Signer::ApiClient),
            "kubernetes.io/kube-apiserver-client-kubelet" => Some(Signer::KubeletClient),
            "kubernetes.io/kubelet-serving" => Some(Signer::KubeletServing),
            _ => None,
        }
    }

    /// The usages that a certificate of this request gets, or why it gets none.
    pub(crate) fn judge(
        self,
        request: &SigningRequest,
        usages: &[String],
    ) -> Result<Vec<Usage>, String> {
        match self {
            Signer::ApiClient => api_client(usages)?,
            Signer::KubeletClient => kubelet_client(request, usages)?,
            Signer::KubeletServing => kubelet_serving(request, usages)?,
        }
        Ok(usages.iter().filter_map(|u| usage(u)).collect())
    }
}

fn usage(name: &str) -> Option<Usage> {
    match name {
        "digital signature" => Some(Usage::DigitalSignature),
        "key encipherment" => Some(Usage::KeyEncipherment),
        "client auth" => Some(Usage::ClientAuth),
        "server auth" => Some(Usage::ServerAuth),
        _ => None,
    }
}

fn api_client(usages: &[String]) -> Result<(), String> {
    if let Some(other) = usages.iter().find(|u| !CLIENT.contains(&u.as_str())) {
        return Err(format!("invalid usage for client certificate: {other}"));
    }
    match usages.iter().any(|u| u == "client auth") {
        true => Ok(()),
        false => Err("missing required usage for client certificate: client auth".to_owned()),
    }
}

fn kubelet_client(request: &SigningRequest, usages: &[String]) -> Result<(), String> {
    in_nodes(request)?;
    for (names, kind) in [
        (request.dns_names.is_empty(), "DNS"),
        (request.emails.is_empty(), "Email"),
        (request.addresses.is_empty(), "IP"),
        (request.uris.is_empty(), "URI"),
    ] {
        if !names {
            return Err(format!("{kind} subjectAltNames are not allowed"));
        }
    }
    is_node(request)?;
    exactly(usages, &CLIENT)
}

fn kubelet_serving(request: &SigningRequest, usages: &[String]) -> Result<(), String> {
    in_nodes(request)?;
    if request.dns_names.is_empty() && request.addresses.is_empty() {
        return Err("DNS or IP subjectAltName is required".to_owned());
    }
    for (names, kind) in [
        (request.emails.is_empty(), "Email"),
        (request.uris.is_empty(), "URI"),
    ] {
        if !names {
            return Err(format!("{kind} subjectAltNames are not allowed"));
        }
    }
    exactly(usages, &SERVING)?;
    is_node(request)
}

fn in_nodes(request: &SigningRequest) -> Result<(), String> {
    match request.organizations.as_slice() {
        [one] if one == NODES => Ok(()),
        _ => Err(format!("subject organization is not {NODES}")),
    }
}

fn is_node(request: &SigningRequest) -> Result<(), String> {
    match request.common_name.starts_with(NODE) {
        true => Ok(()),
        false => Err(format!("subject common name does not begin with {NODE}")),
    }
}

/// All of `wanted`, the encipherment of keys perhaps not, and nothing else.
fn exactly(usages: &[String], wanted: &[&str]) -> Result<(), String> {
    let known = usages.iter().all(|u| wanted.contains(&u.as_str()));
    let whole = wanted
        .iter()
        .all(|w| *w == "key encipherment" || usages.iter().any(|u| u == w));
    match known && whole {
        true => Ok(()),
        false => Err(format!("usages did not match [{}]", wanted.join(" "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(
        organizations: &[&str],
        name: &str,
        dns: &[&str],
        emails: &[&str],
    ) -> SigningRequest {
        let owned = |l: &[&str]| l.iter().map(|s| (*s).to_owned()).collect();
        SigningRequest {
            common_name: name.to_owned(),
            organizations: owned(organizations),
            dns_names: owned(dns),
            emails: owned(emails),
            ..SigningRequest::default()
        }
    }

    // Table: signers, requests and what is wrong with them.
    #[test]
    fn signers_take_what_is_theirs() {
        use Signer::{ApiClient, KubeletClient, KubeletServing};
        let node = |dns: &[&str]| request(&[NODES], "system:node:a", dns, &[]);
        let (client, serving) = (&CLIENT[..], &SERVING[..]);
        for (signer, request, usages, why) in [
            (ApiClient, request(&["g"], "u", &["x"], &[]), client, ""),
            (ApiClient, request(&[], "u", &[], &[]), &["client auth"], ""),
            (
                ApiClient,
                request(&[], "u", &[], &[]),
                &["signing"],
                "invalid usage for client certificate: signing",
            ),
            (
                ApiClient,
                request(&[], "u", &[], &[]),
                &["digital signature"],
                "missing required usage for client certificate: client auth",
            ),
            (KubeletClient, node(&[]), client, ""),
            (
                KubeletClient,
                node(&[]),
                &["client auth", "digital signature"],
                "",
            ),
            (
                KubeletClient,
                node(&[]),
                serving,
                "usages did not match [client auth digital signature key encipherment]",
            ),
            (
                KubeletClient,
                node(&["a"]),
                client,
                "DNS subjectAltNames are not allowed",
            ),
            (
                KubeletClient,
                request(&[NODES, "system:masters"], "system:node:a", &[], &[]),
                client,
                "subject organization is not system:nodes",
            ),
            (
                KubeletClient,
                request(&[NODES], "admin", &[], &[]),
                client,
                "subject common name does not begin with system:node:",
            ),
            (KubeletServing, node(&["a"]), serving, ""),
            (
                KubeletServing,
                node(&[]),
                serving,
                "DNS or IP subjectAltName is required",
            ),
            (
                KubeletServing,
                request(&[NODES], "system:node:a", &["a"], &["a@b"]),
                serving,
                "Email subjectAltNames are not allowed",
            ),
        ] {
            let usages: Vec<String> = usages.iter().map(|u| (*u).to_owned()).collect();
            let judged = signer.judge(&request, &usages);
            assert_eq!(judged.clone().err().unwrap_or_default(), why);
            if let Ok(given) = judged {
                assert_eq!(given.len(), usages.len());
            }
        }
    }
}
