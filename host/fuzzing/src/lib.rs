//! How long fuzz and property tests run. Each names the rounds that take it a
//! second or two in an ordinary run; `FUZZ_FACTOR` multiplies them all.

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
