//! Who a client is, and who may do everything: administrators, and the API server.

use std::collections::BTreeMap;
use x509_parser::prelude::{FromDer, X509Certificate};

const ADMINISTRATORS: &str = "system:masters";
/// The name in the API server's client certificate, as kubeadm has it.
const API_SERVER: &str = "kube-apiserver-kubelet-client";

/// Somebody: of a certificate that was verified the common name is the user and
/// organizations are the groups; of a token the API says all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Client {
    pub(crate) user: String,
    pub(crate) groups: Vec<String>,
    pub(crate) uid: String,
    pub(crate) extra: BTreeMap<String, Vec<String>>,
}

impl Client {
    pub(super) fn parse(certificate: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
        let subject = certificate.subject();
        let user = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
        let groups = subject.iter_organization();
        Some(Self {
            user,
            groups: groups
                .filter_map(|g| Some(g.as_str().ok()?.to_owned()))
                .collect(),
            ..Self::default()
        })
    }

    pub(super) fn allowed(&self) -> bool {
        self.user == API_SERVER || self.groups.iter().any(|group| group == ADMINISTRATORS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair};

    #[test]
    fn administrators_and_the_api_server_may() {
        for (user, group, may) in [
            ("admin", Some("system:masters"), true),
            ("kube-apiserver-kubelet-client", None, true),
            ("system:node:n1", Some("system:nodes"), false),
            ("system:masters", None, false),
        ] {
            let mut params = CertificateParams::default();
            params.distinguished_name.push(DnType::CommonName, user);
            if let Some(group) = group {
                params
                    .distinguished_name
                    .push(DnType::OrganizationName, group);
            }
            let key = KeyPair::generate().expect("a key");
            let certificate = params.self_signed(&key).expect("a certificate");
            let client = Client::parse(certificate.der()).expect("parses");
            assert_eq!(
                (client.user.as_str(), client.allowed()),
                (user, may),
                "{client:?}"
            );
        }
        assert_eq!(Client::parse(b"no certificate"), None);
    }
}
