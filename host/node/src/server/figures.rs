//! What the node and its pods use, as a client wants it shown.

use super::routes::{Body, Refusal, typed};
use crate::metrics::{Extent, MEDIA_TYPE, Metrics, cadvisor, own, resource, summary};
use http::{Response, StatusCode};

/// Which of the kubelet's paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// `/metrics`
    Own,
    Cadvisor,
    Resource,
    /// `/stats/summary`
    Summary,
}

pub(super) async fn answer(
    metrics: &Metrics,
    form: Form,
    query: &[(String, String)],
) -> Result<Response<Body>, Refusal> {
    let sample = metrics.sample().await;
    let sample = sample.as_deref();
    let text = match form {
        Form::Own => own::text(sample),
        Form::Cadvisor => cadvisor::text(sample),
        Form::Resource => resource::text(sample),
        Form::Summary => {
            let none = || Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "no figures");
            let sample = sample.ok_or_else(none)?;
            let document = summary::document(sample, extent(query));
            return Ok(typed("application/json", document.to_string()));
        }
    };
    Ok(typed(MEDIA_TYPE, text))
}

/// Only this very word asks for less, as upstream has it.
fn extent(query: &[(String, String)]) -> Extent {
    let mut asked = query
        .iter()
        .filter(|(name, _)| name == "only_cpu_and_memory");
    match (asked.next(), asked.next()) {
        (Some((_, value)), None) if value == "true" => Extent::CpuAndMemory,
        _ => Extent::All,
    }
}
