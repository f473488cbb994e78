//! Why a container waits, in upstream's words.

use super::observed::{Image, ImageFailureKind, Observed};
use super::status::initialized;
use super::view::{View, image_of};
use k8s_openapi::api::core::v1::{Container, ContainerState, ContainerStateWaiting};

/// Why a container waits that never ran, or not with this image.
pub(super) fn first_wait(
    view: View<'_>,
    container: &Container,
    observed: &Observed,
) -> ContainerState {
    if let Some(state) = images_wait(view, container, observed) {
        return state;
    }
    let initializing = !view.inits().is_empty() && !initialized(view, observed);
    waiting(
        if initializing {
            "PodInitializing"
        } else {
            "ContainerCreating"
        },
        None,
    )
}

/// What is wrong with the images that a container needs.
pub(super) fn images_wait(
    view: View<'_>,
    container: &Container,
    observed: &Observed,
) -> Option<ContainerState> {
    // Upstream looks at volumes first.
    let mounted = view.mounted_images(container).map(|(_, image)| image);
    let mut images = mounted.chain([image_of(container)]);
    images.find_map(|image| image_wait(image, observed))
}

fn image_wait(image: &str, observed: &Observed) -> Option<ContainerState> {
    let (failure, announced) = match observed.images.get(image)? {
        Image::Failed {
            failure, announced, ..
        } => (failure, *announced),
        Image::Ensuring { failure, .. } => (failure.as_ref()?, true),
        Image::Ready(_) => return None,
    };
    let cause = &failure.message;
    let (reason, text) = match failure.kind {
        ImageFailureKind::Pull if announced => (
            "ImagePullBackOff",
            format!("Back-off pulling image \"{image}\": ErrImagePull: {cause}"),
        ),
        ImageFailureKind::Pull => ("ErrImagePull", cause.clone()),
        ImageFailureKind::Name => (
            "InvalidImageName",
            format!("Failed to apply default image tag \"{image}\": {cause}"),
        ),
        ImageFailureKind::Never => (
            "ErrImageNeverPull",
            format!("Container image \"{image}\" is not present with pull policy of Never"),
        ),
    };
    Some(waiting(reason, Some(text)))
}

pub(super) fn waiting(reason: &str, message: Option<String>) -> ContainerState {
    ContainerState {
        waiting: Some(ContainerStateWaiting {
            reason: Some(reason.to_owned()),
            message,
        }),
        ..ContainerState::default()
    }
}
