//! `atoll-lab`: the appliance in QEMU for a person, as `make run` starts it.
//!
//! State is in out/lab: kubeconfig, console log, disks, pid files. `run` leaves
//! QEMU and the registry running; `stop` ends just those, by their pid files.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use image_build::progress::{self, say};
use qemu_test::appliance::{Appliance, DATA, NODE, Setup, Storage};
use qemu_test::images::{self, PAGE};
use qemu_test::left_running;
use qemu_test::machine::{Image, Machine};
use qemu_test::process::Bond;
use qemu_test::qmp::Qmp;
use qemu_test::wait::{self, Seen};

const POD: Duration = Duration::from_secs(180);
const OFF: Duration = Duration::from_secs(60);

#[derive(Parser)]
#[command(about = "Atoll in QEMU")]
struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Boots the image, applies the nginx example and fetches its page.
    Run {
        #[arg(long, default_value = "out/image")]
        image: PathBuf,
        /// A pod named nginx.
        #[arg(long, default_value = "examples/pod-nginx.yaml")]
        pod: PathBuf,
    },
    /// Shows the console and follows it; Ctrl-C leaves.
    Console,
    /// Powers off and ends the registry.
    Stop,
}

fn main() -> ExitCode {
    progress::begin();
    let lab = PathBuf::from("out/lab");
    let done = match Arguments::parse().action {
        Action::Run { image, pod } => run(&lab, image, &pod),
        Action::Console => console(&lab),
        Action::Stop => stop(&lab),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("atoll-lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(lab: &Path, image: PathBuf, pod: &Path) -> Result<()> {
    if left_running::any(lab)? {
        say("the lab runs already; starting it anew");
        stop(lab)?;
    }
    if lab.exists() {
        fs::remove_dir_all(lab)?;
    }
    fs::create_dir_all(lab)?;
    let directory = lab.canonicalize()?;
    say("starting registry and QEMU");
    let setup = Setup {
        image: &Image(image),
        directory: directory.clone(),
        storage: Storage::Files { data: DATA },
        images: &[images::NGINX_IMAGE, images::TOOLS],
        memory_mib: 2048,
        node: serde_json::json!({}),
        agent: false,
        bond: Bond::Loose,
    };
    let mut appliance = Appliance::start(&setup)?;
    let kept = left_running::record(&directory, "registry", appliance.registry.id())
        .and_then(|()| left_running::record(&directory, "qemu", appliance.machine.id()));
    if kept.is_err() {
        // What `stop` would not find must not stay.
        appliance.registry.stop()?;
        appliance.machine.cut()?;
    }
    kept?;
    let kubeconfig = PathBuf::from("out/kubeconfig");
    fs::copy(appliance.kubeconfig(), &kubeconfig)?;
    say("waiting for the API");
    appliance.until_api()?;
    say("waiting for the node");
    appliance.until_node()?;
    let shown = demonstrate(&mut appliance, pod);
    if shown.is_err() {
        eprintln!("{}", appliance.evidence());
    }
    shown?;
    next_commands(&kubeconfig);
    Ok(())
}

/// Applies the pod, waits for it to run and fetches its page.
fn demonstrate(appliance: &mut Appliance, pod: &Path) -> Result<()> {
    let manifest = fs::read_to_string(pod).with_context(|| pod.display().to_string())?;
    let began = Instant::now();
    appliance.kubectl.apply(&manifest)?;
    say("waiting for the pod");
    appliance
        .kubectl
        .until("pod Running", &["pod", "nginx"], POD, |pod| {
            (pod["status"]["phase"] == "Running").then_some(())
        })?;
    say(format!(
        "pod Running {:.1} s after apply",
        began.elapsed().as_secs_f32()
    ));
    let page = appliance.fetch("nginx", 80, "/")?;
    if page != PAGE {
        bail!("another page than expected: {page:?}");
    }
    say(format!("page fetched by port-forward: {}", page.trim()));
    Ok(())
}

fn next_commands(kubeconfig: &Path) {
    println!("\nAtoll runs. Next:\n");
    println!("  export KUBECONFIG={}", kubeconfig.display());
    for line in [
        "kubectl get nodes,pods -o wide".to_owned(),
        "kubectl describe pod nginx".to_owned(),
        "kubectl logs nginx".to_owned(),
        "kubectl exec -it nginx -- sh".to_owned(),
        "kubectl port-forward nginx 8080:80    # then http://127.0.0.1:8080/".to_owned(),
        format!("kubectl describe node {NODE}"),
        "make console    # what the machine says".to_owned(),
        "make stop       # power off".to_owned(),
    ] {
        println!("  {line}");
    }
}

/// What was said so far, then what comes, byte for byte.
fn console(lab: &Path) -> Result<()> {
    let path = lab.join(Machine::LOG);
    let mut file =
        fs::File::open(&path).with_context(|| format!("{}: make run?", path.display()))?;
    let mut out = std::io::stdout();
    let mut buffer = [0; 4096];
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            if !left_running::any(lab)? {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(200));
            continue;
        }
        out.write_all(&buffer[..count])?;
        out.flush()?;
    }
}

fn stop(lab: &Path) -> Result<()> {
    if !left_running::any(lab)? {
        say("nothing runs");
        return Ok(());
    }
    if left_running::runs(lab, "qemu")? {
        say("pressing the power button");
        let off = Qmp::connect(lab).and_then(|mut qmp| {
            qmp.power_button()?;
            wait::until("power-off", OFF, || {
                Ok(if left_running::runs(lab, "qemu")? {
                    Seen::NotYet("running".to_owned())
                } else {
                    Seen::Done(())
                })
            })
        });
        if let Err(error) = off {
            say(format!("{error:#}; pulling the plug"));
            left_running::kill(lab, "qemu")?;
        }
    }
    left_running::kill(lab, "registry")?;
    say("stopped");
    Ok(())
}
