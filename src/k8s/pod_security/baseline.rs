//! The checks of the level `baseline`.

use super::subject::{Breach, Holder, Subject, first_breach, set};
use crate::json::Json;
use crate::k8s::validation::HANDLED;
use crate::k8s::warnings::{APPARMOR, CONTAINER_SECCOMP, SECCOMP};

pub(super) fn host_process(subject: &Subject<'_>) -> Option<Breach> {
    first_breach(subject.contexts(), "windowsOptions.hostProcess", "may not be true", |context| {
        context.get_path(&["windowsOptions", "hostProcess"]) == Some(Json::Bool(true))
    })
}

pub(super) fn host_namespaces(subject: &Subject<'_>) -> Option<Breach> {
    let flags = ["hostNetwork", "hostPID", "hostIPC"];
    let flag = flags.into_iter().find(|flag| subject.spec.get(flag) == Some(Json::Bool(true)))?;
    Some(Breach::new(Holder::Pod.path(flag), "may not be true"))
}

pub(super) fn privileged(subject: &Subject<'_>) -> Option<Breach> {
    first_breach(subject.container_contexts(), "privileged", "may not be true", |context| {
        context.get("privileged") == Some(Json::Bool(true))
    })
}

pub(super) fn capabilities(subject: &Subject<'_>) -> Option<Breach> {
    const DEFAULT: &[&str] = &[
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    ];
    let must = "may hold no other capabilities than those that a container has by default";
    first_breach(subject.container_contexts(), "capabilities.add", must, |context| adds_other(context, DEFAULT))
}

/// Returns true if a container's context adds other capabilities than these.
pub(super) fn adds_other(context: Json<'_>, allowed: &[&str]) -> bool {
    let added = context.get_path(&["capabilities", "add"]).map_or(&[][..], |added| added.items());
    added.iter().any(|name| !name.as_str().is_some_and(|name| allowed.contains(&name)))
}

pub(super) fn host_path(subject: &Subject<'_>) -> Option<Breach> {
    let volume = subject.spec.list("volumes").iter().find(|volume| set(**volume, "hostPath").is_some())?;
    Some(Breach::new(format!("spec.volumes[{}].hostPath", volume.text("name")), "may not be set"))
}

pub(super) fn host_ports(subject: &Subject<'_>) -> Option<Breach> {
    let is_set = |port: &Json<'_>| set(*port, "hostPort").is_some_and(|number| !is_zero(number));
    let (holder, _) = subject.containers().find(|(_, container)| container.list("ports").iter().any(is_set))?;
    Some(Breach::new(holder.path("ports"), "may have no hostPort"))
}

pub(super) fn is_zero(number: Json<'_>) -> bool {
    matches!(number, Json::Uint(0) | Json::Int(0))
}

pub(super) fn app_armor(subject: &Subject<'_>) -> Option<Breach> {
    let must = "must be RuntimeDefault or Localhost";
    let field = first_breach(subject.contexts(), "appArmorProfile.type", must, |context| {
        set(context, "appArmorProfile").is_some_and(|profile| !is_confined(profile))
    });
    let is_allowed = |value: &str| value.is_empty() || value == "runtime/default" || value.starts_with("localhost/");
    let annotation = || {
        let mut own = subject.annotations().iter().filter(|(key, _)| key.starts_with(APPARMOR));
        let (key, _) = own.find(|(_, value)| value.as_str().is_some_and(|value| !is_allowed(value)))?;
        Some(Breach::new(format!("metadata.annotations[{key}]"), "must be runtime/default or localhost/…"))
    };
    field.or_else(annotation)
}

/// Returns true for a profile, of `AppArmor` or seccomp, that confines.
pub(super) fn is_confined(profile: Json<'_>) -> bool {
    matches!(profile.text("type"), "RuntimeDefault" | "Localhost")
}

pub(super) fn selinux(subject: &Subject<'_>) -> Option<Breach> {
    let newest = if subject.policy.is_since(31) { "container_engine_t" } else { "" };
    let is_allowed =
        |name: &str| matches!(name, "" | "container_t" | "container_init_t" | "container_kvm_t") || name == newest;
    let must = "may name no user and no role, and no type but container_t, container_init_t, container_kvm_t and (since 1.31) container_engine_t";
    first_breach(subject.contexts(), "seLinuxOptions", must, |context| {
        set(context, "seLinuxOptions").is_some_and(|options| {
            !options.text("user").is_empty() || !options.text("role").is_empty() || !is_allowed(options.text("type"))
        })
    })
}

pub(super) fn proc_mount(subject: &Subject<'_>) -> Option<Breach> {
    if subject.has_own_users() { None } else { masked_proc(subject) }
}

/// Checks `procMount` also for pods with their own user namespace, which `restricted` does not exempt.
pub(super) fn masked_proc(subject: &Subject<'_>) -> Option<Breach> {
    first_breach(subject.container_contexts(), "procMount", "must be Default", |context| {
        set(context, "procMount").is_some_and(|mount| mount != Json::Str("Default"))
    })
}

/// Checks seccomp profiles, which were annotations before 1.19.
pub(super) fn seccomp(subject: &Subject<'_>) -> Option<Breach> {
    if subject.policy.is_since(19) { seccomp_fields(subject) } else { seccomp_annotations(subject) }
}

pub(super) fn seccomp_fields(subject: &Subject<'_>) -> Option<Breach> {
    let must = "must be RuntimeDefault or Localhost";
    first_breach(subject.contexts(), "seccompProfile.type", must, |context| {
        set(context, "seccompProfile").is_some_and(|profile| !is_confined(profile))
    })
}

fn seccomp_annotations(subject: &Subject<'_>) -> Option<Breach> {
    let is_forbidden = |key: &str| {
        subject.annotation(key).is_some_and(|value| {
            !matches!(value, "runtime/default" | "docker/default") && !value.starts_with("localhost/")
        })
    };
    let of_containers =
        subject.containers().map(|(_, container)| format!("{CONTAINER_SECCOMP}{}", container.text("name")));
    let mut keys = std::iter::once(SECCOMP.to_owned()).chain(of_containers);
    let key = keys.find(|key| is_forbidden(key))?;
    Some(Breach::new(format!("metadata.annotations[{key}]"), "must be runtime/default or localhost/…"))
}

/// The safe sysctls, each with the first minor version that allows it.
const SYSCTLS: &[(&str, u32)] = &[
    ("kernel.shm_rmid_forced", 0),
    ("net.ipv4.ip_local_port_range", 0),
    ("net.ipv4.tcp_syncookies", 0),
    ("net.ipv4.ping_group_range", 0),
    ("net.ipv4.ip_unprivileged_port_start", 0),
    ("net.ipv4.ip_local_reserved_ports", 27),
    ("net.ipv4.tcp_keepalive_time", 29),
    ("net.ipv4.tcp_fin_timeout", 29),
    ("net.ipv4.tcp_keepalive_intvl", 29),
    ("net.ipv4.tcp_keepalive_probes", 29),
    ("net.ipv4.tcp_rmem", 32),
    ("net.ipv4.tcp_wmem", 32),
];

pub(super) fn sysctls(subject: &Subject<'_>) -> Option<Breach> {
    let is_safe = |name: &str| SYSCTLS.iter().any(|(safe, since)| *safe == name && subject.policy.is_since(*since));
    let context = subject.context();
    let sysctl = context.list("sysctls").iter().find(|sysctl| !is_safe(sysctl.text("name")))?;
    let path = format!("spec.securityContext.sysctls[{}]", sysctl.text("name"));
    Some(Breach::new(path, "may not be set: it is not a safe sysctl"))
}

/// Checks that probes and lifecycle handlers name no host: they may only reach the pod itself.
pub(super) fn probe_hosts(subject: &Subject<'_>) -> Option<Breach> {
    let named = subject.containers().find_map(|(holder, container)| {
        HANDLED.iter().find_map(|handler| {
            let found = container.get_path(handler)?;
            let kind = ["httpGet", "tcpSocket"].into_iter().find(|kind| {
                found.get_path(&[kind, "host"]).is_some_and(|host| host.as_str().is_some_and(|it| !it.is_empty()))
            })?;
            Some(holder.path(&format!("{}.{kind}.host", handler.join("."))))
        })
    });
    named.map(|path| Breach::new(path, "may not be set"))
}
