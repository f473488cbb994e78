//! Pods for tests, as JSON manifests.

use serde_json::{Value, json};

pub struct Pod(Value);

impl Pod {
    /// One container named `main`; restartPolicy Never.
    #[must_use]
    pub fn new(name: &str, image: &str, command: &[&str]) -> Self {
        Self(json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": { "name": name },
            "spec": {
                "restartPolicy": "Never",
                "terminationGracePeriodSeconds": 2,
                "containers": [{ "name": "main", "image": image, "command": command }],
            },
        }))
    }

    /// A busybox that runs a shell script.
    #[must_use]
    pub fn script(name: &str, script: &str) -> Self {
        Self::new(name, "busybox", &["/bin/sh", "-c", script])
    }

    #[must_use]
    pub fn restart(self, policy: &str) -> Self {
        self.with("/spec/restartPolicy", json!(policy))
    }

    /// Another container, with a script.
    #[must_use]
    pub fn beside(mut self, name: &str, script: &str) -> Self {
        if let Some(Value::Array(all)) = self.0.pointer_mut("/spec/containers") {
            all.push(json!({
                "name": name, "image": "busybox", "command": ["/bin/sh", "-c", script],
            }));
        }
        self
    }

    /// Sets a field by JSON pointer; its parent must be there.
    ///
    /// # Panics
    /// If it is not: a mistake in the test.
    #[must_use]
    pub fn with(mut self, pointer: &str, value: Value) -> Self {
        let (parent, field) = pointer.rsplit_once('/').expect("a pointer");
        let parent = self.0.pointer_mut(parent).expect("the field's parent");
        parent[field] = value;
        self
    }

    #[must_use]
    pub fn value(self) -> Value {
        self.0
    }

    #[must_use]
    pub fn manifest(&self) -> String {
        self.0.to_string()
    }
}
