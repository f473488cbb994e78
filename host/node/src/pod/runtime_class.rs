//! RuntimeClasses: which ones pods may have on this node.

/// What RuntimeClasses call the way in which pods run here.
pub(crate) const HANDLER: &str = "atoll";

/// The class that a pod names, with the handler that stands in it, if it is there.
///
/// # Errors
/// Why no container of the pod starts.
pub(crate) fn check(class: &str, handler: Option<&str>) -> Result<(), String> {
    match handler {
        Some(HANDLER) => Ok(()),
        Some(other) => Err(format!(
            "RuntimeClass \"{class}\": no runtime for \"{other}\" is configured, only \"{HANDLER}\""
        )),
        None => Err(format!(
            "failed to get sandbox runtime: RuntimeClass.node.k8s.io \"{class}\" not found"
        )),
    }
}
