//! Encoded events, made once for all watchers that get the same bytes.
//!
//! Owns a bounded cache: the oldest frames go when `MOST_BYTES` or `MOST` are
//! exceeded, and whoever still needs one makes it again.

use crate::negotiate::Media;
use bytes::Bytes;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

const MOST: usize = 2048;
const MOST_BYTES: usize = 4 << 20;

/// What tells one frame from another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct FrameKey {
    pub(crate) revision: u64,
    pub(crate) key: Bytes,
    /// The view of the object: its resource's group, version and name.
    pub(crate) resource: Arc<str>,
    pub(crate) media: Media,
    /// ADDED, MODIFIED, DELETED.
    pub(crate) event: &'static str,
}

#[derive(Debug, Default)]
struct Kept {
    frames: HashMap<FrameKey, Bytes>,
    order: VecDeque<FrameKey>,
    bytes: usize,
}

#[derive(Debug, Default)]
pub(crate) struct Frames(Mutex<Kept>);

impl Frames {
    /// The frame of `key`, which `make` makes unless another watcher did.
    pub(crate) fn get<E>(
        &self,
        key: FrameKey,
        make: impl FnOnce() -> Result<Bytes, E>,
    ) -> Result<Bytes, E> {
        if let Some(found) = self.lock().frames.get(&key) {
            return Ok(found.clone());
        }
        let made = make()?;
        let mut kept = self.lock();
        if made.len() <= MOST_BYTES / 4 && !kept.frames.contains_key(&key) {
            kept.bytes += made.len();
            kept.order.push_back(key.clone());
            kept.frames.insert(key, made.clone());
            while kept.bytes > MOST_BYTES || kept.order.len() > MOST {
                let Some(oldest) = kept.order.pop_front() else {
                    break;
                };
                if let Some(gone) = kept.frames.remove(&oldest) {
                    kept.bytes -= gone.len();
                }
            }
        }
        Ok(made)
    }

    /// A panic while it was held left at most a frame too few.
    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(frames: &Frames, revision: u64, made: &mut usize) -> Bytes {
        let key = FrameKey {
            revision,
            key: Bytes::from_static(b"/registry/core/pods/a"),
            resource: "v1/pods".into(),
            media: Media::Json,
            event: "ADDED",
        };
        let make = || {
            *made += 1;
            Ok::<_, std::convert::Infallible>(vec![0; 1000].into())
        };
        frames.get(key, make).unwrap()
    }

    #[test]
    fn a_frame_is_made_once_and_memory_is_bounded() {
        let (frames, mut made) = (Frames::default(), 0);
        for revision in [1, 1, 2, 1] {
            frame(&frames, revision, &mut made);
        }
        assert_eq!(made, 2);
        for revision in 0..10_000 {
            frame(&frames, revision, &mut made);
        }
        let kept = frames.lock();
        assert!(kept.bytes <= MOST_BYTES && kept.frames.len() <= MOST);
        assert_eq!(kept.frames.len(), kept.order.len());
    }
}
