//! Where the machine config may come from and what becomes of a broken one;
//! the one EFI program, started by firmware; the power button. A boot for each.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use image_build::command::{self, command};
use qemu_test::appliance::BOOT;
use qemu_test::config::{self, Options};
use qemu_test::credentials::Credentials;
use qemu_test::kubectl::Kubectl;
use qemu_test::machine::{Clock, Disk, Image, Machine, Plan, Start};
use qemu_test::process::{Bond, free_port};
use qemu_test::suite;
use qemu_test::wait::{self, Seen};
use serde_json::{Value, json};

const OFF: Duration = Duration::from_secs(60);
/// What QEMU's user network gives by DHCP, and one that it doesn't.
const LEASED: &str = "10.0.2.15";
const STATIC: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 40);
/// Large enough for FAT32 and the EFI image of any profile.
const VOLUME: u64 = 256 << 20;
const TOKEN: &str = "a-token-of-the-tests-32-characters";

/// A name and what to do with a plan that lacks nothing but its own matter.
type Scenario = (&'static str, fn(Plan) -> Result<()>);

const SCENARIOS: &[Scenario] = &[
    ("a_broken_config_is_told", a_broken_config_is_told),
    ("firmware_and_config_volume", firmware_and_config_volume),
    ("the_command_line_comes_first", the_command_line_comes_first),
];

fn main() -> ExitCode {
    let Some(image) = suite::image() else {
        println!("not run: ATOLL_IMAGE names no image (make test sets it)");
        return ExitCode::SUCCESS;
    };
    let mut failed = Vec::new();
    for (name, scenario) in SCENARIOS.iter().filter(|(name, _)| suite::chosen(name)) {
        let began = Instant::now();
        let outcome = plan(&image, name).and_then(scenario);
        let seconds = began.elapsed().as_secs_f32();
        match outcome {
            Ok(()) => println!("scenario {name} ... ok ({seconds:.1} s)"),
            Err(error) => {
                println!("scenario {name} ... FAILED ({seconds:.1} s)\n{error:#}");
                failed.push(*name);
            }
        }
    }
    if failed.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("failed: {}", failed.join(", "));
    ExitCode::FAILURE
}

fn plan(image: &Image, name: &str) -> Result<Plan> {
    Ok(Plan {
        image: image.clone(),
        directory: suite::directory(&format!("configs-{name}"))?,
        start: Start::Direct(String::new()),
        config: None,
        api_port: free_port()?,
        address: None,
        disks: Vec::new(),
        memory_mib: 1536,
        agent: false,
        bond: Bond::Tied,
        clock: Clock::Time,
        beside: None,
    })
}

/// A machine and whoever asks it; says why when something is not as it should be.
struct Lab {
    machine: Machine,
    plan: Plan,
}

impl Lab {
    /// Boots; once more if nothing at all was said, as happens under emulation.
    fn boot(plan: Plan, first_word: &str) -> Result<Self> {
        let machine = Machine::boot(&plan)?;
        let mut lab = Self { machine, plan };
        if let Err(error) = lab.until_console(first_word) {
            if lab.machine.spoke() {
                return Err(error);
            }
            println!("no word from init, booting once more: {error:#}");
            lab.machine.cut()?;
            lab.machine = Machine::boot(&lab.plan)?;
            lab.until_console(first_word)?;
        }
        Ok(lab)
    }

    /// The rest of the console's line from `part` on.
    fn until_console(&mut self, part: &str) -> Result<String> {
        wait::until(format!("{part:?} on the console"), BOOT, || {
            if let Some(status) = self.machine.ended()? {
                bail!("QEMU ended: {status}");
            }
            let console = self.machine.console();
            let line = console
                .lines()
                .find_map(|line| Some(&line[line.find(part)?..]));
            Ok(match line {
                Some(line) => Seen::Done(line.to_owned()),
                None => Seen::NotYet(String::new()),
            })
        })
        .with_context(|| self.evidence())
    }

    fn kubectl(&self, kubeconfig: &str) -> Result<Kubectl> {
        let path = self.plan.directory.join("kubeconfig");
        fs::write(&path, kubeconfig)?;
        let programs = Kubectl::found()?;
        Ok(Kubectl::new(programs.first().context("no kubectl")?, &path))
    }

    fn until_ready(&self, kubectl: &Kubectl, node: &str) -> Result<Value> {
        kubectl
            .until("node Ready", &["node", node], BOOT, |node| {
                let conditions = node["status"]["conditions"].as_array()?;
                let ready = |condition: &&Value| condition["type"] == "Ready";
                let ready = conditions.iter().find(ready)?;
                (ready["status"] == "True").then(|| node.clone())
            })
            .with_context(|| self.evidence())
    }

    /// By the ACPI button: the appliance ends by itself and says so.
    fn power_off(mut self) -> Result<()> {
        let status = self.machine.power_off(OFF);
        let status = status.with_context(|| self.evidence())?;
        ensure!(status.success(), "QEMU: {status}");
        Ok(())
    }

    fn evidence(&self) -> String {
        format!("console:\n{}", command::tail(&self.machine.console(), 80))
    }
}

fn a_broken_config_is_told(mut plan: Plan) -> Result<()> {
    let broken =
        "apiVersion: atoll.internal/v1alpha1\nkind: MachineConfig\nnode:\n  name: Not_A_Name\n";
    plan.config = Some(broken.to_owned());
    let port = plan.api_port;
    let mut lab = Lab::boot(plan, "machine config")?;
    let told = lab.until_console("node.name")?;
    ensure!(told.contains("line 4"), "{told}");
    // Defaults apply, so the console hands out what was made at this boot.
    lab.until_console("----- end -----")?;
    let shown = kubeconfig(&lab.machine.console()).with_context(|| lab.evidence())?;
    let kubectl = lab.kubectl(&reached_by(&shown, port)?)?;
    let nodes = kubectl.until("a node", &["nodes"], BOOT, |nodes| {
        nodes["items"][0]["metadata"]["name"]
            .as_str()
            .map(str::to_owned)
    });
    let name = nodes.with_context(|| lab.evidence())?;
    ensure!(name.starts_with("atoll-"), "{name}");
    lab.until_ready(&kubectl, &name)?;
    lab.power_off()
}

/// What the console shows between its marks; the log writes there, too, in
/// lines that are none of YAML's.
fn kubeconfig(console: &str) -> Result<Value> {
    let (_, rest) = console
        .split_once("keep it -----\n")
        .context("no kubeconfig on the console")?;
    let (text, _) = rest
        .split_once("\n----- end")
        .context("half a kubeconfig")?;
    serde_yaml::from_str(text).with_context(|| format!("the console's kubeconfig: {text}"))
}

/// The same, through the forwarded port; the certificate names the node.
fn reached_by(kubeconfig: &Value, port: u16) -> Result<String> {
    let mut changed = kubeconfig.clone();
    let cluster = &mut changed["clusters"][0]["cluster"];
    ensure!(
        cluster["server"] == format!("https://{LEASED}:6443"),
        "{cluster}"
    );
    cluster["server"] = json!(format!("https://127.0.0.1:{port}"));
    cluster["tls-server-name"] = json!(LEASED);
    Ok(serde_yaml::to_string(&changed)?)
}

/// One FAT file system carries both: the firmware finds the program on it, and
/// the program finds its config by the label.
fn firmware_and_config_volume(mut plan: Plan) -> Result<()> {
    let credentials = Credentials::generate()?;
    let node = "by-firmware";
    let config = config::machine_config(&Options {
        node,
        credentials: &credentials,
        registry: "10.0.2.2:5000",
        plain_http: &[],
        disks: false,
        settings: json!({}),
    })?;
    let mut config: Value = serde_yaml::from_str(&config)?;
    config["network"] = json!({
        "interfaces": [{
            "name": "eth0", "addresses": [format!("{STATIC}/24")], "gateway": "10.0.2.2",
        }],
        "nameservers": ["10.0.2.3"],
    });
    volume(&plan, &serde_yaml::to_string(&config)?)?;
    plan.start = Start::Firmware;
    plan.address = Some(STATIC);
    plan.disks = vec![Disk::File {
        serial: "volume",
        bytes: VOLUME,
    }];
    let kubeconfig = credentials.kubeconfig(plan.api_port)?;
    let lab = Lab::boot(plan, "machine config from volume")?;
    let kubectl = lab.kubectl(&kubeconfig)?;
    let seen = lab.until_ready(&kubectl, node)?;
    let addresses = &seen["status"]["addresses"];
    let internal = addresses.as_array().into_iter().flatten();
    let internal: Vec<&Value> = internal
        .filter(|address| address["type"] == "InternalIP")
        .map(|address| &address["address"])
        .collect();
    ensure!(
        internal
            .iter()
            .any(|address| **address == STATIC.to_string()),
        "{addresses}"
    );
    ensure!(
        !internal.iter().any(|address| **address == LEASED),
        "leased beside: {addresses}"
    );
    lab.power_off()
}

fn volume(plan: &Plan, config: &str) -> Result<()> {
    let place = plan.directory.join("volume.raw");
    fs::File::create(&place)?.set_len(VOLUME)?;
    let yaml = plan.directory.join("machine.yaml");
    fs::write(&yaml, config)?;
    let program: PathBuf = plan.image.file("atoll.efi")?;
    let on = |tool: &str| {
        let mut tool = command(tool, ["-i"]);
        tool.arg(&place);
        tool
    };
    command::output(on("mformat").args(["-F", "-v", "ATOLLCONFIG", "::"]))?;
    command::output(on("mmd").args(["::/EFI", "::/EFI/BOOT"]))?;
    let copy = |from: &Path, to: &str| {
        command::output(on("mcopy").arg(from).arg(format!("::{to}"))).map(drop)
    };
    copy(&program, "/EFI/BOOT/BOOTX64.EFI")?;
    copy(&yaml, "/machine.yaml")
}

/// fw_cfg has a config, too; the command line's has no credentials but a token,
/// since a command line is short.
fn the_command_line_comes_first(mut plan: Plan) -> Result<()> {
    let named = |name: &str| {
        json!({
            "apiVersion": "atoll.internal/v1alpha1",
            "kind": "MachineConfig",
            "node": { "name": name },
            "api": { "tokens": [
                { "token": TOKEN, "user": "admin", "groups": ["system:masters"] },
            ]},
        })
    };
    plan.config = Some(serde_yaml::to_string(&named("from-fw-cfg"))?);
    let word = STANDARD.encode(serde_yaml::to_string(&named("from-command-line"))?);
    plan.start = Start::Direct(format!("atoll.config={word}"));
    let kubeconfig = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "atoll",
        "clusters": [{ "name": "atoll", "cluster": {
            "server": format!("https://127.0.0.1:{}", plan.api_port),
            "insecure-skip-tls-verify": true,
        }}],
        "users": [{ "name": "admin", "user": { "token": TOKEN } }],
        "contexts": [{ "name": "atoll", "context": { "cluster": "atoll", "user": "admin" }}],
    });
    let lab = Lab::boot(plan, "machine config from the kernel command line")?;
    let kubectl = lab.kubectl(&kubeconfig.to_string())?;
    lab.until_ready(&kubectl, "from-command-line")?;
    lab.power_off()
}
