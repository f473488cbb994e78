//! Which images the disks of a pod's machine hold.
//!
//! A number is given once: what a machine has stays until its end, whatever the
//! pod says later.

use super::observed::Observed;
use super::view::View;
use serde::{Deserialize, Serialize};

/// The most images of a machine at its start. It has 14 slots for disks, and
/// may need one for its scratch disk.
const FIRST_MAX: usize = 13;

/// Disk `img<N>` has the N-th image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Disks {
    images: Vec<String>,
    /// How many were there at its start. Whoever starts a container of another
    /// attaches that first.
    first: usize,
}

impl Disks {
    /// Of a new machine: as many as it takes.
    fn new<'a>(images: impl Iterator<Item = &'a str>) -> Self {
        let mut disks = Self::default();
        images.for_each(|image| disks.add(image));
        disks.images.truncate(FIRST_MAX);
        disks.first = disks.images.len();
        disks
    }

    /// The images at the start of the machine, with the names of their disks.
    pub(crate) fn first(&self) -> impl Iterator<Item = (String, &str)> {
        let first = self.images.iter().take(self.first);
        first.enumerate().map(|(at, image)| (name(at), &**image))
    }

    /// The name of an image's disk, and whether it is to be attached.
    pub(crate) fn of(&self, image: &str) -> Option<(String, bool)> {
        let at = self.images.iter().position(|own| own == image)?;
        Some((name(at), at >= self.first))
    }

    pub(super) fn add(&mut self, image: &str) {
        if !self.images.iter().any(|own| own == image) {
            self.images.push(image.to_owned());
        }
    }
}

/// The serial of a disk.
fn name(at: usize) -> String {
    format!("img{at}")
}

impl Observed {
    /// A new machine gets the images that are there.
    pub(super) fn begin_disks(&mut self, view: View<'_>) {
        let all = view.containers().map(|(_, container)| container);
        let ready = all.filter(|container| self.has_images(view, container));
        self.disks = Disks::new(ready.flat_map(|container| view.needed_images(container)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_stays() {
        let mut disks = Disks::new(["a", "b", "a"].into_iter());
        for image in ["c", "a", "d", "c"] {
            disks.add(image);
        }
        let first: Vec<_> = disks.first().collect();
        assert_eq!(first, [("img0".to_owned(), "a"), ("img1".to_owned(), "b")]);
        assert_eq!(disks.of("b"), Some(("img1".to_owned(), false)));
        assert_eq!(disks.of("d"), Some(("img3".to_owned(), true)));
        assert_eq!(disks.of("e"), None);
    }
}
