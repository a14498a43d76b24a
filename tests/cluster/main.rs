//! podgraft in a real control plane: etcd, kube-apiserver, kube-controller-manager and kubectl, and pods as task
//! systems create them.
//!
//! * [`certs`] installs and rotates certificates with `podgraft certs`.
//! * [`configuration`] edits the configuration while podgraft runs, also to invalid ones.
//! * [`dependents`] changes fields that others depend on, and expects no warning of the API server.
//! * [`identity`] creates tasks as different users, and checks which vault they get.
//! * [`keys`] applies a layer with every key of the flat form.
//! * [`modules`] adds, replaces and breaks template modules in ConfigMaps.
//! * [`outages`] stops the API server and etcd.
//! * [`pod_security`] sets Pod Security labels on namespaces.
//! * [`pods`] creates pods in every way, and checks the stored pods.
//! * [`registration`] checks how the API server calls podgraft: rights, denials, audit log, rotation, removal.
//! * [`storage`] mounts existing claims, and claims that Kubernetes creates with the pod.
//!
//! The control plane and the podgraft in it are started once, by the first test that runs. Each test has a
//! namespace, a ConfigMap and queues of its own, so most run side by side. Those that stop or rotate something which
//! the others use run alone.

mod certs;
mod configuration;
mod dependents;
mod identity;
mod keys;
mod modules;
mod outages;
mod pod_security;
mod pods;
mod registration;
mod storage;

use std::process::ExitCode;
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

use libtest_mimic::{Arguments, Failed, Trial};
use podgraft_testkit::Outcome;
use podgraft_testkit::installation::Installation;

type Run = fn(&Installation) -> Outcome;
type Test = (&'static str, Run);

/// Lists tests with their paths as their names.
macro_rules! tests {
    ($($test:path),* $(,)?) => { &[$((stringify!($test), $test)),*] };
}

const SIDE_BY_SIDE: &[Test] = tests![
    modules::a_hostile_modules_own_pods_are_denied_by_name,
    pods::a_small_clearml_pod_comes_back_as_configured,
    pods::a_large_clearml_pod_comes_back_as_configured,
    pods::a_clearml_pod_with_its_images_entrypoint_comes_back_as_configured,
    pods::a_changed_limit_takes_its_request_along,
    dependents::another_service_account_and_other_classes_replace_what_the_old_ones_brought,
    dependents::a_stack_of_layers_causes_no_warning,
    dependents::a_layer_that_would_cause_a_warning_is_denied_by_name,
    pod_security::pod_security_warnings_are_denied_by_name_and_follow_the_labels,
    dependents::an_invalid_queue_label_is_repaired,
    dependents::other_sources_and_alternatives_are_stored_as_applied,
    dependents::a_sidecar_named_as_a_container_is_denied_by_name,
    pods::a_jobs_pod_gets_the_layers_and_no_identity,
    pods::every_way_to_create_a_pod_gives_the_same,
    pods::non_task_pods_are_never_sent,
    keys::every_flat_key_comes_back,
    keys::file_mounts_come_back,
    identity::a_users_vault_is_for_what_the_agent_creates_for_that_user,
    storage::an_ephemeral_claim_lives_as_long_as_its_pod,
    modules::a_modules_bytes_are_pinned_and_replaced_while_podgraft_runs,
    configuration::a_valid_edit_shows_and_an_invalid_one_takes_nothing_down,
    configuration::podgraft_is_ready_without_any_configuration,
    registration::a_denial_names_webhook_reason_and_cause,
    registration::the_audit_log_says_what_was_applied,
    registration::podgraft_may_read_its_own_configmaps_all_namespaces_and_nothing_else,
    registration::the_readmes_install_commands_work,
    certs::certs_check_finds_errors_in_the_cluster,
];

const ALONE: &[Test] = tests![
    registration::without_podgraft_a_pod_is_created_unchanged_or_denied,
    registration::deleting_the_webhook_configuration_disables_podgraft,
    registration::certificate_and_authority_are_rotated_without_a_failed_call,
    certs::an_installed_certificate_and_its_successors_serve_without_a_failed_call,
    registration::podgraft_answers_only_the_api_servers_certificate,
    outages::podgraft_serves_a_load_while_etcd_stands_still,
    outages::podgraft_serves_on_without_etcd,
    outages::podgraft_serves_on_without_the_api_server,
];

/// The installation, and the lock that a test holds alone or with others.
struct Shared {
    installation: LazyLock<Outcome<Installation>>,
    lock: RwLock<()>,
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // most of a test's time is spent waiting
    arguments.test_threads.get_or_insert(4);
    let shared = Arc::new(Shared { installation: LazyLock::new(Installation::start), lock: RwLock::default() });
    let beside = SIDE_BY_SIDE.iter().map(|test| trial(*test, &shared, beside_others));
    let alone = ALONE.iter().map(|test| trial(*test, &shared, alone));
    let conclusion = libtest_mimic::run(&arguments, beside.chain(alone).collect());
    // Before the process ends, as the installation cleans up behind itself when it is dropped.
    drop(shared);
    conclusion.exit_code()
}

fn trial((name, test): Test, shared: &Arc<Shared>, how: fn(&Shared, Run) -> Outcome) -> Trial {
    let shared = Arc::clone(shared);
    Trial::test(name, move || how(&shared, test).map_err(Failed::from))
}

fn beside_others(shared: &Shared, test: Run) -> Outcome {
    let _beside = shared.lock.read().unwrap_or_else(PoisonError::into_inner);
    test(shared.installation.as_ref()?)
}

fn alone(shared: &Shared, test: Run) -> Outcome {
    let _alone = shared.lock.write().unwrap_or_else(PoisonError::into_inner);
    test(shared.installation.as_ref()?)
}
