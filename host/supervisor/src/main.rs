//! `atoll`: one executable, its first argument is its role.
//!
//! The composition root: only here do roles get their configuration and meet
//! their crates. Started by the kernel as `/init` it is `atoll init`; started by
//! the kernel as its module loader (`/init -q -- NAME`) it loads one module.

mod config;
mod init;
mod logging;
mod roles;

use std::process::ExitCode;

const USAGE: &str = "\
usage: atoll control [--data-dir DIR --listen ADDRESS --kubeconfig-out FILE | --config FILE]
                     [--etcd-servers URL,URL ...] [--audit-policy-file FILE ...]
       atoll store snapshot|restore|status|copy --help
       atoll config-check [--base64] < machine.yaml
       atoll version
Roles that only the appliance starts: init, node, fabric, convert-image.";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["/init", "-q", "--", module] => init::load_one_module(module),
        ["/init", ..] if std::process::id() == 1 => init::main(),
        [_, "init", ..] => init::main(),
        [_, "control", rest @ ..] => roles::control(rest),
        [_, "store", rest @ ..] => roles::store(rest),
        [_, "node", rest @ ..] => roles::node(rest),
        [_, "fabric", rest @ ..] => roles::fabric(rest),
        [_, "convert-image", ..] => roles::convert_image(),
        [_, "config-check", rest @ ..] => config::child::main(rest),
        [_, "version"] => {
            println!("atoll {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
    }
}
