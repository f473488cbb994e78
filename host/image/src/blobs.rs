//! Blobs on disk: downloaded once, resumed, verified, then renamed.
//!
//! ```text
//! (nothing) ──GET──► .partial ──all bytes, digest fits──► fsync ─► rename ─► final
//!               ▲        │ cut: Range from where it ends
//!               └────────┘ wrong digest: removed
//! ```
//!
//! A `.partial` file is only a claim: its bytes are hashed again before they
//! are continued, also after a crash. At most `limits.parallelDownloads`
//! blobs are on the wire; the others wait their turn in the order they came.

use std::collections::HashMap;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::fs::{File, OpenOptions};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::Semaphore;

use crate::config::{Limits, Timeouts};
use crate::digest::Digest;
use crate::error::{Failure, Kind};
use crate::images::blocking;
use crate::manifest::Blob;
use crate::registry::Session;
use crate::store::{Layout, remove_if_there, sync_dir};

/// Progress that makes a try count as a success of its own.
const PROGRESS: u64 = 1 << 20;

type Gate = tokio::sync::Mutex<()>;

/// A blob that a pull works with.
pub(crate) struct Held {
    _gate: Arc<Gate>,
}

pub(crate) struct Blobs {
    layout: Layout,
    timeouts: Timeouts,
    wire: Semaphore,
    /// One download of a digest at a time; entries die with their users.
    gates: Mutex<HashMap<Digest, Weak<Gate>>>,
}

impl Blobs {
    pub(crate) fn new(layout: Layout, limits: &Limits, timeouts: Timeouts) -> Blobs {
        Blobs {
            layout,
            timeouts,
            wire: Semaphore::new(limits.parallel_downloads),
            gates: Mutex::new(HashMap::new()),
        }
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.layout.blobs().join(digest.hex())
    }

    /// Keeps blobs from being removed, until what it gives is dropped.
    pub(crate) fn hold(&self, digests: impl Iterator<Item = Digest>) -> Vec<Held> {
        digests
            .map(|digest| Held {
                _gate: self.gate(&digest),
            })
            .collect()
    }

    /// Removes a blob, or a part of one, unless a pull works with it: whoever
    /// looks for it has its gate, and waits for its turn. Blocks on the disk.
    pub(crate) fn discard(&self, digest: &Digest, path: &Path) -> io::Result<u64> {
        let gate = self.gate(digest);
        let Ok(_turn) = gate.try_lock() else {
            return Ok(0);
        };
        if Arc::strong_count(&gate) > 1 {
            return Ok(0);
        }
        let freed = std::fs::metadata(path).map_or(0, |found| found.len());
        remove_if_there(path)?;
        Ok(freed)
    }

    fn gate(&self, digest: &Digest) -> Arc<Gate> {
        let mut gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        gates.retain(|_, gate| gate.strong_count() > 0);
        if let Some(gate) = gates.get(digest).and_then(Weak::upgrade) {
            return gate;
        }
        let gate = Arc::new(Gate::new(()));
        gates.insert(*digest, Arc::downgrade(&gate));
        gate
    }

    /// The verified file of a blob.
    pub(crate) async fn fetch(&self, session: &Session, blob: &Blob) -> Result<PathBuf, Failure> {
        let gate = self.gate(&blob.digest);
        let _turn = gate.lock().await;
        let path = self.path(&blob.digest);
        match tokio::fs::metadata(&path).await {
            Ok(m) if m.len() == blob.size => return Ok(path),
            Ok(m) => {
                let message = format!("{} has {} bytes, not {}", blob.digest, m.len(), blob.size);
                return Err(Failure::new(Kind::Digest, message));
            }
            Err(_) => {}
        }
        let _permit = self.wire.acquire().await.map_err(Failure::unavailable)?;
        self.download(session, blob, &path).await?;
        Ok(path)
    }

    async fn download(&self, session: &Session, blob: &Blob, path: &Path) -> Result<(), Failure> {
        let partial = path.with_extension("partial");
        let mut tries = 0;
        let mut backoff = Duration::from_millis(self.timeouts.backoff_millis);
        loop {
            let mut progress = 0;
            let outcome = attempt(session, blob, &partial, &mut progress).await;
            let failure = match outcome {
                Ok(()) => return commit(&partial, path).await,
                Err(failure) => failure,
            };
            if progress >= PROGRESS {
                tries = 0;
                backoff = Duration::from_millis(self.timeouts.backoff_millis);
            }
            tries += 1;
            let retry = matches!(failure.kind, Kind::Unavailable);
            if !retry || tries >= self.timeouts.attempts {
                let message = format!("failed to copy layer {}: {failure}", blob.digest);
                return Err(Failure::new(failure.kind, message));
            }
            log::info!("image: {}: {failure}; trying again", blob.digest);
            tokio::time::sleep(backoff).await;
            backoff = (backoff * 2).min(Duration::from_millis(self.timeouts.backoff_max_millis));
        }
    }
}

/// One connection's worth of a blob.
async fn attempt(
    session: &Session,
    blob: &Blob,
    partial: &Path,
    progress: &mut u64,
) -> Result<(), Failure> {
    let (mut hash, mut have) = prefix(partial, blob.size).await?;
    let failed = |e: &io::Error| Failure::io("writing a blob", e);
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(partial)
        .await
        .map_err(|e| failed(&e))?;
    let resumed = have > 0;
    if have < blob.size || !resumed {
        let (mut body, start) = session.blob(&blob.digest, have).await?;
        if start != have {
            file.set_len(0).await.map_err(|e| failed(&e))?;
            (hash, have) = (Sha256::new(), 0);
        }
        let result = copy(
            &mut body, &mut file, &mut hash, &mut have, blob.size, progress,
        )
        .await;
        // What came is kept for the next try, whatever ended this one.
        file.flush().await.map_err(|e| failed(&e))?;
        result?;
    }
    let digest = Digest::from_bytes(hash.finalize().into());
    if have == blob.size && digest == blob.digest {
        return file.sync_all().await.map_err(|e| failed(&e));
    }
    drop(file);
    if have < blob.size {
        let message = format!("unexpected EOF after {have} of {} bytes", blob.size);
        return Err(Failure::unavailable(message));
    }
    tokio::fs::remove_file(partial)
        .await
        .map_err(|e| failed(&e))?;
    let message = format!(
        "unexpected commit digest {digest}, expected {}",
        blob.digest
    );
    // The prefix may be a crash's leftover: then the blob gets another try.
    let kind = if resumed {
        Kind::Unavailable
    } else {
        Kind::Digest
    };
    Err(Failure::new(kind, message))
}

async fn copy(
    body: &mut crate::registry::Body,
    file: &mut File,
    hash: &mut Sha256,
    have: &mut u64,
    size: u64,
    progress: &mut u64,
) -> Result<(), Failure> {
    while let Some(chunk) = body.chunk().await? {
        let length = chunk.len() as u64;
        if *have + length > size {
            let message = format!("more than the {size} bytes of its descriptor");
            return Err(Failure::new(Kind::Digest, message));
        }
        hash.update(&chunk);
        file.write_all(&chunk)
            .await
            .map_err(|e| Failure::io("writing a blob", &e))?;
        *have += length;
        *progress += length;
    }
    Ok(())
}

/// The hash of what is there already; more than the blob can have is
/// thrown away.
async fn prefix(partial: &Path, size: u64) -> Result<(Sha256, u64), Failure> {
    let path = partial.to_owned();
    blocking(move || {
        let mut hash = Sha256::new();
        let mut file = match std::fs::File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok((hash, 0)),
            Err(e) => return Err(e),
        };
        let mut have = 0_u64;
        let mut buffer = vec![0; 256 << 10];
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                n => {
                    hash.update(&buffer[..n]);
                    have += n as u64;
                }
            }
        }
        if have > size {
            remove_if_there(&path)?;
            return Ok((Sha256::new(), 0));
        }
        Ok((hash, have))
    })
    .await
    .map_err(|e| Failure::io("reading a partial blob", &e))
}

async fn commit(partial: &Path, path: &Path) -> Result<(), Failure> {
    let (partial, path) = (partial.to_owned(), path.to_owned());
    blocking(move || {
        std::fs::rename(&partial, &path)?;
        path.parent().map_or(Ok(()), sync_dir)
    })
    .await
    .map_err(|e| Failure::io("committing a blob", &e))
}
