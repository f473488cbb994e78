//! A CA of the harness's own, an administrator of it, and the kubeconfig.

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use serde_json::json;

/// PEM, all of it.
pub struct Credentials {
    pub ca_certificate: String,
    pub ca_key: String,
    pub admin_certificate: String,
    pub admin_key: String,
}

impl Credentials {
    /// Made anew: `O=system:masters, CN=lab-admin`.
    pub fn generate() -> Result<Self> {
        let ca_key = KeyPair::generate()?;
        let mut ca = CertificateParams::default();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        ca.distinguished_name.push(DnType::CommonName, "atoll-lab");
        let ca_certificate = ca.self_signed(&ca_key)?.pem();
        let ca_pem = ca_key.serialize_pem();
        let issuer = Issuer::new(ca, ca_key);
        let admin_key = KeyPair::generate()?;
        let mut admin = CertificateParams::default();
        admin.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let name = &mut admin.distinguished_name;
        name.push(DnType::OrganizationName, "system:masters");
        name.push(DnType::CommonName, "lab-admin");
        let admin_certificate = admin.signed_by(&admin_key, &issuer)?.pem();
        Ok(Self {
            ca_certificate,
            ca_key: ca_pem,
            admin_certificate,
            admin_key: admin_key.serialize_pem(),
        })
    }

    /// A kubeconfig for `https://127.0.0.1:port`.
    pub fn kubeconfig(&self, port: u16) -> Result<String> {
        let document = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "atoll",
            "clusters": [{ "name": "atoll", "cluster": {
                "server": format!("https://127.0.0.1:{port}"),
                "certificate-authority-data": base64(&self.ca_certificate),
            }}],
            "users": [{ "name": "admin", "user": {
                "client-certificate-data": base64(&self.admin_certificate),
                "client-key-data": base64(&self.admin_key),
            }}],
            "contexts": [{ "name": "atoll", "context": { "cluster": "atoll", "user": "admin" }}],
        });
        Ok(serde_yaml::to_string(&document)?)
    }
}

fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}
