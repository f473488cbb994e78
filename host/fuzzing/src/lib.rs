//! How long fuzz and property tests run, and what they draw. Each names the
//! rounds that take it a second or two in an ordinary run; `FUZZ_FACTOR`
//! multiplies them all.

use std::hash::BuildHasher;

/// The environment variable: a whole number, 1 unless told.
pub const FACTOR: &str = "FUZZ_FACTOR";

/// The rounds of this run.
///
/// # Panics
/// If `FUZZ_FACTOR` is no number: a long run that isn't one would go unnoticed.
#[must_use]
pub fn rounds(usual: u64) -> u64 {
    usual.saturating_mul(factor())
}

/// As `rounds`, for proptest's number of cases.
#[must_use]
pub fn cases(usual: u32) -> u32 {
    u32::try_from(rounds(usual.into())).unwrap_or(u32::MAX)
}

fn factor() -> u64 {
    let Some(text) = std::env::var_os(FACTOR) else {
        return 1;
    };
    let factor = text.to_str().and_then(|text| text.parse().ok());
    factor.unwrap_or_else(|| panic!("{FACTOR} is no number: {text:?}"))
}

/// The environment variable that repeats a run: a whole number.
pub const SEED: &str = "FUZZ_SEED";

/// SplitMix64: small, and every seed gives its own sequence.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// From `FUZZ_SEED`, or another one at each run; a failing test shows it.
    ///
    /// # Panics
    /// If `FUZZ_SEED` is no number.
    #[must_use]
    pub fn seeded() -> Random {
        let told = std::env::var(SEED).ok();
        let seed = told.map_or_else(
            || std::collections::hash_map::RandomState::new().hash_one(()),
            |text| {
                let number = text.parse();
                number.unwrap_or_else(|_| panic!("{SEED} is no number: {text:?}"))
            },
        );
        println!("{SEED}={seed}");
        Random(seed)
    }

    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Less than `n`, or 0.
    pub fn below(&mut self, n: usize) -> usize {
        // The remainder is less than a usize.
        usize::try_from(self.draw() % n.max(1) as u64).unwrap_or(0)
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// One of them.
    pub fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
}
