//! Why an image isn't there, in the words that users of containerd know.
//!
//! [`PullError`] prints as the text of a Kubernetes event; [`Kind`] is what
//! `node` decides by. [`Failure`] is what the steps of a pull return; the
//! pull adds the reference and the step.

use std::fmt;
use std::io;
use std::sync::Arc;

use crate::reference::Reference;

/// The families of causes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The registry answers, but has no such image.
    NotFound,
    /// Credentials are missing, wrong or don't suffice.
    Unauthorized,
    /// The registry isn't reached, too slow, or in trouble itself.
    Unavailable,
    /// Bytes don't have the digest that they were asked by.
    Digest,
    /// The image breaks a specification or a limit.
    Invalid,
    /// No room on DATA.
    DiskFull,
    /// This host failed otherwise.
    Host,
    /// The policy is `Never` and the image isn't there.
    NotPresent,
}

impl Kind {
    /// The gRPC code that a container runtime reports for it.
    pub fn grpc_code(self) -> &'static str {
        match self {
            Kind::NotFound => "NotFound",
            Kind::Unauthorized | Kind::Unavailable | Kind::Host => "Unknown",
            Kind::Digest | Kind::Invalid => "FailedPrecondition",
            Kind::DiskFull => "ResourceExhausted",
            Kind::NotPresent => "NotFound",
        }
    }
}

/// One step's failure.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    pub kind: Kind,
    pub message: String,
}

impl Failure {
    pub fn new(kind: Kind, message: impl fmt::Display) -> Failure {
        let message = message.to_string();
        Failure { kind, message }
    }

    pub fn invalid(message: impl fmt::Display) -> Failure {
        Failure::new(Kind::Invalid, message)
    }

    pub fn unavailable(message: impl fmt::Display) -> Failure {
        Failure::new(Kind::Unavailable, message)
    }

    /// A failed operation on a file of the image directory.
    pub fn io(what: impl fmt::Display, error: &io::Error) -> Failure {
        let kind = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Kind::DiskFull,
            _ => Kind::Host,
        };
        Failure::new(kind, format!("{what}: {error}"))
    }
}

/// Where in a pull it happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// From a name to a digest.
    Resolve,
    /// Manifests, configuration, layers.
    Fetch,
    /// Layers to EROFS.
    Unpack,
    /// Making it findable.
    Record,
    /// Looking only.
    Lookup,
}

/// A failed [`ensure`](crate::Images::ensure); cheap to clone, because all
/// who wait for one pull get it.
#[derive(Clone, Debug)]
pub struct PullError(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    reference: Reference,
    step: Step,
    failure: Failure,
}

impl PullError {
    pub fn new(reference: &Reference, step: Step, failure: Failure) -> PullError {
        PullError(Arc::new(Inner {
            reference: reference.clone(),
            step,
            failure,
        }))
    }

    pub fn kind(&self) -> Kind {
        self.0.failure.kind
    }

    pub fn step(&self) -> Step {
        self.0.step
    }

    /// True if trying again later can help without anybody changing
    /// anything.
    pub fn is_transient(&self) -> bool {
        matches!(self.kind(), Kind::Unavailable | Kind::DiskFull | Kind::Host)
    }
}

impl fmt::Display for PullError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner {
            reference,
            step,
            failure,
        } = &*self.0;
        match step {
            Step::Lookup => {
                return write!(
                    f,
                    "image {reference:?}: {failure}",
                    reference = reference.to_string()
                );
            }
            Step::Resolve => write!(
                f,
                "failed to pull and unpack image \"{reference}\": failed to resolve reference \"{reference}\": "
            )?,
            Step::Fetch | Step::Record => {
                write!(f, "failed to pull and unpack image \"{reference}\": ")?;
            }
            Step::Unpack => write!(
                f,
                "failed to pull and unpack image \"{reference}\": failed to extract layers: "
            )?,
        }
        write!(f, "{failure}")
    }
}

impl std::error::Error for PullError {}
