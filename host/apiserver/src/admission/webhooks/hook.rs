//! One webhook as its configuration describes it.

use crate::admission::Operation;
use crate::admission::conditions::{Conditions, REQUEST};
use crate::admission::matching::{Criteria, texts};
use api::custom::conversion::{Target, ca};
use api::meta;
use serde_json::Value;
use std::time::Duration;

/// A webhook of either sort.
#[derive(Debug)]
pub(in crate::admission) struct Hook {
    pub(super) name: String,
    /// Tells it from all others: configuration, name.
    pub(super) key: String,
    pub(super) criteria: Criteria,
    pub(super) conditions: Conditions,
    /// `None`: the configuration names no target.
    pub(super) target: Option<Target>,
    pub(super) ca: Vec<u8>,
    pub(super) timeout: Duration,
    /// Whether a failed call lets the request pass.
    pub(super) ignores_failures: bool,
    /// Whether a dry run may ask it.
    pub(super) supports_dry_run: bool,
    pub(super) reinvoked: bool,
    /// Versions of AdmissionReview that it understands.
    pub(super) reviews: Vec<String>,
}

impl Hook {
    fn parse(of: &Value, configuration: &str) -> Hook {
        let text = |key: &str| meta::text(of, &[key]);
        let seconds = meta::int(of, &["timeoutSeconds"]).and_then(|s| u64::try_from(s).ok());
        let name = text("name").to_owned();
        Hook {
            key: format!("{configuration}/{name}"),
            criteria: Criteria::of_webhook(of),
            conditions: Conditions::parse(of, REQUEST),
            target: Target::parse(&of["clientConfig"]),
            ca: ca(&of["clientConfig"]),
            timeout: Duration::from_secs(seconds.unwrap_or(10)),
            ignores_failures: text("failurePolicy") == "Ignore",
            supports_dry_run: matches!(text("sideEffects"), "None" | "NoneOnDryRun"),
            reinvoked: text("reinvocationPolicy") == "IfNeeded",
            reviews: texts(of, "admissionReviewVersions"),
            name,
        }
    }

    pub(in crate::admission) fn takes(&self, operation: Operation) -> bool {
        self.criteria.takes(operation)
    }

    /// The webhooks of a configuration, in its order.
    pub(in crate::admission) fn parse_all(configuration: &Value) -> Vec<Hook> {
        let name = meta::name(configuration);
        let listed = meta::list(configuration, &["webhooks"]).iter();
        listed.map(|of| Hook::parse(of, name)).collect()
    }
}
