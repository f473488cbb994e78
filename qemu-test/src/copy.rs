//! `kubectl cp` into a container and out again: every bit is as it was.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::appliance::Appliance;
use crate::kubectl::Kubectl;

const BLOCK: usize = 1 << 20;

/// Copies so many MiB to `directory` in a pod and back, each within `patience`;
/// how long both took.
pub fn there_and_back(
    appliance: &Appliance,
    pod: &str,
    directory: &str,
    mib: u32,
    patience: Duration,
) -> Result<[Duration; 2]> {
    let here = tempfile::tempdir()?;
    let (sent, received) = (here.path().join("sent"), here.path().join("received"));
    write(&sent, mib)?;
    let inside = format!("{pod}:{directory}/copied");
    let there = copied(&appliance.kubectl, &show(&sent), &inside, patience)?;
    let back = copied(&appliance.kubectl, &inside, &show(&received), patience)?;
    ensure!(same(&sent, &received)?, "{mib} MiB came back changed");
    Ok([there, back])
}

fn show(path: &Path) -> String {
    path.display().to_string()
}

fn copied(kubectl: &Kubectl, from: &str, to: &str, patience: Duration) -> Result<Duration> {
    let began = Instant::now();
    let mut running = kubectl.start(&["cp", from, to])?;
    let ended = running.finish(patience)?;
    ensure!(ended.success(), "cp {from} {to}: {}", running.output());
    Ok(began.elapsed())
}

/// No two blocks are alike, nor does anything compress them (xorshift64).
fn write(path: &Path, mib: u32) -> Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..u64::from(mib) * (BLOCK as u64) / 8 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        file.write_all(&state.to_le_bytes())?;
    }
    Ok(file.flush()?)
}

fn same(one: &Path, other: &Path) -> Result<bool> {
    let size = one.metadata()?.len();
    if size != other.metadata()?.len() {
        return Ok(false);
    }
    let mut one = BufReader::new(File::open(one)?);
    let mut other = BufReader::new(File::open(other)?);
    let mut blocks = [vec![0; BLOCK], vec![0; BLOCK]];
    for _ in 0..size / BLOCK as u64 {
        one.read_exact(&mut blocks[0])?;
        other.read_exact(&mut blocks[1])?;
        if blocks[0] != blocks[1] {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_changed_bit_is_seen() {
        let here = tempfile::tempdir().unwrap();
        let [one, other] = ["one", "other"].map(|name| here.path().join(name));
        write(&one, 2).unwrap();
        let mut bytes = std::fs::read(&one).unwrap();
        for (at, bit, wanted) in [(0, 0, true), (2 * BLOCK - 1, 1, false), (BLOCK, 4, false)] {
            bytes[at] ^= bit;
            std::fs::write(&other, &bytes).unwrap();
            assert_eq!(same(&one, &other).unwrap(), wanted, "{at}");
            bytes[at] ^= bit;
        }
        std::fs::write(&other, &bytes[1..]).unwrap();
        assert!(!same(&one, &other).unwrap());
    }
}
