//! CertificateSigningRequests: kubelets' own are approved, approved ones get
//! their certificate, old ones go. As upstream's `csrapproving`, `csrsigning`
//! and `csrcleaner`, which write no events either.
//!
//! ```text
//! made --approve--> Approved --sign--> Issued --clean--> gone
//!   |    by rights   |  signer's rules: Failed    an hour after
//!   \-> Denied: by somebody; gone after an hour; pending ones after a day
//! ```
//! Requests for signers that aren't built in are left to whoever signs them.

mod authority;
mod clean;
mod der;
mod signers;

pub use authority::{Authority, AuthorityError};

use api::kinds::SigningRequest;
use authority::Usage;
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest, CertificateSigningRequestCondition,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use reconcile::{
    Backoff, Cache, Client, ClientError, ObjectKey, Queue, Reflector, Requeue, Resource, Write,
    work,
};
use serde_json::json;
use signers::Signer;
use std::time::Duration;

pub(crate) const REQUESTS: Resource =
    Resource::cluster("certificates.k8s.io", "v1", "certificatesigningrequests");
const REVIEWS: Resource = Resource::cluster("authorization.k8s.io", "v1", "subjectaccessreviews");
const CAPACITY: usize = 100_000;
const BACKOFF: Backoff = Backoff {
    base: Duration::from_millis(200),
    max: Duration::from_secs(1000),
};
/// After which a request is looked at again whose maker lacked the right, or
/// which the CA couldn't sign.
const AGAIN: Duration = Duration::from_secs(60);
const SWEEP: Duration = Duration::from_secs(3600);
/// How long certificates live: upstream's `--cluster-signing-duration`.
const LONGEST: Duration = Duration::from_secs(365 * 86_400);
const SHORTEST: Duration = Duration::from_secs(600);

const APPROVED: &str = "Approved";
const DENIED: &str = "Denied";
const FAILED: &str = "Failed";

/// The rights that have a kubelet's request approved: subresources of requests
/// that its maker may create, and what the approval says.
const SELF: (&str, &str) = (
    "selfnodeclient",
    "Auto approving self kubelet client certificate after SubjectAccessReview.",
);
const ANY: (&str, &str) = (
    "nodeclient",
    "Auto approving kubelet client certificate after SubjectAccessReview.",
);

pub(crate) struct Certificates {
    client: Client,
    requests: Cache<CertificateSigningRequest>,
    /// `None`: nothing is signed.
    authority: Option<Authority>,
    queue: Queue<ObjectKey>,
}

impl Certificates {
    pub(crate) fn new(
        client: Client,
        authority: Option<Authority>,
        requests: &Cache<CertificateSigningRequest>,
    ) -> Certificates {
        Certificates {
            client,
            requests: requests.clone(),
            authority,
            queue: Queue::new(CAPACITY, BACKOFF),
        }
    }

    pub(crate) fn feed(
        &self,
        requests: Reflector<CertificateSigningRequest>,
    ) -> Reflector<CertificateSigningRequest> {
        let queue = self.queue.clone();
        requests.on_change(move |change| queue.add(change.key.clone()))
    }

    pub(crate) async fn run(&self) {
        self.requests.synced().await;
        let working = work("certificates", &self.queue, 1, |key| self.reconcile(key));
        tokio::join!(working, self.sweep());
    }

    async fn reconcile(&self, key: ObjectKey) -> Result<Requeue, ClientError> {
        let Some(csr) = self.requests.get(&key) else {
            return Ok(Requeue::Never);
        };
        let rights = approvable(&csr);
        for (right, message) in &rights {
            if self.may(&csr, right).await? {
                self.write(&approval(&csr, message)).await?;
                return Ok(Requeue::Never);
            }
        }
        let Some(authority) = &self.authority else {
            return Ok(Requeue::Never);
        };
        let serial = uuid::Uuid::new_v4().into_bytes();
        match settle(&csr, authority, serial, Timestamp::now()) {
            Ok(None) if rights.is_empty() => Ok(Requeue::Never),
            // The right may come.
            Ok(None) => Ok(Requeue::After(AGAIN)),
            Ok(Some(write)) => self.write(&write).await.map(|()| Requeue::Never),
            Err(error) => {
                log::warn!("certificate signing request {key}: {error}");
                Ok(Requeue::After(AGAIN))
            }
        }
    }

    /// What is gone needs nothing any more.
    async fn write(&self, write: &Write) -> Result<(), ClientError> {
        match self.client.write(write).await {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }

    async fn may(&self, csr: &CertificateSigningRequest, right: &str) -> Result<bool, ClientError> {
        let spec = &csr.spec;
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {
                "user": spec.username, "uid": spec.uid, "groups": spec.groups, "extra": spec.extra,
                "resourceAttributes": {"group": "certificates.k8s.io", "verb": "create",
                    "resource": "certificatesigningrequests", "subresource": right},
            },
        });
        let answer = self.client.create(&REVIEWS, None, &review).await?;
        Ok(answer["status"]["allowed"] == true)
    }

    async fn sweep(&self) {
        loop {
            let all = self.requests.list();
            for write in clean::plan(all.iter().map(|r| &**r), Timestamp::now()) {
                if let Err(error) = self.write(&write).await
                    && !error.is_conflict()
                {
                    log::warn!("old certificate signing requests: {error}");
                    break;
                }
            }
            tokio::time::sleep(SWEEP).await;
        }
    }
}

fn condition<'a>(
    csr: &'a CertificateSigningRequest,
    kind: &str,
) -> Option<&'a CertificateSigningRequestCondition> {
    let conditions = csr.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|c| c.type_ == kind)
}

/// The PEM text that was issued.
fn issued(csr: &CertificateSigningRequest) -> Option<&[u8]> {
    let certificate = csr.status.as_ref()?.certificate.as_ref()?;
    (!certificate.0.is_empty()).then_some(certificate.0.as_slice())
}

fn parsed(csr: &CertificateSigningRequest) -> Option<SigningRequest> {
    // The server has checked it.
    SigningRequest::parse(std::str::from_utf8(&csr.spec.request.0).ok()?).ok()
}

fn usages(csr: &CertificateSigningRequest) -> &[String] {
    csr.spec.usages.as_deref().unwrap_or_default()
}

/// Which rights, in this order, would have it approved; none, if it isn't a
/// kubelet's for a client certificate or is decided.
fn approvable(csr: &CertificateSigningRequest) -> Vec<(&'static str, &'static str)> {
    let decided = [APPROVED, DENIED]
        .iter()
        .any(|c| condition(csr, c).is_some());
    let signer = Signer::named(&csr.spec.signer_name);
    if decided || issued(csr).is_some() || signer != Some(Signer::KubeletClient) {
        return Vec::new();
    }
    let Some(request) = parsed(csr) else {
        return Vec::new();
    };
    if Signer::KubeletClient.judge(&request, usages(csr)).is_err() {
        return Vec::new();
    }
    match csr.spec.username.as_deref() == Some(request.common_name.as_str()) {
        true => vec![SELF, ANY],
        false => vec![ANY],
    }
}

fn with_condition(
    csr: &CertificateSigningRequest,
    kind: &str,
    reason: &str,
    message: &str,
    now: Option<Timestamp>,
) -> CertificateSigningRequest {
    let mut csr = csr.clone();
    let status = csr.status.get_or_insert_default();
    let conditions = status.conditions.get_or_insert_default();
    conditions.push(CertificateSigningRequestCondition {
        type_: kind.to_owned(),
        status: "True".to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_update_time: now.map(Time),
        last_transition_time: None,
    });
    csr
}

fn approval(csr: &CertificateSigningRequest, message: &str) -> Write {
    Write::UpdateSubresource {
        resource: REQUESTS,
        namespace: None,
        subresource: "approval",
        object: json!(with_condition(csr, APPROVED, "AutoApproved", message, None)),
    }
}

/// The write that issues an approved request's certificate or says why not.
fn settle(
    csr: &CertificateSigningRequest,
    authority: &Authority,
    serial: [u8; 16],
    now: Timestamp,
) -> Result<Option<Write>, AuthorityError> {
    let open = condition(csr, APPROVED).is_some()
        && condition(csr, DENIED).is_none()
        && condition(csr, FAILED).is_none()
        && issued(csr).is_none();
    let (true, Some(signer)) = (open, Signer::named(&csr.spec.signer_name)) else {
        return Ok(None);
    };
    let Some(request) = parsed(csr) else {
        return Ok(None);
    };
    let object = match signer.judge(&request, usages(csr)) {
        Err(why) => with_condition(csr, FAILED, "SignerValidationFailure", &why, Some(now)),
        Ok(usages) => issue(csr, authority, (&request, &usages), serial, now)?,
    };
    Ok(Some(Write::UpdateStatus {
        resource: REQUESTS,
        namespace: None,
        object: json!(object),
    }))
}

fn issue(
    csr: &CertificateSigningRequest,
    authority: &Authority,
    (request, usages): (&SigningRequest, &[Usage]),
    serial: [u8; 16],
    now: Timestamp,
) -> Result<CertificateSigningRequest, AuthorityError> {
    let life = life(csr.spec.expiration_seconds);
    let pem = authority.sign(request, usages, life, serial, now)?;
    let mut csr = csr.clone();
    let status = csr.status.get_or_insert_default();
    status.certificate = Some(ByteString(pem.into_bytes()));
    Ok(csr)
}

/// What is asked for, within bounds.
fn life(seconds: Option<i32>) -> Duration {
    match seconds {
        None => LONGEST,
        Some(asked) => {
            Duration::from_secs(u64::try_from(asked).unwrap_or(0)).clamp(SHORTEST, LONGEST)
        }
    }
}

#[cfg(test)]
mod tests;
