//! admissionregistration.k8s.io: webhooks and policies that judge or change
//! requests. Expressions are run where requests are admitted; here they are
//! only compiled.

mod expression;
mod policy;
mod policy_binding;
mod rule;
mod webhook;
mod webhook_client;

pub(super) use policy::{MUTATING_POLICY, VALIDATING_POLICY};
pub(super) use policy_binding::{MUTATING_BINDING, VALIDATING_BINDING};
pub(super) use webhook::{MUTATING_WEBHOOKS, VALIDATING_WEBHOOKS};

const GROUP: &str = "admissionregistration.k8s.io";

const FAILURE_POLICIES: &[&str] = &["Fail", "Ignore"];
const REINVOCATION_POLICIES: &[&str] = &["IfNeeded", "Never"];

#[cfg(test)]
mod tests;
