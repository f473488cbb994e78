//! Events about objects, in the form that upstream's newer recorders write:
//! `eventTime` and `reportingComponent` set, the older fields empty.

use api::time::rfc3339_micro;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use reconcile::Write;
use reconcile::resource::core::EVENTS;
use serde_json::json;

/// Who reports.
#[derive(Clone, Debug)]
pub(crate) struct Reporter {
    pub(crate) component: &'static str,
    pub(crate) instance: String,
}

pub(crate) struct Report<'a> {
    pub(crate) api_version: &'a str,
    pub(crate) kind: &'a str,
    pub(crate) object: &'a ObjectMeta,
    pub(crate) warning: bool,
    pub(crate) reason: &'static str,
    pub(crate) action: &'static str,
    pub(crate) message: &'a str,
}

/// Upstream's limit for `message`.
const MESSAGE: usize = 1024;

impl Reporter {
    pub(crate) fn event(&self, report: &Report<'_>, now: Timestamp) -> Write {
        let meta = report.object;
        let name = meta.name.as_deref().unwrap_or_default();
        // Events about cluster-wide objects live there.
        let namespace = meta
            .namespace
            .clone()
            .unwrap_or_else(|| "default".to_owned());
        let mut message = report.message;
        if message.len() > MESSAGE {
            message = &message[..message.floor_char_boundary(MESSAGE)];
        }
        let object = json!({
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {
                "name": format!("{name}.{:x}", now.as_nanosecond()),
                "namespace": namespace,
            },
            "involvedObject": {
                "apiVersion": report.api_version,
                "kind": report.kind,
                "namespace": meta.namespace,
                "name": name,
                "uid": meta.uid,
                "resourceVersion": meta.resource_version,
            },
            "type": if report.warning { "Warning" } else { "Normal" },
            "reason": report.reason,
            "action": report.action,
            "message": message,
            "eventTime": rfc3339_micro(now),
            "reportingComponent": self.component,
            "reportingInstance": format!("{}-{}", self.component, self.instance),
            "source": {},
        });
        Write::Create {
            resource: EVENTS,
            namespace: Some(namespace),
            object,
        }
    }
}
