//! The power button, as an input device says it.
//!
//! An event is 24 bytes: time 16, type u16, code u16, value i32
//! (`linux/input.h`); devices that have no such key are not opened.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

const EVENT: usize = 24;
const EV_KEY: u16 = 1;
const KEY_POWER: u16 = 116;

/// Open devices by name; at most `DEVICES_MAX`, others are ignored.
#[derive(Default)]
pub(super) struct Buttons {
    open: BTreeMap<String, File>,
}

const DEVICES_MAX: usize = 16;

impl Buttons {
    /// Opens devices that are new; gives them to watch.
    pub(super) fn scan(&mut self) -> Vec<String> {
        let entries = std::fs::read_dir("/sys/class/input").into_iter().flatten();
        let mut fresh = Vec::new();
        for entry in entries.flatten() {
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            let known = self.open.contains_key(&name) || self.open.len() >= DEVICES_MAX;
            if known || !name.starts_with("event") || !has_power_key(&entry.path()) {
                continue;
            }
            let Ok(file) = File::open(format!("/dev/input/{name}")) else {
                continue;
            };
            if sys::process::set_nonblocking(&file).is_ok() {
                self.open.insert(name.clone(), file);
                fresh.push(name);
            }
        }
        fresh
    }

    pub(super) fn fd(&self, name: &str) -> Option<BorrowedFd<'_>> {
        self.open.get(name).map(AsFd::as_fd)
    }

    /// Whether the button was pressed since the last time.
    pub(super) fn pressed(&mut self) -> bool {
        let mut pressed = false;
        let mut gone = Vec::new();
        for (name, file) in &mut self.open {
            let mut buffer = [0; 16 * EVENT];
            match file.read(&mut buffer) {
                Ok(length) => pressed |= has_press(buffer.get(..length).unwrap_or_default()),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => gone.push(name.clone()),
            }
        }
        for name in gone {
            self.open.remove(&name);
        }
        pressed
    }
}

fn has_press(events: &[u8]) -> bool {
    events.chunks_exact(EVENT).any(|event| {
        let half = |at: usize| {
            let bytes = event.get(at..at + 2).and_then(|b| b.try_into().ok());
            bytes.map(u16::from_le_bytes)
        };
        half(16) == Some(EV_KEY) && half(18) == Some(KEY_POWER) && half(20) == Some(1)
    })
}

fn has_power_key(device: &Path) -> bool {
    let bitmap = std::fs::read_to_string(device.join("device/capabilities/key"));
    bitmap.is_ok_and(|bitmap| bit_of(&bitmap, KEY_POWER))
}

/// Words of 64 bits in hexadecimal, the lowest last.
fn bit_of(bitmap: &str, bit: u16) -> bool {
    let word = bitmap.split_ascii_whitespace().rev().nth((bit / 64).into());
    let word = word.and_then(|word| u64::from_str_radix(word, 16).ok());
    word.is_some_and(|word| word >> (bit % 64) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_in_bitmaps() {
        for (bitmap, wanted) in [
            ("10000000000000 0", true),
            ("1 10000000000000 0", true),
            ("10000000000000", false),
            ("8000 10000000000000 0 0", false),
            ("", false),
            ("x y", false),
        ] {
            assert_eq!(bit_of(bitmap, KEY_POWER), wanted, "{bitmap}");
        }
    }

    #[test]
    fn only_a_press_counts() {
        let event = |kind: u16, code: u16, value: i32| {
            let mut bytes = vec![0; 16];
            bytes.extend(kind.to_le_bytes());
            bytes.extend(code.to_le_bytes());
            bytes.extend(value.to_le_bytes());
            bytes
        };
        for (events, wanted) in [
            (event(1, 116, 1), true),
            (event(1, 116, 0), false),
            (event(0, 0, 0), false),
            ([event(0, 0, 0), event(1, 116, 1)].concat(), true),
            (event(1, 116, 1)[..23].to_vec(), false),
        ] {
            assert_eq!(has_press(&events), wanted);
        }
    }
}
