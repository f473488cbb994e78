//! Keeps the mirror of one static pod. What the API says of it comes as news,
//! at most 16 of which wait; what failed is tried again a second later.

use super::{mirror, shows};
use crate::pod::view::{View, is_terminal};
use crate::pod::{Observation, Pod};
use crate::worker::{Shared, Shown, write_status};
use k8s_openapi::api::core::v1::{Pod as ApiPod, PodStatus};
use reconcile::resource::core::{NODES, PODS};
use reconcile::{Client, ClientError, DeleteOptions};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

const AGAIN: Duration = Duration::from_secs(1);

/// What the API says of a mirror.
pub(crate) enum News {
    Is(Box<Pod>),
    /// The one with this uid is gone.
    Gone(String),
    /// There is none.
    Absent,
}

pub(crate) struct Keeper {
    pub(crate) shared: Arc<Shared>,
    pub(crate) node_name: String,
    pub(crate) pod: Pod,
    pub(crate) shown: watch::Receiver<Shown>,
    pub(crate) news: mpsc::Receiver<News>,
}

impl News {
    /// News of one that was replaced meanwhile change nothing.
    fn tell(self, mirror: &mut Option<Pod>) {
        match self {
            Self::Is(pod) => *mirror = Some(*pod),
            Self::Absent => *mirror = None,
            Self::Gone(uid) => {
                mirror.take_if(|pod| View(pod).uid() == uid);
            }
        }
    }
}

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Create,
    Delete,
    Write,
    Rest,
}

fn plan(pod: &Pod, mirror: Option<&Pod>, written: Option<&PodStatus>, status: &PodStatus) -> Step {
    match mirror {
        None => Step::Create,
        Some(mirror) if View(mirror).deleting() || !shows(mirror, pod) => Step::Delete,
        // It was over, and runs again: the API knows no way back.
        Some(mirror) if View(mirror).terminal_in_api() && !is_terminal(status) => Step::Delete,
        Some(_) if written != Some(status) => Step::Write,
        Some(_) => Step::Rest,
    }
}

impl Keeper {
    /// Runs until nobody has news any more.
    pub(crate) async fn run(mut self) {
        // Until then nobody knows what is there.
        let Some(first) = self.news.recv().await else {
            return;
        };
        let mut mirror = None;
        first.tell(&mut mirror);
        let mut written: Option<PodStatus> = None;
        // What fails again and again is said once.
        let mut told = None;
        loop {
            let status = self.shown.borrow_and_update().status.clone();
            let step = plan(&self.pod, mirror.as_ref(), written.as_ref(), &status);
            let done = self
                .carry_out(step, &mut mirror, &mut written, &status)
                .await;
            if let Err(error) = &done
                && told.as_ref() != Some(error)
            {
                log::warn!("mirror of pod {}: {error}", View(&self.pod).label());
            }
            told = done.as_ref().err().cloned();
            if step != Step::Rest && done.is_ok() {
                continue;
            }
            tokio::select! {
                news = self.news.recv() => match news {
                    Some(news) => {
                        let old = mirror.as_ref().map(|pod| View(pod).uid().to_owned());
                        news.tell(&mut mirror);
                        if mirror.as_ref().map(|pod| View(pod).uid()) != old.as_deref() {
                            written = None;
                        }
                    }
                    None => return,
                },
                Ok(()) = self.shown.changed() => {}
                () = tokio::time::sleep(AGAIN), if done.is_err() => {}
            }
        }
    }

    async fn carry_out(
        &self,
        step: Step,
        mirror: &mut Option<Pod>,
        written: &mut Option<PodStatus>,
        status: &PodStatus,
    ) -> Result<(), String> {
        match (step, mirror.as_ref()) {
            (Step::Create, _) => {
                let created = self.create().await.map_err(|error| error.to_string())?;
                let created = serde_json::from_value::<ApiPod>(created);
                *mirror = created.ok().map(Pod::from);
                *written = None;
            }
            (Step::Delete, Some(old)) => {
                let deleted = delete(&self.shared.client, old).await;
                deleted.map_err(|error| error.to_string())?;
                *mirror = None;
                *written = None;
            }
            (Step::Write, Some(own)) => {
                let status = Box::new(status.clone());
                match write_status(&self.shared, own, status).await {
                    Observation::StatusWritten(status) => *written = Some(*status),
                    _ => return Err("its status was not written".to_owned()),
                }
            }
            (Step::Rest | Step::Delete | Step::Write, _) => {}
        }
        Ok(())
    }

    async fn create(&self) -> Result<Value, ClientError> {
        let node = self
            .shared
            .client
            .get(&NODES, None, &self.node_name)
            .await?;
        let uid = node["metadata"]["uid"].as_str().unwrap_or_default();
        let object = mirror(&self.pod, &self.node_name, uid);
        let namespace = Some(View(&self.pod).namespace());
        self.shared.client.create(&PODS, namespace, &object).await
    }
}

/// Takes a mirror out of the API at once; also one that no manifest stands for.
pub(crate) async fn delete(client: &Client, mirror: &Pod) -> Result<(), ClientError> {
    let view = View(mirror);
    let options = DeleteOptions {
        grace_period_seconds: Some(0),
        uid: Some(view.uid().to_owned()),
        ..DeleteOptions::default()
    };
    let (namespace, name) = (Some(view.namespace()), view.name());
    match client.delete(&PODS, namespace, name, &options).await {
        Err(error) if !error.is_not_found() && !error.is_conflict() => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::prepare;
    use super::*;
    use jiff::Timestamp;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use serde_json::json;

    #[test]
    fn a_mirror_is_made_written_and_made_anew() {
        let pod = |image: &str| {
            let manifest = json!({"metadata": {"name": "a"},
                "spec": {"containers": [{"name": "a", "image": image}]}});
            prepare(&manifest, "n1", Timestamp::UNIX_EPOCH).expect("a pod")
        };
        let own = pod("a:1");
        let reflect =
            |pod: &Pod| serde_json::from_value::<ApiPod>(mirror(pod, "n1", "u")).expect("a pod");
        let shown = reflect(&own);
        let mut ends = shown.clone();
        ends.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
        let mut over = shown.clone();
        over.status.get_or_insert_default().phase = Some("Failed".to_owned());
        let status = PodStatus::default();
        let other = PodStatus {
            phase: Some("Running".to_owned()),
            ..PodStatus::default()
        };
        for (mirror, written, wanted) in [
            (None, None, Step::Create),
            (Some(shown.clone()), None, Step::Write),
            (Some(shown.clone()), Some(&other), Step::Write),
            (Some(shown), Some(&status), Step::Rest),
            (Some(ends), Some(&status), Step::Delete),
            (Some(reflect(&pod("a:2"))), Some(&status), Step::Delete),
            (Some(over), None, Step::Delete),
        ] {
            let mirror = mirror.map(Pod::from);
            assert_eq!(plan(&own, mirror.as_ref(), written, &status), wanted);
        }
    }
}
