//! Static pods among the others: started before the API was asked, and told
//! what it says of their mirrors.

use super::{Leftovers, Roster, directory};
use crate::pod::Pod;
use crate::pod::observed::DEADLINE_EXCEEDED;
use crate::pod::view::View;
use crate::static_pods::{Keeper, News, delete_mirror, is_mirror};
use tokio::sync::mpsc;

impl Roster {
    /// Starts a static pod, or takes its machine over.
    pub(super) async fn begin_static(&mut self, pod: Pod, leftovers: &mut Leftovers) {
        let view = View(&pod);
        let uid = view.uid().to_owned();
        let machine = view.machine_id();
        let machine = machine.and_then(|id| leftovers.machines.remove(&id));
        let checkpoint = leftovers.remembered.remove(&uid);
        // What ended it was the end of the node, or a lack that may be over.
        let checkpoint = checkpoint.filter(|kept| {
            let rejected = kept.observed.rejected.as_ref();
            rejected.is_none_or(|own| own.reason == DEADLINE_EXCEEDED)
        });
        self.resume(pod.clone(), machine, checkpoint).await;
        let Some(entry) = self.entries.get_mut(&uid) else {
            return;
        };
        let (sender, news) = mpsc::channel(16);
        entry.mirror = Some(sender);
        let keeper = Keeper {
            shared: self.shared.clone(),
            node_name: self.node_name.clone(),
            pod,
            shown: entry.shown.clone(),
            news,
        };
        self.keepers.spawn(keeper.run());
    }

    /// What the API says of a pod.
    pub(super) async fn heard(&mut self, pod: Pod) {
        if is_mirror(&pod) {
            self.mirror_is(pod).await;
        } else {
            self.upsert(pod).await;
        }
    }

    pub(super) async fn lost_from_api(&mut self, pod: &Pod) {
        if !is_mirror(pod) {
            return self.gone(View(pod).uid()).await;
        }
        if let Some(sender) = self.keeper_of(pod) {
            let gone = News::Gone(View(pod).uid().to_owned());
            drop(sender.send(gone).await);
        }
    }

    /// All mirrors that the API has.
    pub(super) async fn mirrors_are(&mut self, mirrors: Vec<Pod>) {
        let mut absent: Vec<mpsc::Sender<_>> = Vec::new();
        for entry in self.entries.values() {
            let own = entry.shown.borrow().pod.clone();
            let there = mirrors.iter().any(|mirror| same_name(mirror, &own));
            absent.extend(entry.mirror.clone().filter(|_| !there));
        }
        for sender in absent {
            drop(sender.send(News::Absent).await);
        }
        for mirror in mirrors {
            self.mirror_is(mirror).await;
        }
    }

    /// Its keeper decides; a mirror that no manifest stands for goes.
    async fn mirror_is(&mut self, mirror: Pod) {
        if let Some(sender) = self.keeper_of(&mirror) {
            drop(sender.send(News::Is(Box::new(mirror))).await);
            return;
        }
        let client = self.shared.client.clone();
        self.keepers.spawn(async move {
            if let Err(error) = delete_mirror(&client, &mirror).await {
                log::warn!("mirror of pod {}: {error}", View(&mirror).label());
            }
        });
    }

    fn keeper_of(&self, mirror: &Pod) -> Option<mpsc::Sender<News>> {
        let mut entries = self.entries.values();
        let entry = entries
            .find(|entry| entry.mirror.is_some() && same_name(mirror, &entry.shown.borrow().pod))?;
        entry.mirror.clone()
    }
}

fn same_name(a: &Pod, b: &Pod) -> bool {
    directory::key(a) == directory::key(b)
}
