//! Refusals, with the operation and its operand in the message.

use guest_protocol::{Refusal, RefusalKind};
use std::fmt::Display;
use std::io;

pub(crate) fn refuse(kind: RefusalKind, message: impl Into<String>) -> Refusal {
    Refusal {
        kind,
        message: message.into(),
    }
}

pub(crate) fn invalid(message: impl Into<String>) -> Refusal {
    refuse(RefusalKind::Invalid, message)
}

/// A system call failed: `what`, a colon, and the error as Go prints it.
pub(crate) fn failed<E: Into<io::Error>>(what: impl Display) -> impl FnOnce(E) -> Refusal {
    move |error| {
        let error = error.into();
        refuse(RefusalKind::Failed, format!("{what}: {}", text(&error)))
    }
}

/// The kernel's text without number and capital, as users know it from runc.
pub(crate) fn text(error: &io::Error) -> String {
    let full = error.to_string();
    let short = full.split(" (os error").next().unwrap_or(&full);
    let mut characters = short.chars();
    characters
        .next()
        .map(|first| first.to_lowercase().chain(characters).collect())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_read_like_runc_s() {
        let error = io::Error::from_raw_os_error(2);
        assert_eq!(text(&error), "no such file or directory");
        assert_eq!(
            failed("open /x")(error).message,
            "open /x: no such file or directory"
        );
    }
}
