//! Allow-lists of system calls for threads; what is not listed kills the process.

use seccompiler::{
    SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch,
};
use std::collections::BTreeMap;
use std::io;

pub use nix::libc as numbers;

/// A condition on one argument.
#[derive(Clone, Copy, Debug)]
pub enum Arg {
    /// The low 32 bits of the argument are this.
    Is(u8, u32),
    /// None of these bits is set.
    Without(u8, u32),
}

/// One allowed call. Several entries of the same number are alternatives.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    pub number: i64,
    /// All must hold.
    pub when: &'static [Arg],
    pub reason: &'static str,
}

/// Allows a call with whatever arguments.
#[must_use]
pub const fn call(number: i64, reason: &'static str) -> Call {
    Call {
        number,
        when: &[],
        reason,
    }
}

/// Allows a call under conditions.
#[must_use]
pub const fn call_when(number: i64, when: &'static [Arg], reason: &'static str) -> Call {
    Call {
        number,
        when,
        reason,
    }
}

/// Confines the calling thread, and those that it starts, to the lists.
///
/// # Errors
/// EINVAL for a list that can't be compiled, else as `seccomp(2)`.
pub fn confine(lists: &[&[Call]]) -> io::Result<()> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    let mut free = Vec::new();
    for entry in lists.iter().copied().flatten() {
        let alternatives = rules.entry(entry.number).or_default();
        if entry.when.is_empty() {
            free.push(entry.number);
            continue;
        }
        let conditions = entry
            .when
            .iter()
            .map(condition)
            .collect::<Result<Vec<_>, _>>()
            .map_err(invalid)?;
        alternatives.push(SeccompRule::new(conditions).map_err(invalid)?);
    }
    for number in free {
        rules.insert(number, Vec::new());
    }
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::KillProcess,
        SeccompAction::Allow,
        TargetArch::x86_64,
    )
    .map_err(invalid)?;
    let program: seccompiler::BpfProgram = filter.try_into().map_err(invalid)?;
    seccompiler::apply_filter(&program).map_err(invalid)
}

fn condition(arg: &Arg) -> Result<SeccompCondition, seccompiler::BackendError> {
    let (index, operator, value) = match *arg {
        Arg::Is(index, value) => (index, SeccompCmpOp::Eq, value),
        Arg::Without(index, bits) => (index, SeccompCmpOp::MaskedEq(u64::from(bits)), 0),
    };
    SeccompCondition::new(index, SeccompCmpArgLen::Dword, operator, u64::from(value))
}

fn invalid(error: impl std::error::Error + Send + Sync + 'static) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, error)
}
