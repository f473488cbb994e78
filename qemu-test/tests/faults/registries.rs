//! The registry is down, slow, answers garbage, breaks off.

use std::time::Duration;

use anyhow::{Result, ensure};
use qemu_test::appliance::Appliance;
use qemu_test::faulty::{Fault, LOGIN};
use qemu_test::pod::Pod;
use serde_json::json;

use crate::unharmed;

pub(crate) fn registries_that_misbehave(appliance: &mut Appliance) -> Result<()> {
    for (name, fault, part) in [
        ("down", Fault::Down, ""),
        ("garbage", Fault::Garbage, ""),
        ("digest", Fault::WrongDigest, "digest"),
        ("truncated", Fault::Truncated, ""),
    ] {
        appliance.faulty.set(fault);
        // nginx and redis are in no cache yet.
        let image = format!("{}/redis", appliance.faulty.host());
        appliance.create(&Pod::new(name, &image, &["/bin/true"]))?;
        let message = appliance.until_event_with(name, "Failed", &image)?;
        ensure!(message.contains(part), "{name}: {message}");
        unharmed(appliance)?;
        appliance.faulty.set(Fault::None);
        appliance.delete(name)?;
    }
    Ok(())
}

pub(crate) fn a_slow_and_breaking_registry_is_enough(appliance: &mut Appliance) -> Result<()> {
    for (name, image, fault) in [
        ("slow", "busybox", Fault::Slow(Duration::from_secs(3))),
        ("breaking", "redis", Fault::Broken),
    ] {
        appliance.faulty.set(fault);
        let image = format!("{}/{image}", appliance.faulty.host());
        appliance.create(&Pod::new(name, &image, &["/bin/true"]))?;
        appliance.until_phase(name, "Succeeded")?;
        appliance.faulty.set(Fault::None);
        appliance.delete(name)?;
    }
    Ok(())
}

pub(crate) fn a_registry_that_comes_back(appliance: &mut Appliance) -> Result<()> {
    appliance.faulty.set(Fault::Down);
    let image = format!("{}/nginx", appliance.faulty.host());
    appliance.create(&Pod::new("patient", &image, &["/bin/true"]))?;
    appliance.until_event("patient", "Failed")?;
    appliance.faulty.set(Fault::None);
    appliance.until_phase("patient", "Succeeded")?;
    appliance.delete("patient")
}

/// Without a Secret it is refused and says so; with the right one it is pulled.
pub(crate) fn a_private_registry(appliance: &mut Appliance) -> Result<()> {
    appliance.faulty.set(Fault::Private);
    let host = appliance.faulty.host();
    let image = format!("{host}/busybox");
    let pod = |name: &str| {
        Pod::new(name, &image, &["/bin/true"])
            .with("/spec/containers/0/imagePullPolicy", json!("Always"))
    };
    appliance.create(&pod("stranger"))?;
    let message = appliance.until_event_with("stranger", "Failed", &image)?;
    ensure!(message.contains("authoriz"), "{message}");
    let (user, password) = LOGIN;
    let user = format!("--docker-username={user}");
    for (name, password, phase) in [
        ("wrong", "guessed", None),
        ("right", password, Some("Succeeded")),
    ] {
        let server = format!("--docker-server={host}");
        let password = format!("--docker-password={password}");
        let words = [
            "create",
            "secret",
            "docker-registry",
            name,
            &server,
            &user,
            &password,
        ];
        appliance.kubectl.run(&words)?;
        let secrets = json!([{ "name": name }]);
        appliance.create(&pod(name).with("/spec/imagePullSecrets", secrets))?;
        match phase {
            Some(phase) => appliance.until_phase(name, phase)?,
            None => {
                let message = appliance.until_event_with(name, "Failed", &image)?;
                ensure!(message.contains("authoriz"), "{message}");
            }
        }
        appliance.delete(name)?;
        appliance.kubectl.run(&["delete", "secret", name])?;
    }
    appliance.faulty.set(Fault::None);
    appliance.delete("stranger")
}
