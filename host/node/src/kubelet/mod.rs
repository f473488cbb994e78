//! How the node defends itself, as the machine config says it: the part of
//! upstream's KubeletConfiguration (kubelet.config.k8s.io/v1beta1) that has a
//! meaning here, with upstream's names and defaults.

mod values;

pub(crate) use values::{Signal, Size, Span, count, quantity};

use crate::eviction::{CRITICAL, Threshold};
use crate::shutdown::Period;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

const MIB: u64 = 1 << 20;
/// The longest shutdown in seconds.
const SHUTDOWN_MAX: u64 = 3600;

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Kubelet {
    /// Given, it replaces all defaults, as upstream's.
    eviction_hard: Option<BTreeMap<Signal, Size>>,
    eviction_soft: BTreeMap<Signal, Size>,
    eviction_soft_grace_period: BTreeMap<Signal, Span>,
    eviction_minimum_reclaim: BTreeMap<Signal, Size>,
    eviction_pressure_transition_period: Option<Span>,
    /// Seconds; of pods that a soft threshold evicts.
    eviction_max_pod_grace_period: u32,
    #[serde(rename = "imageGCHighThresholdPercent")]
    image_gc_high_threshold_percent: Option<u8>,
    #[serde(rename = "imageGCLowThresholdPercent")]
    image_gc_low_threshold_percent: Option<u8>,
    #[serde(rename = "imageMinimumGCAge")]
    image_minimum_gc_age: Option<Span>,
    #[serde(rename = "imageMaximumGCAge")]
    image_maximum_gc_age: Option<Span>,
    shutdown_grace_period: Option<Span>,
    shutdown_grace_period_critical_pods: Option<Span>,
    shutdown_grace_period_by_pod_priority: Vec<ByPriority>,
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ByPriority {
    priority: i32,
    shutdown_grace_period_seconds: u32,
}

impl Kubelet {
    /// What single values can't show.
    ///
    /// # Errors
    /// The field, and what is wrong with it.
    pub fn check(&self) -> Result<(), String> {
        for signal in self.eviction_soft.keys() {
            if !self.eviction_soft_grace_period.contains_key(signal) {
                let name = signal.name();
                return Err(format!(
                    "evictionSoftGracePeriod: a grace period must be given for the soft eviction \
                     threshold {name}"
                ));
            }
        }
        let (high, low) = (self.gc_high_percent(), self.gc_low_percent());
        for (field, percent) in [("High", high), ("Low", low)] {
            if percent > 100 {
                return Err(format!("imageGC{field}ThresholdPercent: between 0 and 100"));
            }
        }
        if low >= high && high > 0 {
            return Err(format!(
                "imageGCLowThresholdPercent: {low} is not below imageGCHighThresholdPercent, \
                 {high}"
            ));
        }
        let oldest = self.image_maximum_age();
        if oldest.is_some_and(|oldest| oldest <= self.image_minimum_age()) {
            return Err("imageMaximumGCAge: must be more than imageMinimumGCAge".to_owned());
        }
        self.check_shutdown()
    }

    fn check_shutdown(&self) -> Result<(), String> {
        let (whole, critical) = self.shutdown_periods();
        let by_priority = "shutdownGracePeriodByPodPriority";
        for (field, given) in [
            ("shutdownGracePeriod", whole),
            ("shutdownGracePeriodCriticalPods", critical),
        ] {
            if !given.is_zero() && given < Duration::from_secs(1) {
                return Err(format!("{field}: must be either zero or at least 1s"));
            }
            if !given.is_zero() && !self.shutdown_grace_period_by_pod_priority.is_empty() {
                return Err(format!("{field}: can't be given beside {by_priority}"));
            }
        }
        if critical > whole {
            return Err(
                "shutdownGracePeriodCriticalPods: must not be more than shutdownGracePeriod"
                    .to_owned(),
            );
        }
        if self.shutdown_seconds() > SHUTDOWN_MAX {
            return Err(format!(
                "shutdownGracePeriod: {SHUTDOWN_MAX} s together at most"
            ));
        }
        Ok(())
    }

    /// Of all pods, and of it that of critical ones.
    fn shutdown_periods(&self) -> (Duration, Duration) {
        let of = |given: &Option<Span>| span(given.as_ref(), Duration::ZERO);
        let critical = of(&self.shutdown_grace_period_critical_pods);
        (of(&self.shutdown_grace_period), critical)
    }

    /// Who has how long when the node shuts down; empty without such a config.
    pub(crate) fn shutdown(&self) -> Vec<Period> {
        let given = self.shutdown_grace_period_by_pod_priority.iter();
        let given: Vec<Period> = given
            .map(|one| Period {
                priority: one.priority,
                length: Duration::from_secs(one.shutdown_grace_period_seconds.into()),
            })
            .collect();
        let (whole, critical) = self.shutdown_periods();
        if !given.is_empty() || whole.is_zero() {
            return given;
        }
        let period = |priority, length| Period { priority, length };
        vec![
            period(0, whole.saturating_sub(critical)),
            period(CRITICAL, critical),
        ]
    }

    /// How long all of that may take.
    #[must_use]
    pub fn shutdown_seconds(&self) -> u64 {
        let lengths = self.shutdown();
        let lengths = lengths.iter().map(|period| period.length);
        let whole = lengths.fold(Duration::ZERO, Duration::saturating_add);
        whole
            .as_secs()
            .saturating_add(u64::from(whole.subsec_nanos() > 0))
    }

    /// All thresholds, hard ones first.
    pub(crate) fn thresholds(&self) -> Vec<Threshold> {
        let least = |signal: Signal| self.eviction_minimum_reclaim.get(&signal).copied();
        let hard = match &self.eviction_hard {
            Some(given) => given.clone(),
            None => defaults(),
        };
        let hard = hard.into_iter().map(|(signal, size)| Threshold {
            signal,
            size,
            grace: Duration::ZERO,
            reclaim: least(signal),
        });
        let soft = self.eviction_soft.iter().map(|(&signal, &size)| Threshold {
            signal,
            size,
            grace: span(self.eviction_soft_grace_period.get(&signal), Duration::ZERO),
            reclaim: least(signal),
        });
        hard.chain(soft).collect()
    }

    pub(crate) fn transition_period(&self) -> Duration {
        let five_minutes = Duration::from_secs(300);
        span(
            self.eviction_pressure_transition_period.as_ref(),
            five_minutes,
        )
    }

    pub(crate) fn soft_grace(&self) -> Duration {
        Duration::from_secs(self.eviction_max_pod_grace_period.into())
    }

    pub(crate) fn gc_high_percent(&self) -> u8 {
        self.image_gc_high_threshold_percent.unwrap_or(85)
    }

    pub(crate) fn gc_low_percent(&self) -> u8 {
        self.image_gc_low_threshold_percent.unwrap_or(80)
    }

    pub(crate) fn image_minimum_age(&self) -> Duration {
        span(self.image_minimum_gc_age.as_ref(), Duration::from_secs(120))
    }

    /// How long an image may be there unused, if that is bounded.
    pub(crate) fn image_maximum_age(&self) -> Option<Duration> {
        let given = span(self.image_maximum_gc_age.as_ref(), Duration::ZERO);
        (!given.is_zero()).then_some(given)
    }
}

fn span(given: Option<&Span>, default: Duration) -> Duration {
    given.map_or(default, |span| span.0)
}

fn defaults() -> BTreeMap<Signal, Size> {
    BTreeMap::from([
        (Signal::MemoryAvailable, Size::bytes(100 * MIB)),
        (Signal::NodeFsAvailable, Size::percent(10)),
        (Signal::NodeFsInodesFree, Size::percent(5)),
        (Signal::ImageFsAvailable, Size::percent(15)),
        (Signal::ImageFsInodesFree, Size::percent(5)),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn parse(document: Value) -> Result<Kubelet, String> {
        let parsed: Kubelet =
            serde_json::from_value(document).map_err(|error| error.to_string())?;
        parsed.check().map(|()| parsed)
    }

    #[test]
    fn thresholds_are_upstreams_until_some_are_given() {
        let names = |document: Value| -> Vec<String> {
            let parsed = parse(document).expect("valid");
            let text = |t: Threshold| format!("{}<{} {:?}", t.signal.name(), t.size, t.grace);
            parsed.thresholds().into_iter().map(text).collect()
        };
        assert_eq!(
            names(json!({})),
            [
                "memory.available<100Mi 0ns",
                "nodefs.available<10% 0ns",
                "nodefs.inodesFree<5% 0ns",
                "imagefs.available<15% 0ns",
                "imagefs.inodesFree<5% 0ns",
            ]
        );
        let given = json!({
            "evictionHard": {"pid.available": "100"},
            "evictionSoft": {"memory.available": "1.5Gi"},
            "evictionSoftGracePeriod": {"memory.available": "1m30s"},
        });
        assert_eq!(
            names(given),
            ["pid.available<100 0ns", "memory.available<1536Mi 90s"]
        );
    }

    #[test]
    fn the_whole_shutdown_is_split_by_priority() {
        let document =
            json!({"shutdownGracePeriod": "30s", "shutdownGracePeriodCriticalPods": "10s"});
        let parsed = parse(document).expect("valid");
        let periods: Vec<(i32, u64)> = parsed
            .shutdown()
            .iter()
            .map(|period| (period.priority, period.length.as_secs()))
            .collect();
        assert_eq!(periods, [(0, 20), (2_000_000_000, 10)]);
        assert_eq!(parsed.shutdown_seconds(), 30);
        let nothing = parse(json!({})).expect("valid");
        assert!(nothing.shutdown().is_empty() && nothing.shutdown_seconds() == 0);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (document, wanted) in [
            (
                json!({"evictionHard": {"memory.free": "1Gi"}}),
                "memory.free",
            ),
            (
                json!({"evictionHard": {"memory.available": "101%"}}),
                "101%",
            ),
            (
                json!({"evictionHard": {"memory.available": "lots"}}),
                "lots",
            ),
            (
                json!({"evictionSoft": {"memory.available": "1Gi"}}),
                "evictionSoftGracePeriod: ",
            ),
            (json!({"evictionPressureTransitionPeriod": "5"}), "\"5\""),
            (
                json!({"imageGCHighThresholdPercent": 101}),
                "imageGCHighThresholdPercent: ",
            ),
            (
                json!({"imageGCLowThresholdPercent": 90}),
                "imageGCLowThresholdPercent: ",
            ),
            (json!({"imageMaximumGCAge": "1m"}), "imageMaximumGCAge: "),
            (
                json!({"shutdownGracePeriod": "5ms"}),
                "shutdownGracePeriod: ",
            ),
            (json!({"shutdownGracePeriod": "2h"}), "3600 s together"),
            (
                json!({"shutdownGracePeriod": "5s", "shutdownGracePeriodCriticalPods": "6s"}),
                "shutdownGracePeriodCriticalPods: ",
            ),
            (
                json!({"shutdownGracePeriod": "5s", "shutdownGracePeriodByPodPriority": [
                    {"priority": 0, "shutdownGracePeriodSeconds": 1}]}),
                "beside shutdownGracePeriodByPodPriority",
            ),
            (json!({"imageGcHighThresholdPercent": 1}), "unknown field"),
        ] {
            let error = parse(document).expect_err(wanted);
            assert!(error.contains(wanted), "{error}");
        }
    }
}
