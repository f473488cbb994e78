//! Pods as a user runs them: one boot, many scenarios.

use std::process::ExitCode;

use anyhow::Result;
use qemu_test::appliance::{Appliance, DATA, Setup, Storage};
use qemu_test::images;
use qemu_test::machine::Image;
use qemu_test::process::Bond;
use qemu_test::suite::{self, Scenario};
use serde_json::json;

mod health;
mod jail;
mod kernel;
mod lifecycle;
mod metrics;
mod pressure;
mod refusals;
mod roles;
mod storage;
mod streams;
mod verbs;
mod volumes;

/// In this order: what comes first is what everything else needs.
const SCENARIOS: &[Scenario] = &[
    ("node_has_capacity", verbs::node_has_capacity),
    ("idle_memory_is_bounded", verbs::idle_memory_is_bounded),
    ("nginx_serves_its_page", lifecycle::nginx_serves_its_page),
    (
        "exec_passes_streams_and_codes",
        streams::exec_passes_streams_and_codes,
    ),
    (
        "what_is_executed_ends_with_its_client",
        streams::what_is_executed_ends_with_its_client,
    ),
    ("files_are_copied", streams::files_are_copied),
    ("exec_has_a_terminal", streams::exec_has_a_terminal),
    ("logs_select", streams::logs_select),
    ("phases_are_watched", lifecycle::phases_are_watched),
    (
        "containers_share_the_network",
        lifecycle::containers_share_the_network,
    ),
    (
        "a_pod_has_several_processors",
        lifecycle::a_pod_has_several_processors,
    ),
    ("restart_policies", lifecycle::restart_policies),
    (
        "back_off_and_previous_logs",
        lifecycle::back_off_and_previous_logs,
    ),
    (
        "volumes_hold_files_and_follow",
        volumes::volumes_hold_files_and_follow,
    ),
    ("probes_decide", health::probes_decide),
    ("last_words_are_kept", health::last_words_are_kept),
    ("what_is_used_is_told", metrics::what_is_used_is_told),
    (
        "scratch_space_is_on_the_disk",
        storage::scratch_space_is_on_the_disk,
    ),
    (
        "the_kernel_is_the_pods_own",
        kernel::the_kernel_is_the_pods_own,
    ),
    ("real_programs_run", lifecycle::real_programs_run),
    ("verbs_of_kubectl", verbs::verbs_of_kubectl),
    ("bad_input_is_refused", refusals::bad_input_is_refused),
    (
        "images_that_are_not_there",
        refusals::images_that_are_not_there,
    ),
    ("too_large_to_schedule", refusals::too_large_to_schedule),
    (
        "a_full_disk_costs_images_then_a_pod",
        pressure::a_full_disk_costs_images_then_a_pod,
    ),
    ("vmms_are_jailed", jail::vmms_are_jailed),
    ("a_killed_vmm_is_replaced", roles::a_killed_vmm_is_replaced),
    ("killed_roles_come_back", roles::killed_roles_come_back),
    (
        "powers_off_and_comes_back",
        roles::powers_off_and_comes_back,
    ),
];

fn main() -> ExitCode {
    suite::run(boot, SCENARIOS)
}

fn boot(image: &Image) -> Result<Appliance> {
    let mut appliance = Appliance::start(&Setup {
        image,
        directory: suite::directory("pods")?,
        storage: Storage::Files { data: DATA },
        images: images::ALL,
        memory_mib: 2560,
        node: json!({ "kubelet": pressure::kubelet() }),
        agent: true,
        bond: Bond::Tied,
    })?;
    appliance.until_ready()?;
    Ok(appliance)
}
