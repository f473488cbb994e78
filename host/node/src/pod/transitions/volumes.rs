//! A pod's volumes of files: filled before its containers start, kept up to
//! date while they run.

use super::super::backoff::later;
use super::super::observed::{Machine, Note, Observed};
use super::super::view::View;
use super::super::volumes;
use jiff::{SignedDuration, Timestamp};

/// How often sources are looked at; upstream's kubelet takes a minute or more.
const LOOK: SignedDuration = SignedDuration::from_secs(30);
/// Upstream's delays after a failed mount: the first, and the longest.
const RETRY_FIRST: SignedDuration = SignedDuration::from_millis(500);
const RETRY_LAST: SignedDuration = SignedDuration::from_secs(122);

impl Observed {
    pub(super) fn needs_filling(&self, view: View<'_>) -> bool {
        !self.filling.filled && volumes::of_files(view).next().is_some()
    }

    pub(super) fn begin_filling(&mut self) {
        self.filling.busy = true;
        if self.machine == Machine::SetUp {
            self.machine = Machine::Filling;
        }
    }

    pub(super) fn volumes_told(
        &mut self,
        epoch: u32,
        failures: Vec<String>,
        now: Timestamp,
    ) -> Vec<Note> {
        // What an earlier machine's volumes hold is no news of this one's.
        if epoch != self.epoch {
            return Vec::new();
        }
        if failures.is_empty() {
            self.volumes_filled(now);
        } else {
            self.volumes_failed(now);
        }
        let note = |message| Note::warning("FailedMount", message);
        failures.into_iter().map(note).collect()
    }

    fn volumes_filled(&mut self, now: Timestamp) {
        self.filling.busy = false;
        self.filling.failures = 0;
        self.filling.retry_at = None;
        self.filling.look_at = Some(later(now, LOOK));
        if self.machine == Machine::Filling {
            self.filling.filled = true;
            self.machine = Machine::Ready;
        }
    }

    fn volumes_failed(&mut self, now: Timestamp) {
        let delay = RETRY_FIRST * 2_i32.pow(self.filling.failures.min(8));
        let retry_at = later(now, delay.min(RETRY_LAST));
        self.filling.busy = false;
        self.filling.failures = self.filling.failures.saturating_add(1);
        self.filling.retry_at = Some(retry_at);
        self.filling.look_at = Some(retry_at.max(later(now, LOOK)));
        if self.machine == Machine::Filling {
            self.machine = Machine::SetUp;
        }
    }
}
