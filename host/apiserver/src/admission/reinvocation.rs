//! Whom mutating admission asks a second time. A second round follows once if
//! anybody changed the object; in it only those are asked who want to be
//! (`IfNeeded`) and after whom the object changed
//! (`webhook/mutating/reinvocationcontext.go`). Pure.

use serde_json::Value;
use std::collections::BTreeSet;

/// What one plugin remembers of the rounds of one request.
#[derive(Debug, Default)]
pub(super) struct Reinvocation {
    /// Asked, and willing to be asked again.
    willing: BTreeSet<String>,
    /// Willing, and the object changed after them.
    due: BTreeSet<String>,
    /// The object as the first round left it.
    output: Option<Value>,
}

impl Reinvocation {
    /// Before the second round: what others did since the first one counts.
    pub(super) fn begin(&mut self, object: Option<&Value>) {
        if self.output.as_ref() != object {
            self.changed();
        }
    }

    pub(super) fn is_due(&self, key: &str) -> bool {
        self.due.contains(key)
    }

    /// The object changed.
    pub(super) fn changed(&mut self) {
        self.due.append(&mut self.willing);
    }

    /// `key` was asked, and would be again.
    pub(super) fn asked(&mut self, key: &str) {
        self.willing.insert(key.to_owned());
    }

    /// After a round.
    pub(super) fn end(&mut self, object: Option<&Value>) {
        self.output = object.cloned();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Asks `a`, `b` and `c`, of whom those in `changing` change the object.
    fn due(changing: &str, others: bool) -> String {
        let mut rounds = Reinvocation::default();
        for key in ["a", "b", "c"] {
            if changing.contains(key) {
                rounds.changed();
            }
            rounds.asked(key);
        }
        rounds.end(Some(&json!(1)));
        let after = if others { json!(2) } else { json!(1) };
        rounds.begin(Some(&after));
        let all = ["a", "b", "c"].into_iter();
        all.filter(|key| rounds.is_due(key)).collect()
    }

    #[test]
    fn those_before_the_last_change_are_asked_again() {
        for (changing, others, wanted) in [
            ("", false, ""),
            ("a", false, ""),
            ("b", false, "a"),
            ("c", false, "ab"),
            ("abc", false, "ab"),
            ("", true, "abc"),
            ("b", true, "abc"),
        ] {
            assert_eq!(due(changing, others), wanted, "{changing} {others}");
        }
    }
}
