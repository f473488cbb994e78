//! `atoll config-check`: parses the machine config, as a process of its own.
//!
//! For people: reads YAML from standard input and says what is wrong with it.
//! For `init` (`--for-init`): writes each role's part into descriptors 3, 4, 5
//! and the fixed layout of a `Decision` to standard output; a document that
//! can't be used is told on standard error, and defaults are written.

use super::derive::{Derived, default_node_name, derive};
use super::{ConfigError, LENGTH_MAX, MachineConfig, defaults, parse};
use crate::logging;
use base64::Engine;
use serde_json::Value;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::ExitCode;

const CONTROL: i32 = 3;
const NODE: i32 = 4;
const FABRIC: i32 = 5;

/// Words: `--for-init`, `--defaults`, `--base64`.
pub(crate) fn main(words: &[&str]) -> ExitCode {
    let has = |word: &str| words.contains(&word);
    logging::start("config");
    let parsed = if has("--defaults") {
        Ok(defaults())
    } else {
        read(has("--base64"))
    };
    if has("--for-init") {
        return for_init(parsed);
    }
    match parsed {
        Ok(_) => {
            println!("the machine config is valid");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn for_init(parsed: Result<MachineConfig, ConfigError>) -> ExitCode {
    let broken = parsed.is_err();
    let config = parsed.unwrap_or_else(|error| {
        log::error!("machine config: {error}");
        defaults()
    });
    let name = default_node_name(Path::new("/sys/class/net"));
    let mut derived = derive(&config, &name);
    derived.decision.broken = broken;
    match hand_over(&derived) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error!("machine config: {error}");
            ExitCode::FAILURE
        }
    }
}

fn read(base64: bool) -> Result<MachineConfig, ConfigError> {
    let mut bytes = Vec::new();
    io::stdin()
        .lock()
        .take(LENGTH_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| ConfigError(format!("read: {error}")))?;
    decode(bytes, base64)
}

/// From what a source holds to a checked config.
pub(super) fn decode(bytes: Vec<u8>, base64: bool) -> Result<MachineConfig, ConfigError> {
    if bytes.len() as u64 > LENGTH_MAX {
        return Err(ConfigError(format!("longer than {LENGTH_MAX} bytes")));
    }
    if !base64 {
        return parse(&bytes);
    }
    let engine = base64::engine::general_purpose::STANDARD;
    let document = engine
        .decode(bytes.trim_ascii())
        .map_err(|error| ConfigError(format!("atoll.config: not base64: {error}")))?;
    parse(&document)
}

fn hand_over(derived: &Derived) -> io::Result<()> {
    write_json(CONTROL, &derived.control)?;
    write_json(NODE, &derived.node)?;
    write_json(FABRIC, &derived.fabric)?;
    let bytes = derived.decision.encode();
    let bytes = bytes.ok_or_else(|| io::Error::other("a name is too long"))?;
    io::stdout().write_all(&bytes)?;
    io::stdout().flush()
}

fn write_json(number: i32, value: &Value) -> io::Result<()> {
    let mut file = File::from(sys::inherit::take(number)?);
    serde_json::to_writer_pretty(&mut file, value)?;
    file.flush()
}
