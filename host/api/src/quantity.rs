//! Quantities: `500m`, `1.5Gi`, `1e3` (`apimachinery/pkg/api/resource`).
//!
//! A value is held exactly in billionths, as upstream does at most; finer
//! digits round up. The canonical form has no fraction and the largest suffix
//! that leaves an integer, in the family that the text used.

use std::cmp::Ordering;
use std::fmt;

const NANO: i128 = 1_000_000_000;
/// Beyond this a value is refused: far above any byte count, far below overflow.
const LIMIT: i128 = i128::MAX / 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    DecimalSi,
    BinarySi,
    DecimalExponent,
}

#[derive(Clone, Copy, Debug)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    #[error(
        "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
    )]
    Format,
    #[error("unable to parse quantity's suffix")]
    Suffix,
    #[error("quantity is out of range")]
    Range,
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Quantity) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Quantity) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Quantity) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

const DECIMAL: &[(&str, i128)] = &[
    ("n", 1),
    ("u", 1_000),
    ("m", 1_000_000),
    ("", NANO),
    ("k", NANO * 1_000),
    ("M", NANO * 1_000_000),
    ("G", NANO * 1_000_000_000),
    ("T", NANO * 1_000_000_000_000),
    ("P", NANO * 1_000_000_000_000_000),
    ("E", NANO * 1_000_000_000_000_000_000),
];

const BINARY: &[(&str, i128)] = &[
    ("Ki", NANO << 10),
    ("Mi", NANO << 20),
    ("Gi", NANO << 30),
    ("Ti", NANO << 40),
    ("Pi", NANO << 50),
    ("Ei", NANO << 60),
];

impl Quantity {
    pub fn parse(text: &str) -> Result<Quantity, QuantityError> {
        let (negative, rest) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let (number, suffix) = rest.split_at(digits);
        let (unit, format) = unit(suffix)?;
        let nanos = scaled(number, unit)?;
        Ok(Quantity {
            nanos: if negative { -nanos } else { nanos },
            format,
        })
    }

    /// That many of something.
    pub fn count(n: i64) -> Quantity {
        Quantity {
            nanos: i128::from(n) * NANO,
            format: Format::DecimalSi,
        }
    }

    /// The sum, at most the largest value; in this one's family unless it is 0.
    pub fn plus(self, other: Quantity) -> Quantity {
        let format = if self.nanos == 0 {
            other.format
        } else {
            self.format
        };
        Quantity {
            nanos: self.nanos.saturating_add(other.nanos).clamp(-LIMIT, LIMIT),
            format,
        }
    }

    pub fn minus(self, other: Quantity) -> Quantity {
        self.plus(Quantity {
            nanos: other.nanos.saturating_neg(),
            format: self.format,
        })
    }

    /// How often `other` is in it.
    pub fn ratio(self, other: Quantity) -> f64 {
        self.nanos as f64 / other.nanos as f64
    }

    /// The value rounded up to a whole number.
    pub fn whole(&self) -> i128 {
        self.nanos.div_euclid(NANO) + i128::from(self.nanos.rem_euclid(NANO) != 0)
    }

    /// The value in thousandths, rounded up.
    pub fn milli(&self) -> i128 {
        let unit = NANO / 1000;
        self.nanos.div_euclid(unit) + i128::from(self.nanos.rem_euclid(unit) != 0)
    }

    pub fn is_negative(&self) -> bool {
        self.nanos < 0
    }

    pub fn is_whole(&self) -> bool {
        self.nanos % NANO == 0
    }
}

/// What one unit of the suffix is worth in billionths, and its family.
fn unit(suffix: &str) -> Result<(i128, Format), QuantityError> {
    if let Some((_, worth)) = BINARY.iter().find(|(s, _)| *s == suffix) {
        return Ok((*worth, Format::BinarySi));
    }
    if let Some((_, worth)) = DECIMAL.iter().find(|(s, _)| *s == suffix) {
        return Ok((*worth, Format::DecimalSi));
    }
    let exponent: i32 = suffix
        .strip_prefix(['e', 'E'])
        .and_then(|e| e.parse().ok())
        .ok_or(QuantityError::Suffix)?;
    let power = match exponent {
        -9..=20 => u32::try_from(exponent + 9).map_err(|_| QuantityError::Range)?,
        _ => return Err(QuantityError::Range),
    };
    Ok((10_i128.pow(power), Format::DecimalExponent))
}

/// `number * unit`, rounded up to a billionth.
fn scaled(number: &str, unit: i128) -> Result<i128, QuantityError> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') || number.len() > 64 {
        return Err(QuantityError::Format);
    }
    let mut nanos: i128 = 0;
    for digit in whole.bytes() {
        nanos = nanos
            .checked_mul(10)
            .and_then(|n| n.checked_add(i128::from(digit - b'0')))
            .ok_or(QuantityError::Range)?;
    }
    nanos = nanos
        .checked_mul(unit)
        .filter(|n| *n < LIMIT)
        .ok_or(QuantityError::Range)?;
    let mut rest = unit;
    let mut exact = true;
    let mut part: i128 = 0;
    for digit in fraction.bytes() {
        // Long division: what falls below a billionth only decides rounding.
        let value = rest * i128::from(digit - b'0');
        part += value / 10;
        exact &= value % 10 == 0;
        if rest % 10 != 0 && rest > 0 {
            exact &= digit == b'0';
        }
        rest /= 10;
    }
    Ok(nanos + part + i128::from(!exact))
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        if self.format == Format::BinarySi && self.nanos.abs() >= NANO << 10 {
            let fit = BINARY.iter().rev().find(|(_, w)| self.nanos % w == 0);
            if let Some((suffix, worth)) = fit {
                return write!(f, "{}{suffix}", self.nanos / worth);
            }
            if self.nanos % NANO == 0 {
                return write!(f, "{}", self.nanos / NANO);
            }
        }
        let (suffix, worth) = DECIMAL
            .iter()
            .rev()
            .find(|(_, w)| self.nanos % w == 0)
            .copied()
            .unwrap_or(("n", 1));
        if self.format != Format::DecimalExponent || worth == NANO {
            return write!(f, "{}{suffix}", self.nanos / worth);
        }
        let exponent = DECIMAL.iter().position(|(s, _)| *s == suffix).unwrap_or(3);
        write!(
            f,
            "{}e{}",
            self.nanos / worth,
            i64::try_from(exponent).unwrap_or(3) * 3 - 9
        )
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn canonical_forms() {
        for (text, canonical) in [
            ("0", "0"),
            ("1000m", "1"),
            ("1500m", "1500m"),
            ("0.5", "500m"),
            ("1.5Gi", "1536Mi"),
            ("1024Ki", "1Mi"),
            ("1000", "1k"),
            ("100000", "100k"),
            ("128Mi", "128Mi"),
            ("512", "512"),
            ("1e3", "1e3"),
            ("1E", "1E"),
            ("12e6", "12e6"),
            ("-3", "-3"),
            ("0.5Ki", "512"),
            (".1n", "1n"),
            ("1.", "1"),
            ("0.0000000001", "1n"),
            ("+2", "2"),
        ] {
            assert_eq!(
                Quantity::parse(text).unwrap().to_string(),
                canonical,
                "{text}"
            );
        }
    }

    #[test]
    fn bad_texts() {
        for text in [
            "", ".", "1.2.3", "1x", "Ki", "1 Gi", "--1", "1e99", "1ee", "é", "1é",
        ] {
            assert!(Quantity::parse(text).is_err(), "{text:?}");
        }
        assert!(Quantity::parse(&"9".repeat(60)).is_err());
    }

    #[test]
    fn order_and_rounding() {
        let q = |t| Quantity::parse(t).unwrap();
        assert!(q("1Gi") > q("1G"));
        assert_eq!(q("1"), q("1000m"));
        assert_eq!(q("1500m").whole(), 2);
        assert_eq!(q("0.1").milli(), 100);
        assert!(!q("100m").is_whole());
    }
}
