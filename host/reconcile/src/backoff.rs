//! Exponential back-off with jitter. Pure: the random number is an argument.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    pub base: Duration,
    pub max: Duration,
}

impl Backoff {
    /// After so many failures in a row (0: none, no wait): half to all of
    /// `base * 2^(failures - 1)`, at most `max`. `random` is in 0..1.
    pub fn delay(&self, failures: u32, random: f64) -> Duration {
        let Some(doublings) = failures.checked_sub(1) else {
            return Duration::ZERO;
        };
        let factor = 2u32.saturating_pow(doublings.min(31));
        let full = self.base.saturating_mul(factor).min(self.max);
        full.mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0)
    }
}

/// 0..1, for the edges that have no better source; not for secrets.
pub fn random() -> f64 {
    let bits = RandomState::new().hash_one(0u8) >> 11;
    bits as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_to_the_maximum() {
        let backoff = Backoff {
            base: Duration::from_millis(100),
            max: Duration::from_secs(2),
        };
        for (failures, random, expected) in [
            (0, 1.0, 0),
            (1, 1.0, 100),
            (1, 0.0, 50),
            (2, 1.0, 200),
            (5, 1.0, 1600),
            (6, 1.0, 2000),
            (1000, 0.5, 1500),
            (u32::MAX, 7.0, 2000),
        ] {
            let found = backoff.delay(failures, random).as_millis();
            assert_eq!(found, expected, "{failures} {random}");
        }
        assert!((0..100).map(|_| random()).all(|r| (0.0..1.0).contains(&r)));
    }
}
