//! `authorizer`: what somebody may do, as expressions ask it
//! (`cel/library/authz.go`).
//!
//! ```text
//! Authorizer --path--> PathCheck --check--> Decision -> allowed, reason, errored, error
//!     |  \--serviceAccount--> Authorizer       ^
//!     \--group--> GroupCheck --resource--> ResourceCheck, which subresource,
//!                           namespace, name and the selectors narrow
//! ```
//! Who decides is an [`Authority`] that the caller brings along. A check is dear:
//! the budget of one expression has room for two.

use crate::budget;
use kube_cel::cel::extractors::{Arguments, This};
use kube_cel::cel::objects::{Opaque, Value};
use kube_cel::cel::{Context, ExecutionError, ResolveResult};
use std::fmt;
use std::sync::Arc;

/// The variable that asks about the request's own resource. It has a dot in
/// its name, as upstream's has.
pub const REQUEST_RESOURCE: &str = "authorizer.requestResource";
pub const AUTHORIZER: &str = "authorizer";

/// The types, by the names that upstream gives them.
pub(crate) mod types {
    pub(crate) const AUTHORIZER: &str = "kubernetes.authorization.Authorizer";
    pub(crate) const PATH: &str = "kubernetes.authorization.PathCheck";
    pub(crate) const GROUP: &str = "kubernetes.authorization.GroupCheck";
    pub(crate) const RESOURCE: &str = "kubernetes.authorization.ResourceCheck";
    pub(crate) const DECISION: &str = "kubernetes.authorization.Decision";
}

/// Steps of a check, so that an expression can do two.
const CHECK_STEPS: u64 = 350_000;

/// A question: a verb on a path, or on a resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Question {
    /// Namespace and name of the service account that is asked about; `None`:
    /// who sent the request.
    pub account: Option<(String, String)>,
    pub verb: String,
    /// Of a request on no resource; then the rest is empty.
    pub path: Option<String>,
    pub group: String,
    pub resource: String,
    pub subresource: String,
    pub namespace: String,
    pub name: String,
    /// Texts of selectors, as they were written.
    pub field_selector: String,
    pub label_selector: String,
}

/// What came of a question.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    pub allowed: bool,
    pub reason: String,
    /// Why there is no proper decision.
    pub error: Option<String>,
}

/// Who decides.
pub trait Authority: Send + Sync {
    fn decide(&self, question: &Question) -> Verdict;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Authorizer,
    Path,
    Group,
    Resource,
}

/// A question that is still being put together.
#[derive(Clone)]
struct Asking {
    stage: Stage,
    question: Question,
    authority: Arc<dyn Authority>,
}

impl fmt::Debug for Asking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.runtime_type_name())
    }
}

impl PartialEq for Asking {
    fn eq(&self, other: &Asking) -> bool {
        self.stage == other.stage && self.question == other.question
    }
}

impl Eq for Asking {}

impl Opaque for Asking {
    fn runtime_type_name(&self) -> &str {
        match self.stage {
            Stage::Authorizer => types::AUTHORIZER,
            Stage::Path => types::PATH,
            Stage::Group => types::GROUP,
            Stage::Resource => types::RESOURCE,
        }
    }
}

impl Opaque for Verdict {
    fn runtime_type_name(&self) -> &str {
        types::DECISION
    }
}

/// The variable `authorizer`.
pub fn authorizer(authority: Arc<dyn Authority>) -> Value {
    asking(Stage::Authorizer, Question::default(), authority)
}

/// The variable `authorizer.requestResource`; of the question all but the verb
/// counts.
pub fn request_resource(authority: Arc<dyn Authority>, question: Question) -> Value {
    asking(Stage::Resource, question, authority)
}

fn asking(stage: Stage, question: Question, authority: Arc<dyn Authority>) -> Value {
    Value::Opaque(Arc::new(Asking {
        stage,
        question,
        authority,
    }))
}

/// A function that takes such a value and texts.
struct Call<'a> {
    function: &'static str,
    this: &'a Value,
    texts: Vec<Arc<String>>,
}

impl Call<'_> {
    fn fail(&self, why: &str) -> ExecutionError {
        ExecutionError::function_error(self.function, why)
    }

    fn no_overload(&self) -> ExecutionError {
        self.fail("no such overload")
    }

    /// The value, if it is in one of these stages.
    fn asking(&self, stages: &[Stage], texts: usize) -> Result<&Asking, ExecutionError> {
        let found = match self.this {
            Value::Opaque(opaque) => opaque.downcast_ref::<Asking>(),
            _ => None,
        };
        found
            .filter(|of| stages.contains(&of.stage) && self.texts.len() == texts)
            .ok_or_else(|| self.no_overload())
    }

    fn verdict(&self) -> Result<&Verdict, ExecutionError> {
        let found = match self.this {
            Value::Opaque(opaque) => opaque.downcast_ref::<Verdict>(),
            _ => None,
        };
        let found = found.filter(|_| self.texts.is_empty());
        found.ok_or_else(|| self.no_overload())
    }

    fn text(&self, at: usize) -> String {
        let text = self.texts.get(at);
        text.map(|text| text.as_str().to_owned())
            .unwrap_or_default()
    }

    fn run(&self) -> ResolveResult {
        match self.function {
            "check" => self.check(),
            "allowed" => Ok(Value::Bool(self.verdict()?.allowed)),
            "reason" => Ok(crate::text(&self.verdict()?.reason)),
            "errored" => Ok(Value::Bool(self.verdict()?.error.is_some())),
            "error" => {
                let error = self.verdict()?.error.as_deref();
                Ok(crate::text(error.unwrap_or_default()))
            }
            _ => self.narrow(),
        }
    }

    /// The next stage, or the same with more known.
    fn narrow(&self) -> ResolveResult {
        let (stages, texts) = match self.function {
            "path" | "group" => (&[Stage::Authorizer], 1),
            "serviceAccount" => (&[Stage::Authorizer], 2),
            "resource" => (&[Stage::Group], 1),
            _ => (&[Stage::Resource], 1),
        };
        let mut of = self.asking(stages, texts)?.clone();
        let text = self.text(0);
        match self.function {
            "path" | "resource" if text.trim().is_empty() => {
                return Err(self.fail(&format!("{} must not be empty", self.function)));
            }
            "path" => (of.stage, of.question.path) = (Stage::Path, Some(text)),
            "group" => (of.stage, of.question.group) = (Stage::Group, text),
            "resource" => (of.stage, of.question.resource) = (Stage::Resource, text),
            "serviceAccount" => {
                let name = self.text(1);
                if !is_dns(&name, 253, true) {
                    return Err(self.fail("Invalid service account name"));
                }
                if !is_dns(&text, 63, false) {
                    return Err(self.fail("Invalid service account namespace"));
                }
                of.question.account = Some((text, name));
            }
            "subresource" => of.question.subresource = text,
            "namespace" => of.question.namespace = text,
            "name" => of.question.name = text,
            "fieldSelector" => of.question.field_selector = text,
            "labelSelector" => of.question.label_selector = text,
            _ => return Err(self.no_overload()),
        }
        Ok(Value::Opaque(Arc::new(of)))
    }

    fn check(&self) -> ResolveResult {
        let of = self.asking(&[Stage::Path, Stage::Resource], 1)?;
        let question = Question {
            verb: self.text(0),
            ..of.question.clone()
        };
        Ok(Value::Opaque(Arc::new(of.authority.decide(&question))))
    }

    /// Upstream's cost of it, where requirements of selectors are structures.
    fn steps(&self) -> u64 {
        let selector = |length: u64| 10 + length.div_ceil(10) + length.div_ceil(2) * 50;
        match self.function {
            "check" => CHECK_STEPS,
            "fieldSelector" | "labelSelector" => {
                selector(self.texts.first().map_or(0, |t| t.len() as u64))
            }
            _ => 1,
        }
    }
}

/// Whether `text` is a label of RFC 1123, or several with dots between them.
fn is_dns(text: &str, most: usize, dotted: bool) -> bool {
    let is_label = |label: &str| {
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        !label.is_empty()
            && label.bytes().all(inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= most
        && match dotted {
            true => text.split('.').all(is_label),
            false => is_label(text),
        }
}

pub(crate) const FUNCTIONS: &[&str] = &[
    "path",
    "group",
    "serviceAccount",
    "resource",
    "subresource",
    "namespace",
    "name",
    "fieldSelector",
    "labelSelector",
    "check",
    "allowed",
    "reason",
    "errored",
    "error",
];

pub(crate) fn register(context: &mut Context<'_>) {
    for function in FUNCTIONS {
        context.add_function(
            function,
            move |This(this): This<Value>, Arguments(arguments): Arguments| -> ResolveResult {
                let texts = arguments.iter().map(|argument| match argument {
                    Value::String(text) => Some(text.clone()),
                    _ => None,
                });
                let no_overload = || ExecutionError::function_error(function, "no such overload");
                let texts: Option<Vec<_>> = texts.collect();
                let call = Call {
                    function,
                    this: &this,
                    texts: texts.ok_or_else(no_overload)?,
                };
                budget::take(call.steps())?;
                call.run()
            },
        );
    }
}
