//! What can go wrong with the kernel's network.

/// An operation on the host's network that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("netlink: {operation}: {source}")]
    Netlink {
        operation: &'static str,
        source: rtnetlink::Error,
    },
    #[error("{operation}: {source}")]
    Io {
        operation: String,
        source: std::io::Error,
    },
}

impl Error {
    pub(crate) fn io(operation: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let operation = operation.into();
        move |source| Self::Io { operation, source }
    }

    pub(crate) fn netlink(operation: &'static str) -> impl FnOnce(rtnetlink::Error) -> Self {
        move |source| Self::Netlink { operation, source }
    }
}
