//! Resources that change meanwhile.

use super::super::observed::Observation;
use super::super::resize::{Obstacle, Outcome, Resized, is_time, resources};
use super::super::view::View;
use super::World;
use serde_json::json;

impl World {
    /// Somebody asks for other resources, and may get them.
    pub(super) fn resize(&mut self) {
        let mut pod = self.pod.as_api().clone();
        let spec = pod.spec.as_mut().expect("a specification");
        for container in &mut spec.containers {
            let cpu = format!("{}m", 100 + self.random.next() % 3);
            let wanted = json!({"requests": {"cpu": cpu}});
            container.resources = serde_json::from_value(wanted).expect("parses");
            let policies = ["RestartContainer", "NotRequired"];
            let policy = policies[usize::from(self.random.one_in(2))];
            let policy = json!([{"resourceName": "cpu", "restartPolicy": policy}]);
            container.resize_policy = serde_json::from_value(policy).expect("parses");
        }
        self.pod = pod.into();
        let given = self.observed.resize.given.clone();
        self.pod.give(&given.expect("it was taken on"));
        let Some(asked) = self.pod.as_asked().filter(|_| is_time(&self.observed)) else {
            return;
        };
        if self.random.one_in(4) {
            let (obstacle, why) = (Obstacle::Deferred, "no".to_owned());
            let now = self.now;
            self.observed.obstructed(View(&asked), obstacle, why, now);
            return;
        }
        self.pod = asked;
        self.observed.granted(View(&self.pod));
    }

    /// What a guest makes of it.
    pub(super) fn resized(&mut self, container: String, attempt: u32, stale: bool) {
        let own = View(&self.pod).container(&container);
        let (_, own) = own.expect("it is the pod's");
        let resources = resources(own);
        let outcome = match self.random.next() % 3 {
            _ if stale || !self.session => Outcome::Unknown,
            0 => Outcome::Refused("no".to_owned()),
            _ => Outcome::Done,
        };
        self.observe(Observation::Resized(Box::new(Resized {
            container,
            attempt,
            resources,
            outcome,
        })));
    }
}
