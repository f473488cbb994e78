//! The `scale` subresource of custom kinds: `autoscaling/v1` Scale by paths.

use crate::field::{Errors, Path};
use crate::meta;
use serde_json::{Value, json};

/// Where replicas stand, as dotted paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scale {
    pub spec_replicas: Vec<String>,
    pub status_replicas: Vec<String>,
    pub selector: Option<Vec<String>>,
}

fn steps(value: &Value, key: &str) -> Option<Vec<String>> {
    let text = meta::text(value, &[key]);
    (!text.is_empty()).then(|| {
        text.trim_start_matches('.')
            .split('.')
            .map(str::to_owned)
            .collect()
    })
}

fn get<'a>(object: &'a Value, path: &[String]) -> Option<&'a Value> {
    path.iter().try_fold(object, |v, key| v.get(key))
}

impl Scale {
    pub fn parse(value: &Value) -> Scale {
        Scale {
            spec_replicas: steps(value, "specReplicasPath").unwrap_or_default(),
            status_replicas: steps(value, "statusReplicasPath").unwrap_or_default(),
            selector: steps(value, "labelSelectorPath"),
        }
    }

    /// The object's Scale; the error names the path that lacks a value.
    pub fn of(&self, object: &Value) -> Result<Value, String> {
        let replicas = get(object, &self.spec_replicas).and_then(Value::as_i64);
        let Some(replicas) = replicas else {
            return Err(format!(
                "the spec replicas field \".{}\" does not exist",
                self.spec_replicas.join(".")
            ));
        };
        let mut status = json!({
            "replicas": get(object, &self.status_replicas).and_then(Value::as_i64).unwrap_or(0),
        });
        if let Some(path) = &self.selector
            && let Some(text) = get(object, path).and_then(Value::as_str)
        {
            status["selector"] = text.into();
        }
        Ok(json!({
            "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": meta::identity(object),
            "spec": {"replicas": replicas}, "status": status,
        }))
    }

    /// Sets the wanted replicas of `object`.
    pub fn apply(&self, object: &mut Value, replicas: i64) {
        let Some((last, path)) = self.spec_replicas.split_last() else {
            return;
        };
        let mut at = object;
        for key in path {
            meta::ensure(at, key);
            at = &mut at[key.as_str()];
        }
        if let Some(map) = at.as_object_mut() {
            map.insert(last.clone(), replicas.into());
        }
    }

    /// Replicas are counts, the selector text.
    pub fn validate(&self, object: &Value, errors: &mut Errors) {
        for path in [&self.spec_replicas, &self.status_replicas] {
            let at = Path::new(&format!(".{}", path.join(".")));
            match get(object, path) {
                None => {}
                Some(value) => match value.as_i64() {
                    None => errors.invalid(&at, value.clone(), "must be an integer"),
                    Some(n) if n < 0 => {
                        errors.invalid(&at, n, "should be a non-negative integer");
                    }
                    Some(n) if n > i64::from(i32::MAX) => {
                        let why = format!("should be less than or equal to {}", i32::MAX);
                        errors.invalid(&at, n, why);
                    }
                    Some(_) => {}
                },
            }
        }
        if let Some(path) = &self.selector
            && let Some(value) = get(object, path).filter(|v| !v.is_string())
        {
            let at = Path::new(&format!(".{}", path.join(".")));
            errors.invalid(&at, value.clone(), "must be a string");
        }
    }
}
