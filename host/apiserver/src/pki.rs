//! Keys and certificates: the CA as configured or made at first start, what it
//! signs, and the kubeconfigs that carry it. Files are 0600 and replaced
//! atomically. A certificate that stands and is still the CA's is kept.
//!
//! ```text
//! DATA/pki/ca.{crt,key}   server.{crt,key}   admin.{crt,key}
//!          kubelet-client.{crt,key}
//!          front-proxy/{ca,client}.{crt,key}, a CA of its own
//!          nodes/NAME/{ca.crt,kubelet.crt,kubelet.key,kubeconfig}
//! ```

use crate::config::Ca;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    #[error("{operation} {path}: {source}")]
    Io {
        operation: &'static str,
        path: String,
        source: io::Error,
    },
    #[error("certificate of {what}: {source}")]
    Certificate { what: String, source: rcgen::Error },
    #[error("{what}: {message}")]
    Pem { what: String, message: String },
}

/// A certificate and its key in PEM.
#[derive(Clone)]
pub struct Credential {
    pub certificate: String,
    pub key: String,
}

/// Whom a certificate is for.
pub(crate) struct Subject<'a> {
    pub(crate) name: &'a str,
    pub(crate) groups: &'a [&'a str],
    /// Server names; none for a mere client.
    pub(crate) names: &'a [String],
}

/// The authority and its directory.
pub struct Pki {
    dir: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    pub(crate) ca: String,
}

fn made<T>(what: &str, result: Result<T, rcgen::Error>) -> Result<T, PkiError> {
    result.map_err(|source| PkiError::Certificate {
        what: what.to_owned(),
        source,
    })
}

impl Pki {
    /// Uses `given`, else what stands in `dir`, else makes a CA.
    pub fn open(dir: &Path, given: Option<&Ca>) -> Result<Pki, PkiError> {
        make_dir(dir)?;
        let stored = (read(&dir.join("ca.crt"))?, read(&dir.join("ca.key"))?);
        let (certificate, key) = match (given, stored) {
            (Some(ca), _) => (ca.certificate.clone(), ca.key.clone()),
            (None, (Some(certificate), Some(key))) => (certificate, key),
            (None, _) => make_ca()?,
        };
        let pair = made("the CA's key", KeyPair::from_pem(&key))?;
        let issuer = made("the CA", Issuer::from_ca_cert_pem(&certificate, pair))?;
        write(&dir.join("ca.key"), &key)?;
        write(&dir.join("ca.crt"), &certificate)?;
        Ok(Pki {
            dir: dir.to_owned(),
            issuer,
            ca: certificate,
        })
    }

    /// A fresh certificate, kept nowhere.
    pub(crate) fn sign(&self, subject: &Subject<'_>) -> Result<Credential, PkiError> {
        let what = subject.name;
        let key = made(what, KeyPair::generate())?;
        let mut params = made(what, CertificateParams::new(subject.names.to_vec()))?;
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, subject.name);
        for group in subject.groups {
            params
                .distinguished_name
                .push(DnType::OrganizationName, *group);
        }
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyEncipherment,
        ];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        if !subject.names.is_empty() {
            params
                .extended_key_usages
                .push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        params.use_authority_key_identifier_extension = true;
        // Not before yesterday: clocks of machines that boot may be behind.
        let now = std::time::SystemTime::now();
        let day = std::time::Duration::from_secs(86_400);
        params.not_before = (now - day).into();
        params.not_after = (now + day * 3650).into();
        let certificate = made(what, params.signed_by(&key, &self.issuer))?;
        Ok(Credential {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }

    /// The credential kept as `name.{crt,key}`, made if it isn't there.
    pub(crate) fn kept(&self, name: &str, subject: &Subject<'_>) -> Result<Credential, PkiError> {
        let crt = self.dir.join(format!("{name}.crt"));
        let key = self.dir.join(format!("{name}.key"));
        if let (Some(certificate), Some(key)) = (read(&crt)?, read(&key)?)
            && self.signed(&certificate)
        {
            return Ok(Credential { certificate, key });
        }
        let made = self.sign(subject)?;
        write(&key, &made.key)?;
        write(&crt, &made.certificate)?;
        Ok(made)
    }

    /// Whether this CA signed a certificate, and it isn't about to end.
    fn signed(&self, certificate: &str) -> bool {
        let parse = |pem: &str| {
            x509_parser::pem::parse_x509_pem(pem.as_bytes())
                .ok()
                .map(|(_, parsed)| parsed)
        };
        let (Some(ca), Some(leaf)) = (parse(&self.ca), parse(certificate)) else {
            return false;
        };
        match (ca.parse_x509(), leaf.parse_x509()) {
            (Ok(ca), Ok(leaf)) => {
                let soon = x509_parser::time::ASN1Time::now();
                let left = leaf.validity().not_after.timestamp() - soon.timestamp();
                leaf.issuer().as_raw() == ca.subject().as_raw()
                    && leaf
                        .tbs_certificate
                        .extensions()
                        .iter()
                        .any(|e| authority_is(e, &ca))
                    && left > 30 * 86_400
            }
            _ => false,
        }
    }

    /// What `node` needs to speak to the server and to be spoken to.
    pub(crate) fn write_node(&self, name: &str, server: &str) -> Result<(), PkiError> {
        let dir = self.dir.join("nodes").join(name);
        make_dir(&dir)?;
        // The API server dials a node's address and asks for the node's name.
        let names = [name.to_owned()];
        let user = format!("system:node:{name}");
        let subject = Subject {
            name: &user,
            groups: &[crate::user::NODES],
            names: &names,
        };
        let credential = self.kept(&format!("nodes/{name}/kubelet"), &subject)?;
        write(&dir.join("ca.crt"), &self.ca)?;
        let config = self.kubeconfig(server, "node", &credential);
        write(&dir.join("kubeconfig"), &config)
    }

    /// A kubeconfig that carries everything in itself.
    pub(crate) fn kubeconfig(&self, server: &str, user: &str, credential: &Credential) -> String {
        let b64 = |text: &str| STANDARD.encode(text);
        serde_json::to_string_pretty(&serde_json::json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "atoll", "cluster": {
                "server": server, "certificate-authority-data": b64(&self.ca)}}],
            "users": [{"name": user, "user": {
                "client-certificate-data": b64(&credential.certificate),
                "client-key-data": b64(&credential.key)}}],
            "contexts": [{"name": "atoll", "context": {"cluster": "atoll", "user": user}}],
            "current-context": "atoll",
        }))
        .unwrap_or_default()
    }
}

/// The authority key identifier of a leaf is the CA's subject key identifier.
fn authority_is(
    extension: &x509_parser::extensions::X509Extension<'_>,
    ca: &x509_parser::certificate::X509Certificate<'_>,
) -> bool {
    use x509_parser::extensions::ParsedExtension;
    let ParsedExtension::AuthorityKeyIdentifier(authority) = extension.parsed_extension() else {
        return false;
    };
    ca.extensions().iter().any(|e| {
        matches!((e.parsed_extension(), &authority.key_identifier),
            (ParsedExtension::SubjectKeyIdentifier(a), Some(b)) if a == b)
    })
}

fn make_ca() -> Result<(String, String), PkiError> {
    let what = "the CA";
    let key = made(what, KeyPair::generate())?;
    let mut params = made(what, CertificateParams::new(Vec::new()))?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(
        DnType::CommonName,
        format!("atoll-ca-{}", uuid::Uuid::new_v4().simple()),
    );
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    let certificate = made(what, params.self_signed(&key))?;
    Ok((certificate.pem(), key.serialize_pem()))
}

fn io_error(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PkiError {
    let path = path.display().to_string();
    move |source| PkiError::Io {
        operation,
        path,
        source,
    }
}

pub(crate) fn make_dir(dir: &Path) -> Result<(), PkiError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(io_error("make", dir))
}

pub(crate) fn read(path: &Path) -> Result<Option<String>, PkiError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(io_error("read", path)(e)),
    }
}

/// The files in `dir` whose names end so, in order.
pub(crate) fn names(dir: &Path, end: &str) -> Result<Vec<String>, PkiError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(io_error("list", dir))? {
        let name = entry.map_err(io_error("list", dir))?.file_name();
        names.extend(name.into_string().ok().filter(|n| n.ends_with(end)));
    }
    names.sort();
    Ok(names)
}

/// Durable and whole, or not at all.
pub(crate) fn write(path: &Path, text: &str) -> Result<(), PkiError> {
    if read(path)?.as_deref() == Some(text) {
        return Ok(());
    }
    let mut next = path.as_os_str().to_owned();
    next.push(".new");
    let next = PathBuf::from(next);
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&next)
        .map_err(io_error("write", &next))?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(io_error("write", &next))?;
    fs::rename(&next, path).map_err(io_error("rename", path))?;
    if let Some(dir) = path.parent().filter(|d| !d.as_os_str().is_empty()) {
        fs::File::open(dir)
            .and_then(|d| d.sync_all())
            .map_err(io_error("sync", dir))?;
    }
    Ok(())
}
