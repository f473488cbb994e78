//! What a pod is called within itself, by upstream's rules
//! (`GeneratePodHostNameAndDomain`, `GetNodenameForKernel`; KEP-4762).

use super::environment::ConfigError;
use super::view::View;

/// `HOST_NAME_MAX` of Linux less the byte that ends it.
const HOST_MAX: usize = 63;
/// What the kernel's field for it holds.
const KERNEL_MAX: usize = 64;
const CLUSTER_DOMAIN: &str = "cluster.local";

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Names {
    pub(crate) host: String,
    /// Empty without a subdomain.
    domain: String,
    as_full: bool,
}

impl Names {
    /// `hostnameOverride` alone, or `hostname` (the pod's name without it, cut to
    /// what Linux allows) within the domain that `subdomain` makes.
    pub(crate) fn of(view: View<'_>) -> Self {
        fn given(text: Option<&String>) -> Option<&str> {
            text.map(String::as_str).filter(|text| !text.is_empty())
        }
        let spec = view.spec();
        if let Some(own) = given(spec.and_then(|s| s.hostname_override.as_ref())) {
            return Self {
                host: own.to_owned(),
                domain: String::new(),
                as_full: false,
            };
        }
        let name = given(spec.and_then(|s| s.hostname.as_ref())).unwrap_or_else(|| view.name());
        let cut = name
            .get(..HOST_MAX)
            .map(|cut| cut.trim_end_matches(['-', '.']));
        let domain = given(spec.and_then(|s| s.subdomain.as_ref()))
            .map(|subdomain| format!("{subdomain}.{}.svc.{CLUSTER_DOMAIN}", view.namespace()));
        Self {
            host: cut.unwrap_or(name).to_owned(),
            domain: domain.unwrap_or_default(),
            as_full: spec.and_then(|s| s.set_hostname_as_fqdn) == Some(true),
        }
    }

    /// The name with its domain, if there is one.
    pub(crate) fn full(&self) -> Option<String> {
        (!self.domain.is_empty()).then(|| format!("{}.{}", self.host, self.domain))
    }

    /// The name that the kernel has: `hostname`, `$HOSTNAME`, `/etc/hostname`.
    ///
    /// # Errors
    /// With `setHostnameAsFQDN`: the kernel has no room for it.
    pub(crate) fn of_kernel(&self) -> Result<String, ConfigError> {
        let Some(full) = self.full().filter(|_| self.as_full) else {
            return Ok(self.host.clone());
        };
        if full.len() > KERNEL_MAX {
            return Err(ConfigError(format!(
                "failed to construct FQDN from pod hostname and cluster domain, FQDN {full} is \
                 too long ({KERNEL_MAX} characters is the max, {} characters requested)",
                full.len()
            )));
        }
        Ok(full)
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::pod;
    use super::*;
    use serde_json::{Value, json};

    fn check(spec: Value, full: Option<&str>, kernel: Result<&str, &str>) {
        let mut all = json!({"containers": []});
        for (key, value) in spec.as_object().expect("an object") {
            all[key] = value.clone();
        }
        let pod = pod(all);
        let names = Names::of(View(&pod));
        assert_eq!(names.full().as_deref(), full, "{spec}");
        let found = names.of_kernel().map_err(|error| error.0);
        let kernel = kernel.map(str::to_owned).map_err(str::to_owned);
        assert_eq!(found, kernel, "{spec}");
    }

    #[test]
    fn names_are_upstreams() {
        let (long, cut) = ("a".repeat(62) + "-bcd", "a".repeat(62));
        check(json!({}), None, Ok("web"));
        check(json!({"hostname": "h"}), None, Ok("h"));
        check(json!({"hostname": long}), None, Ok(&cut));
        let full = "web.db.default.svc.cluster.local";
        check(json!({"subdomain": "db"}), Some(full), Ok("web"));
        check(
            json!({"subdomain": "db", "setHostnameAsFQDN": true}),
            Some(full),
            Ok(full),
        );
        check(json!({"setHostnameAsFQDN": true}), None, Ok("web"));
        let full = format!("web.{}.default.svc.cluster.local", "d".repeat(35));
        let why = format!(
            "failed to construct FQDN from pod hostname and cluster domain, FQDN {full} is too \
             long (64 characters is the max, 65 characters requested)"
        );
        check(
            json!({"subdomain": "d".repeat(35), "setHostnameAsFQDN": true}),
            Some(&full),
            Err(&why),
        );
        check(
            json!({"hostnameOverride": "a.example.org", "hostname": "h", "subdomain": "db"}),
            None,
            Ok("a.example.org"),
        );
    }
}
