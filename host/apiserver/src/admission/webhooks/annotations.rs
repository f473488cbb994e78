//! What a webhook's call leaves in the audit log.

use super::hook::Hook;
use super::review::Verdict;
use crate::audit::{Level, Trail};
use serde_json::{Value, json};

pub(super) struct Annotator<'a> {
    trail: &'a Trail,
    hook: &'a Hook,
    /// `round_R_index_I`: which time, which of all webhooks.
    call: String,
}

impl<'a> Annotator<'a> {
    pub(super) fn new(
        trail: &'a Trail,
        hook: &'a Hook,
        (round, index): (usize, usize),
    ) -> Annotator<'a> {
        Annotator {
            trail,
            hook,
            call: format!("round_{round}_index_{index}"),
        }
    }

    fn configuration(&self) -> &str {
        self.hook.key.split('/').next().unwrap_or_default()
    }

    /// What the webhook itself says.
    pub(super) fn answered(&self, verdict: &Verdict) {
        for (key, value) in &verdict.annotations {
            let key = format!("{}/{key}", self.hook.name);
            self.trail.annotate(Level::Metadata, &key, value);
        }
    }

    pub(super) fn mutated(&self, mutated: bool) {
        let key = format!("mutation.webhook.admission.k8s.io/{}", self.call);
        let value = json!({"configuration": self.configuration(), "webhook": self.hook.name,
            "mutated": mutated});
        self.trail
            .annotate(Level::Metadata, &key, &value.to_string());
    }

    /// It was obeyed; the patch shows what is in the object.
    pub(super) fn patched(&self, verdict: &Verdict) {
        let patch: Value = serde_json::from_slice(&verdict.patch).unwrap_or_default();
        let key = format!("patch.webhook.admission.k8s.io/{}", self.call);
        let value = json!({"configuration": self.configuration(), "webhook": self.hook.name,
            "patch": patch, "patchType": verdict.patch_type});
        self.trail
            .annotate(Level::Request, &key, &value.to_string());
    }

    /// It failed, and the request passed.
    pub(super) fn failed_open(&self, sort: &str) {
        let key = format!("failed-open.{sort}.webhook.admission.k8s.io/{}", self.call);
        self.trail.annotate(Level::Metadata, &key, &self.hook.name);
    }
}
