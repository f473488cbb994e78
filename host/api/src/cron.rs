//! Schedules as cron writes them: whether a text is one, in the words of
//! upstream's parser (robfig/cron v3, `ParseStandard`).

const MONTHS: &[&str] = &[
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];
const DAYS: &[&str] = &["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
const DESCRIPTORS: &[&str] = &[
    "@yearly",
    "@annually",
    "@monthly",
    "@weekly",
    "@daily",
    "@midnight",
    "@hourly",
];

/// Bounds of a field, and names for its values, the first of which is `min`.
struct Bounds {
    min: u32,
    max: u32,
    names: &'static [&'static str],
}

/// Minute, hour, day of month, month, day of week.
const FIELDS: [Bounds; 5] = [
    Bounds {
        min: 0,
        max: 59,
        names: &[],
    },
    Bounds {
        min: 0,
        max: 23,
        names: &[],
    },
    Bounds {
        min: 1,
        max: 31,
        names: &[],
    },
    Bounds {
        min: 1,
        max: 12,
        names: MONTHS,
    },
    Bounds {
        min: 0,
        max: 6,
        names: DAYS,
    },
];

/// Five fields, or a descriptor as `@daily` or `@every 1h`.
pub fn check(text: &str) -> Result<(), String> {
    if text.starts_with('@') {
        return check_descriptor(text);
    }
    let fields: Vec<&str> = text.split_whitespace().collect();
    if fields.len() != FIELDS.len() {
        return Err(format!(
            "expected exactly 5 fields, found {}: [{}]",
            fields.len(),
            fields.join(" ")
        ));
    }
    for (field, bounds) in fields.iter().zip(&FIELDS) {
        for part in field.split(',') {
            check_range(part, bounds)?;
        }
    }
    Ok(())
}

fn check_descriptor(text: &str) -> Result<(), String> {
    if DESCRIPTORS.contains(&text) {
        return Ok(());
    }
    match text.strip_prefix("@every ") {
        Some(duration) if is_duration(duration) => Ok(()),
        Some(_) => Err(format!("failed to parse duration {text}")),
        None => Err(format!("unrecognized descriptor: {text}")),
    }
}

/// Go's durations: `1h30m`, `1.5s`.
fn is_duration(text: &str) -> bool {
    let mut rest = text.strip_prefix(['+', '-']).unwrap_or(text);
    if rest == "0" {
        return true;
    }
    let mut any = false;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        if number.parse::<f64>().is_err() {
            return false;
        }
        let Some(tail) = ["ns", "us", "µs", "ms", "s", "m", "h"]
            .iter()
            .find_map(|u| tail.strip_prefix(u))
        else {
            return false;
        };
        any = true;
        rest = tail;
    }
    any
}

/// `*`, `?`, `n`, `n-m`, each with `/step`.
fn check_range(part: &str, bounds: &Bounds) -> Result<(), String> {
    let mut slashes = part.split('/');
    let (range, step) = (slashes.next().unwrap_or_default(), slashes.next());
    if slashes.next().is_some() {
        return Err(format!("too many slashes: {part}"));
    }
    let mut ends = range.split('-');
    let (low, high) = (ends.next().unwrap_or_default(), ends.next());
    if ends.next().is_some() {
        return Err(format!("too many hyphens: {part}"));
    }
    let (start, end) = match (low, high) {
        ("*" | "?", _) => (bounds.min, bounds.max),
        (low, None) if step.is_some() => (value(low, bounds)?, bounds.max),
        (low, None) => {
            let n = value(low, bounds)?;
            (n, n)
        }
        (low, Some(high)) => (value(low, bounds)?, value(high, bounds)?),
    };
    if start < bounds.min {
        return Err(format!(
            "beginning of range ({start}) below minimum ({}): {part}",
            bounds.min
        ));
    }
    if end > bounds.max {
        return Err(format!(
            "end of range ({end}) above maximum ({}): {part}",
            bounds.max
        ));
    }
    if start > end {
        return Err(format!(
            "beginning of range ({start}) beyond end of range ({end}): {part}"
        ));
    }
    match step.map(number) {
        Some(Err(why)) => Err(why),
        Some(Ok(0)) => Err(format!("step of range should be a positive number: {part}")),
        Some(Ok(_)) | None => Ok(()),
    }
}

fn value(text: &str, bounds: &Bounds) -> Result<u32, String> {
    let lower = text.to_lowercase();
    match bounds.names.iter().position(|n| *n == lower) {
        Some(i) => Ok(bounds.min + u32::try_from(i).unwrap_or(0)),
        None => number(text),
    }
}

fn number(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| {
        format!("failed to parse int from {text}: strconv.Atoi: parsing {text:?}: invalid syntax")
    })
}

/// Zones without an area.
const PLAIN: &[&str] = &[
    "UTC",
    "GMT",
    "EST",
    "MST",
    "HST",
    "CET",
    "MET",
    "EET",
    "WET",
    "Zulu",
    "UCT",
    "Universal",
    "Greenwich",
    "Japan",
    "Singapore",
    "Israel",
    "Turkey",
    "Egypt",
    "Iran",
    "Cuba",
    "Jamaica",
    "Iceland",
    "Poland",
    "Portugal",
    "Eire",
    "GB",
    "NZ",
    "PRC",
    "ROC",
    "ROK",
    "Hongkong",
    "Libya",
    "Navajo",
    "EST5EDT",
    "CST6CDT",
    "MST7MDT",
    "PST8PDT",
    "W-SU",
    "Kwajalein",
    "GB-Eire",
    "NZ-CHAT",
    "GMT0",
    "GMT+0",
    "GMT-0",
];

/// Areas that zones lie in.
const AREAS: &[&str] = &[
    "Africa",
    "America",
    "Antarctica",
    "Arctic",
    "Asia",
    "Atlantic",
    "Australia",
    "Brazil",
    "Canada",
    "Chile",
    "Etc",
    "Europe",
    "Indian",
    "Mexico",
    "Pacific",
    "US",
];

/// Whether a text has the form of a name in the time zone database.
pub fn is_zone_name(text: &str) -> bool {
    if PLAIN.contains(&text) {
        return true;
    }
    let Some((area, place)) = text.split_once('/') else {
        return false;
    };
    AREAS.contains(&area)
        && text.len() <= 64
        && place.split('/').all(|part| {
            part.starts_with(|c: char| c.is_ascii_uppercase())
                && part
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'+'))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_are_judged_as_upstream_judges_them() {
        for (text, wanted) in [
            ("* * * * ?", ""),
            ("*/5 1-3,7 1 jan-MAR mon", ""),
            ("0 0 29 2 0", ""),
            ("@hourly", ""),
            ("@every 1h30m", ""),
            ("@often", "unrecognized descriptor: @often"),
            ("@every x", "failed to parse duration @every x"),
            ("* * * *", "expected exactly 5 fields, found 4: [* * * *]"),
            ("60 * * * *", "end of range (60) above maximum (59): 60"),
            ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
            (
                "5-1 * * * *",
                "beginning of range (5) beyond end of range (1): 5-1",
            ),
            (
                "*/0 * * * *",
                "step of range should be a positive number: */0",
            ),
            ("1/2/3 * * * *", "too many slashes: 1/2/3"),
            (
                "error * * * *",
                "failed to parse int from error: strconv.Atoi: parsing \"error\": invalid syntax",
            ),
        ] {
            assert_eq!(check(text).err().unwrap_or_default(), wanted, "{text}");
        }
        for (zone, known) in [
            ("UTC", true),
            ("America/Argentina/Buenos_Aires", true),
            ("Etc/GMT+5", true),
            ("Mars/Base", false),
            ("../etc/passwd", false),
        ] {
            assert_eq!(is_zone_name(zone), known, "{zone}");
        }
    }
}
