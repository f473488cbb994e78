//! Machine configs, right and wrong, and noise.

#![expect(clippy::unwrap_used, reason = "tests")]

use super::child::decode;
use super::derive::{default_node_name, derive};
use super::*;
use crate::init::Locator;

const HEAD: &str = "apiVersion: atoll.internal/v1alpha1\nkind: MachineConfig\n";
const EXAMPLE: &str = include_str!("../../../../examples/machine.yaml");

fn check(body: &str) -> String {
    let document = format!("{HEAD}{body}");
    parse(document.as_bytes())
        .err()
        .map(|error| error.0)
        .unwrap_or_default()
}

#[test]
fn the_example_is_valid_and_reaches_every_role() {
    let config = parse(EXAMPLE.as_bytes()).unwrap();
    let derived = derive(&config, "unused");
    let _: apiserver::Config = serde_json::from_value(derived.control).unwrap();
    let network: fabric::Config = serde_json::from_value(derived.fabric).unwrap();
    assert_eq!(network.interfaces.len(), 2);
    let node: node::Config = serde_json::from_value(derived.node).unwrap();
    assert_eq!(node.node_name, "atoll-1");
    assert_eq!(node.guest.memory_mib, 128);
    assert_eq!(derived.decision.node_name, "atoll-1");
    assert!(derived.decision.state.format);
    let bytes = derived.decision.encode().unwrap();
    let back = crate::init::Decision::decode(&bytes).unwrap();
    assert_eq!(back.state.locator, Locator::Serial("atoll-state".into()));
}

#[test]
fn defaults_reach_every_role() {
    let derived = derive(&parse(HEAD.as_bytes()).unwrap(), "atoll-123456");
    let api: apiserver::Config = serde_json::from_value(derived.control).unwrap();
    assert_eq!(api.listen, ["0.0.0.0:6443".parse().unwrap()]);
    let node: node::Config = serde_json::from_value(derived.node).unwrap();
    assert_eq!(node.node_name, "atoll-123456");
    assert!(derived.decision.show_credentials);
    assert_eq!(
        derived.decision.state.locator,
        Locator::Label("ATOLL-STATE".into())
    );
}

#[test]
fn what_is_wrong_is_named_with_field_and_line() {
    for (body, wanted) in [
        ("", ""),
        (
            "network:\n  interfaces:\n  - name: eth0\n    addresses: [10.0.0.2/24, 10.0.0.1]\n",
            "network.interfaces[0].addresses[1]: \"10.0.0.1\": prefix length missing (CIDR notation, RFC 4632) at line 6",
        ),
        ("nod: {}\n", "unknown field `nod`"),
        ("node:\n  nam: x\n", "node: unknown field `nam`"),
        (
            "node:\n  name: Bad_Name\n",
            "node.name: \"Bad_Name\": lower case",
        ),
        (
            "node: {labels: {\"a b\": c}}\n",
            "\"a b\": not a label's key",
        ),
        ("node: {labels: {a: \"-\"}}\n", "\"-\": not a label's value"),
        ("node: {maxPods: 0}\n", "node.maxPods: between"),
        ("node: {guest: {vcpus: 65}}\n", "node.guest.vcpus: between"),
        (
            "node: {kubelet: {evictionHard: {memory.available: 5x}}}\n",
            "node.kubelet.evictionHard",
        ),
        (
            "node: {kubelet: {evictionSoft: {memory.available: 5%}}}\n",
            "node.kubelet.evictionSoftGracePeriod: a grace period must be given",
        ),
        (
            "node: {staticPods: [{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {}}]}\n",
            "node.staticPods[0].spec.containers: Required value",
        ),
        ("api: {listen: [6443]}\n", "api.listen[0]: "),
        (
            "api: {ca: {certificate: x, key: y}}\n",
            "api.ca.certificate: not PEM",
        ),
        (
            "api: {tokens: [{token: short, user: u}]}\n",
            "api.tokens[0].token: at least 16",
        ),
        (
            "api: {tokens: [{token: \"with a blank inside\", user: u}]}\n",
            "visible ASCII",
        ),
        (
            "storage: {state: {format: true}}\n",
            "storage.state.format: device or serial",
        ),
        (
            "storage: {data: {device: ../etc}}\n",
            "storage.data.device: \"../etc\": not a disk",
        ),
        (
            "storage: {data: {device: vda, label: x}}\n",
            "storage.data: label, device, serial",
        ),
        (
            "images: {registries: {\"r:5000\": {plainHttps: true}}}\n",
            "unknown field `plainHttps`",
        ),
        ("log: {level: loud}\n", "log.level: unknown variant `loud`"),
        ("watchdog: {seconds: 99999}\n", "watchdog.seconds: at most"),
        ("kind: MachineConfig\n", "duplicate field `kind`"),
        ("a: [\n", "line "),
        (
            "network: {interfaces: [{name: a}, {name: a}]}\n",
            "network.interfaces[1]: the same",
        ),
    ] {
        let found = check(body);
        assert!(found.contains(wanted), "{body}: {found}");
        assert_eq!(found.is_empty(), wanted.is_empty(), "{body}: {found}");
    }
    let other = parse(b"apiVersion: v1\nkind: MachineConfig\n").unwrap_err();
    assert!(
        other.0.starts_with("apiVersion: unknown variant `v1`"),
        "{other}"
    );
    assert!(parse(b"").is_err());
    assert!(parse(b"\xff").unwrap_err().0.contains("UTF-8"));
}

#[test]
fn the_command_line_carries_base64() {
    use base64::Engine;
    let engine = base64::engine::general_purpose::STANDARD;
    let text = engine.encode(HEAD);
    assert!(decode(format!("{text}\n").into_bytes(), true).is_ok());
    assert!(decode(b"%%%".to_vec(), true).is_err());
    assert!(decode(vec![b' '; 2 << 20], false).is_err());
}

#[test]
fn names_come_from_hardware_addresses() {
    let root = std::env::temp_dir().join(format!("atoll-net-{}", std::process::id()));
    assert_eq!(default_node_name(&root), "atoll");
    for (name, device) in [("lo", false), ("eth0", true)] {
        let directory = root.join(name);
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("address"), "52:54:00:AB:cd:ef\n").unwrap();
        if device {
            std::fs::write(directory.join("device"), "").unwrap();
        }
    }
    assert_eq!(default_node_name(&root), "atoll-abcdef");
    std::fs::remove_dir_all(root).unwrap();
}

/// Mutations of the example and nests of anchors: an error or a config whose
/// parts every role takes, never a panic.
#[test]
fn no_document_harms_the_parser() {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random as usize
    };
    let pieces: [&[u8]; 10] = [
        b":", b"\n  ", b"[", b"{", b"- ", b"&a ", b"*a", b"!!x ", b"\"", b"|\n",
    ];
    let mut accepted = 0;
    for _ in 0..fuzzing::rounds(3000) {
        let mut bytes = EXAMPLE.as_bytes().to_vec();
        for _ in 0..=next() % 4 {
            let at = next() % bytes.len();
            match next() % 4 {
                0 => bytes[at] = next() as u8,
                1 => bytes.truncate(at.max(1)),
                2 => {
                    let piece = pieces[next() % pieces.len()];
                    bytes.splice(at..at, piece.iter().copied());
                }
                _ => {
                    let end = (at + next() % 40).min(bytes.len());
                    bytes.drain(at..end);
                    bytes.push(b'\n');
                }
            }
        }
        if let Ok(config) = parse(&bytes) {
            accepted += 1;
            let derived = derive(&config, "atoll");
            assert!(derived.decision.encode().is_some());
            let node: Result<node::Config, _> = serde_json::from_value(derived.node);
            assert!(node.is_ok(), "{node:?}");
        }
    }
    assert!(accepted > 0);
    let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n".to_owned()
        + &(b'b'..=b'z')
            .map(|c| {
                let (c, p) = (c as char, (c - 1) as char);
                format!("{c}: &{c} [*{p},*{p},*{p},*{p},*{p},*{p},*{p},*{p},*{p}]\n")
            })
            .collect::<String>();
    assert!(parse(bomb.as_bytes()).is_err());
    assert!(parse("[".repeat(100_000).as_bytes()).is_err());
}
