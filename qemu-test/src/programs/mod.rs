//! Real programs at work: each is a pod of the program and of a load beside it,
//! which ends well only if all that it got was right.
//!
//! ```text
//!   pod: main (the program) <-- 127.0.0.1 -- load (a script), checks, ends
//!          \------------- /data (emptyDir) ------------/
//!        beside (more servers, where a program wants them)
//! ```
//!
//! A load that kills its program does so in the middle of its work; the program
//! is started again by restartPolicy and finds its data in the volume.

mod table;

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use serde_json::{Value, json};

use crate::appliance::Appliance;

pub use table::{FAST, SLOW};

/// From created to the end of its load, on a machine busy with others.
const WORK: Duration = Duration::from_secs(300);
/// What all loads in Python begin with.
const LOAD: &str = include_str!("load.py");

/// A container: image, command, MiB of memory.
struct Part {
    name: &'static str,
    image: &'static str,
    command: &'static [&'static str],
    mib: u32,
}

/// One program with its load.
pub struct Program {
    pub name: &'static str,
    parts: &'static [Part],
    load: Load,
    /// How often the load kills a container, by name.
    kills: &'static [&'static str],
    /// Where the volume is in the program's container.
    data: &'static str,
    user: u32,
}

enum Load {
    /// After `LOAD`.
    Python(&'static str),
    /// In an image of its own, with the clients in it.
    Shell {
        image: &'static str,
        script: &'static str,
    },
}

impl Program {
    fn manifest(&self, times: u32) -> Value {
        let (image, command, mib) = match self.load {
            Load::Python(script) => {
                let script = format!("TIMES = {times}\n{LOAD}\n{script}");
                ("python", json!(["/usr/bin/python3", "-c", script]), 40)
            }
            Load::Shell { image, script } => (image, json!(["/bin/sh", "-c", script]), 32),
        };
        let parts = self.parts.iter().map(|part| {
            let command = json!(part.command);
            container(part.name, part.image, &command, part.mib, self.data)
        });
        let load = container("load", image, &command, mib, "/data");
        json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": { "name": self.name },
            "spec": {
                "restartPolicy": "OnFailure",
                "terminationGracePeriodSeconds": 2,
                "shareProcessNamespace": !self.kills.is_empty(),
                "securityContext": { "runAsUser": self.user },
                "volumes": [{ "name": "data", "emptyDir": {} }],
                "containers": parts.chain([load]).collect::<Vec<_>>(),
            },
        })
    }

    /// Whether the load has ended well; an error if it didn't.
    fn done(&self, appliance: &Appliance, pod: &Value) -> Result<Option<()>> {
        let load = status(pod, "load");
        if load["restartCount"].as_u64() > Some(0) {
            let words = ["logs", self.name, "-c", "load", "--previous"];
            bail!("load of {}: {}", self.name, appliance.kubectl.run(&words)?);
        }
        Ok((load["state"]["terminated"]["exitCode"] == 0).then_some(()))
    }

    /// Those that the load killed were restarted once, the others never.
    fn restarts(&self, pod: &Value) -> Result<()> {
        for part in self.parts {
            let wanted = self.kills.iter().filter(|name| **name == part.name).count();
            let status = status(pod, part.name);
            ensure!(status["restartCount"] == wanted, "{}: {status}", self.name);
            let running = status["state"]["running"].is_object();
            ensure!(running, "{}: {status}", self.name);
        }
        Ok(())
    }
}

fn container(name: &str, image: &str, command: &Value, mib: u32, data: &str) -> Value {
    json!({
        "name": name,
        "image": image,
        "command": command,
        "resources": { "limits": { "memory": format!("{mib}Mi") } },
        "volumeMounts": [{ "name": "data", "mountPath": data }],
    })
}

fn status<'a>(pod: &'a Value, container: &str) -> &'a Value {
    let all = pod["status"]["containerStatuses"].as_array();
    let mut found = all.into_iter().flatten();
    found
        .find(|status| status["name"] == container)
        .unwrap_or(&Value::Null)
}

/// Runs them all at once until their loads, `times` the smallest, have ended.
pub fn work(appliance: &Appliance, programs: &[Program], times: u32) -> Result<()> {
    let manifests = programs.iter().map(|program| program.manifest(times));
    let pods: Vec<Value> = manifests.collect();
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": pods });
    appliance.kubectl.apply(&list.to_string())?;
    for program in programs {
        let what = format!("the load of {}", program.name);
        let pod = appliance
            .kubectl
            .until(&what, &["pod", program.name], WORK, |pod| {
                let done = program.done(appliance, pod).transpose()?;
                Some(done.map(|()| pod.clone()))
            })??;
        program.restarts(&pod)?;
    }
    let names = programs.iter().map(|program| program.name);
    let words: Vec<&str> = ["delete", "pod", "--timeout=80s"]
        .into_iter()
        .chain(names)
        .collect();
    appliance.kubectl.run(&words)?;
    Ok(())
}
