//! A pod's images: asked for, there, failed, backing off.

use super::super::backoff::{Backoff, go_duration};
use super::super::observed::{
    Image, ImageFailure, ImageFailureKind, ImageInfo, Machine, Note, Observed, Pull,
};
use super::super::view::{View, field_path};
use jiff::Timestamp;

impl Observed {
    pub(super) fn begin_image(&mut self, image: &str, now: Timestamp) {
        let pulling = false;
        let (backoff, failure) = match self.images.get(image) {
            Some(Image::Failed {
                failure,
                at,
                backoff,
                ..
            }) => {
                let mut backoff = *backoff;
                backoff.next(*at, now);
                (backoff, Some(failure.clone()))
            }
            Some(Image::Ensuring {
                backoff, failure, ..
            }) => (*backoff, failure.clone()),
            Some(Image::Ready(_)) | None => (Backoff::default(), None),
        };
        let ensuring = Image::Ensuring {
            backoff,
            failure,
            pulling,
        };
        self.images.insert(image.to_owned(), ensuring);
    }

    pub(super) fn image_ready(
        &mut self,
        view: View<'_>,
        image: String,
        info: ImageInfo,
        pull: Option<Pull>,
    ) -> Vec<Note> {
        let message = pulled_message(&image, pull);
        self.images.insert(image.clone(), Image::Ready(info));
        self.pulled.insert(image.clone());
        about_image(view, &image, "Pulled", message)
    }

    pub(super) fn image_gone(&mut self, image: &str) {
        self.images.remove(image);
        if self.machine == Machine::Launching {
            self.machine = Machine::Absent;
        }
    }

    pub(super) fn image_failed(
        &mut self,
        view: View<'_>,
        image: String,
        failure: ImageFailure,
        now: Timestamp,
    ) -> Vec<Note> {
        let mut backoff = match self.images.get(&image) {
            Some(Image::Ensuring { backoff, .. }) => *backoff,
            _ => Backoff::default(),
        };
        // An image is not retried at once: its first delay is 10 s.
        if backoff.delay(now).is_none() {
            backoff.next(now, now);
        }
        let message = &failure.message;
        let (first, second) = match failure.kind {
            ImageFailureKind::Pull => (
                Note::warning(
                    "Failed",
                    format!("Failed to pull image \"{image}\": {message}"),
                ),
                "Error: ErrImagePull",
            ),
            ImageFailureKind::Name => {
                let text = format!("Failed to apply default image tag \"{image}\": {message}");
                (
                    Note::warning("InspectFailed", text),
                    "Error: InvalidImageName",
                )
            }
            ImageFailureKind::Never => {
                let text =
                    format!("Container image \"{image}\" is not present with pull policy of Never");
                (
                    Note::warning("ErrImageNeverPull", text),
                    "Error: ErrImageNeverPull",
                )
            }
        };
        let mut notes = vec![first.at(image_path(view, &image))];
        notes.extend(waiting(view, &image, second));
        self.images.insert(
            image,
            Image::Failed {
                failure,
                at: now,
                backoff,
                announced: false,
            },
        );
        notes
    }

    pub(super) fn image_pulling(&mut self, view: View<'_>, image: &str) -> Vec<Note> {
        if let Some(Image::Ensuring { pulling, .. }) = self.images.get_mut(image) {
            *pulling = true;
        }
        about_image(view, image, "Pulling", format!("Pulling image \"{image}\""))
    }

    pub(super) fn announce_image(&mut self, view: View<'_>, image: &str) -> Vec<Note> {
        if let Some(Image::Failed { announced, .. }) = self.images.get_mut(image) {
            *announced = true;
        }
        let text = format!("Back-off pulling image \"{image}\"");
        let mut notes = vec![Note::normal("BackOff", text).at(image_path(view, image))];
        notes.extend(waiting(view, image, "Error: ImagePullBackOff"));
        notes
    }
}

pub(super) fn pulled_message(image: &str, pull: Option<Pull>) -> String {
    match pull {
        Some(Pull { took, size }) => {
            let took = go_duration(took);
            format!(
                "Successfully pulled image \"{image}\" in {took} ({took} including waiting). \
                 Image size: {size} bytes."
            )
        }
        None => format!(
            "Container image \"{image}\" already present on machine and can be accessed by the pod"
        ),
    }
}

fn about_image(view: View<'_>, image: &str, reason: &'static str, message: String) -> Vec<Note> {
    vec![Note::normal(reason, message).at(image_path(view, image))]
}

/// The first container that runs `image`; none for the pod, whose volume it is.
fn image_path(view: View<'_>, image: &str) -> Option<String> {
    view.containers()
        .find(|(_, c)| c.image.as_deref() == Some(image))
        .map(|(role, c)| field_path(role, &c.name))
}

/// Says of the containers that wait for `image` what is wrong: of the one that
/// runs it, or of each that mounts it.
fn waiting(view: View<'_>, image: &str, what: &str) -> Vec<Note> {
    let note = |path| Note::warning("Failed", what.to_owned()).at(Some(path));
    if let Some(path) = image_path(view, image) {
        return vec![note(path)];
    }
    let mounting = view.containers().filter(|(_, container)| {
        let mut mounted = view.mounted_images(container);
        mounted.any(|(_, own)| own == image)
    });
    let paths = mounting.map(|(role, container)| field_path(role, &container.name));
    paths.map(note).collect()
}
