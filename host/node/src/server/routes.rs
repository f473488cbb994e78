//! From a request to who answers it.

use super::auth::Client;
use super::gate::Gate;
use super::{command, figures, forward, logs};
use crate::logs::{decoded, parameters};
use crate::metrics::Metrics;
use crate::pod::view::View;
use crate::roster::Directory;
use crate::worker::Shown;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use serde_json::json;
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;

pub(super) type Body = BoxBody<Bytes, Infallible>;

/// An answer that ends a request, in plain text as the kubelet gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) message: String,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
        }
    }

    pub(super) fn response(self) -> Response<Body> {
        text(self.status, self.message)
    }
}

/// Everything behind the surface.
#[derive(Clone)]
pub(crate) struct Surface {
    pub(crate) directory: Directory,
    pub(crate) data: PathBuf,
    pub(crate) metrics: Metrics,
    pub(crate) gate: Arc<Gate>,
}

/// What a path asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Route {
    Healthz,
    Pods,
    Figures(figures::Form),
    Logs(Target),
    Exec(Target),
    Attach(Target),
    PortForward { namespace: String, pod: String },
}

/// One container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) namespace: String,
    pub(super) pod: String,
    pub(super) container: String,
}

impl Surface {
    /// Answers one request; `client` is who a verified certificate names.
    pub(crate) async fn answer<B>(
        &self,
        request: Request<B>,
        client: Option<&Client>,
    ) -> Response<Body> {
        let (method, path) = (request.method(), request.uri().path());
        let admitted = self.gate.admit(client, request.headers(), method, path);
        let client = match admitted.await {
            Ok(client) => client,
            Err(refusal) => return refusal.response(),
        };
        log::debug!(
            "{} {} by {}",
            request.method(),
            request.uri().path(),
            client.user
        );
        let answered = match route(request.method(), request.uri().path()) {
            Ok(route) => self.serve(route, request).await,
            Err(refusal) => Err(refusal),
        };
        answered.unwrap_or_else(Refusal::response)
    }

    async fn serve<B>(&self, route: Route, request: Request<B>) -> Result<Response<Body>, Refusal> {
        let query: Vec<(String, String)> =
            parameters(request.uri().query().unwrap_or_default()).collect();
        match route {
            Route::Healthz => Ok(text(StatusCode::OK, "ok".to_owned())),
            Route::Pods => Ok(self.pods()),
            Route::Figures(form) => figures::answer(&self.metrics, form, &query).await,
            Route::Logs(target) => {
                let query = request.uri().query().unwrap_or_default();
                let shown = self.shown(&target.namespace, &target.pod)?;
                logs::answer(&self.data, &shown, &target, query)
            }
            Route::Exec(target) => {
                let shown = self.shown(&target.namespace, &target.pod)?;
                command::exec(&shown, &target, &query, request)
            }
            Route::Attach(target) => {
                let shown = self.shown(&target.namespace, &target.pod)?;
                command::attach(&shown, &target, &query, request)
            }
            Route::PortForward { namespace, pod } => {
                let shown = self.shown(&namespace, &pod)?;
                forward::answer(&shown, &query, request)
            }
        }
    }

    fn shown(&self, namespace: &str, pod: &str) -> Result<Shown, Refusal> {
        self.directory.get(namespace, pod).ok_or_else(|| {
            Refusal::new(
                StatusCode::NOT_FOUND,
                format!("pod \"{pod}\" does not exist"),
            )
        })
    }

    fn pods(&self) -> Response<Body> {
        let mut shown = self.directory.all();
        shown.sort_by_key(|one| View(&one.pod).label());
        let items: Vec<_> = shown
            .iter()
            .map(|one| {
                let mut pod = one.pod.as_api().clone();
                pod.status = Some((*one.status).clone());
                pod
            })
            .collect();
        let list = json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items});
        typed("application/json", list.to_string())
    }
}

fn route(method: &Method, path: &str) -> Result<Route, Refusal> {
    let parts: Vec<String> = path.trim_matches('/').split('/').map(decoded).collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let target = |namespace: &str, pod: &str, container: &str| Target {
        namespace: namespace.to_owned(),
        pod: pod.to_owned(),
        container: container.to_owned(),
    };
    let route = match parts[..] {
        ["healthz"] => Route::Healthz,
        ["pods"] => Route::Pods,
        ["metrics"] => Route::Figures(figures::Form::Own),
        ["metrics", "cadvisor"] => Route::Figures(figures::Form::Cadvisor),
        ["metrics", "resource"] => Route::Figures(figures::Form::Resource),
        ["stats", "summary"] => Route::Figures(figures::Form::Summary),
        ["containerLogs", namespace, pod, container] => {
            Route::Logs(target(namespace, pod, container))
        }
        ["exec", namespace, pod, container] => Route::Exec(target(namespace, pod, container)),
        ["exec", namespace, pod, _, container] => Route::Exec(target(namespace, pod, container)),
        ["attach", namespace, pod, container] => Route::Attach(target(namespace, pod, container)),
        ["attach", namespace, pod, _, container] => {
            Route::Attach(target(namespace, pod, container))
        }
        ["portForward", namespace, pod] | ["portForward", namespace, pod, _] => {
            Route::PortForward {
                namespace: namespace.to_owned(),
                pod: pod.to_owned(),
            }
        }
        _ => return Err(Refusal::new(StatusCode::NOT_FOUND, "404 page not found")),
    };
    let streams = matches!(
        route,
        Route::Exec(_) | Route::Attach(_) | Route::PortForward { .. }
    );
    if *method == Method::GET || (streams && *method == Method::POST) {
        return Ok(route);
    }
    Err(Refusal::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "405: Method Not Allowed",
    ))
}

pub(super) fn text(status: StatusCode, text: String) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from(text)).boxed());
    *response.status_mut() = status;
    let plain = header::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}

pub(super) fn typed(media: &'static str, content: String) -> Response<Body> {
    let mut response = text(StatusCode::OK, content);
    let media = header::HeaderValue::from_static(media);
    response.headers_mut().insert(header::CONTENT_TYPE, media);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_the_kubelets() {
        let target = Target {
            namespace: "ns".to_owned(),
            pod: "p".to_owned(),
            container: "c".to_owned(),
        };
        for (method, path, found) in [
            (Method::GET, "/healthz", Ok(Route::Healthz)),
            (
                Method::GET,
                "/containerLogs/ns/p/c",
                Ok(Route::Logs(target.clone())),
            ),
            (
                Method::POST,
                "/exec/ns/p/c",
                Ok(Route::Exec(target.clone())),
            ),
            (
                Method::GET,
                "/attach/ns/p/uid/c",
                Ok(Route::Attach(target.clone())),
            ),
            (
                Method::GET,
                "/metrics/resource",
                Ok(Route::Figures(figures::Form::Resource)),
            ),
            (
                Method::GET,
                "/stats/summary",
                Ok(Route::Figures(figures::Form::Summary)),
            ),
            (Method::POST, "/metrics", Err(405)),
            (Method::GET, "/metrics/other", Err(404)),
            (Method::POST, "/containerLogs/ns/p/c", Err(405)),
            (Method::GET, "/run/ns/p/c", Err(404)),
            (Method::GET, "/containerLogs/ns/p/c/d", Err(404)),
            (Method::GET, "/", Err(404)),
        ] {
            let got = route(&method, path).map_err(|refusal| refusal.status.as_u16());
            assert_eq!(got, found, "{path}");
        }
    }
}
