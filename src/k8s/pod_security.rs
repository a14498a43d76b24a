//! Checks pods against the Pod Security Standards, of whose violation the API server warns.
//!
//! A namespace's labels name a level (`pod-security.kubernetes.io/warn`), and the API server warns of a pod that
//! violates it, in one line for all violations, which kubectl prints on stderr. So the first violation of podgraft's
//! result counts, and only if the incoming pod had none. The checks are those of Kubernetes 1.36
//! (`k8s.io/pod-security-admission`), each version of them. An older server judges `latest` by fewer; its defaults for
//! namespaces without labels, and its exemptions, are in a file that only the API server reads.

mod baseline;
mod policy;
mod restricted;
mod subject;

pub use self::policy::{Level, Levels, Policy};

use self::subject::{Breach, Subject};
use crate::json::Json;

/// A violation of a level: a field that it forbids, or that it requires and the pod lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// the field's path, as `spec.initContainers[fetch].securityContext.privileged`
    pub path: String,
    /// another path at which the requirement could be met, if any; a change there may be the cause
    pub related_path: Option<&'static str>,
    /// the requirement, as `must be false`
    pub must: &'static str,
    /// the API server's name of the violation
    pub reason: &'static str,
}

/// Returns the first violation of `after`, unless `before` has one: then the API server warns anyhow.
pub fn introduced(before: Json<'_>, after: Json<'_>, policy: Policy) -> Option<Violation> {
    let violation = violations(after, policy).next()?;
    violations(before, policy).next().is_none().then_some(violation)
}

/// Returns the violations of a pod, the first of each check.
pub fn violations(pod: Json<'_>, policy: Policy) -> impl Iterator<Item = Violation> {
    let subject = Subject::new(pod, policy);
    CHECKS.iter().filter(move |check| check.applies_to(policy)).filter_map(move |check| {
        let breach = (check.run)(&subject)?;
        Some(Violation {
            path: breach.path,
            related_path: breach.related_path,
            must: breach.must,
            reason: check.reason,
        })
    })
}

/// One check.
struct Check {
    /// the API server's name of its violation
    reason: &'static str,
    /// the lowest level that has it
    level: Level,
    /// the first minor version that has it; the check itself handles later changes
    since: u32,
    /// the minor version from which `restricted` has a stricter check instead
    replaced: Option<u32>,
    run: fn(&Subject<'_>) -> Option<Breach>,
}

impl Check {
    const fn baseline(reason: &'static str, run: fn(&Subject<'_>) -> Option<Breach>) -> Self {
        Self { reason, level: Level::Baseline, since: 0, replaced: None, run }
    }

    const fn restricted(reason: &'static str, since: u32, run: fn(&Subject<'_>) -> Option<Breach>) -> Self {
        Self { reason, level: Level::Restricted, since, replaced: None, run }
    }

    const fn replaced(self, from: u32) -> Self {
        Self { replaced: Some(from), ..self }
    }

    fn applies_to(&self, policy: Policy) -> bool {
        let is_replaced = policy.level == Level::Restricted && self.replaced.is_some_and(|from| policy.is_since(from));
        self.level <= policy.level && policy.is_since(self.since) && !is_replaced
    }
}

const CHECKS: &[Check] = &[
    Check::baseline("forbidden AppArmor profile", baseline::app_armor),
    Check::baseline("non-default capabilities", baseline::capabilities).replaced(22),
    Check::baseline("host namespaces", baseline::host_namespaces),
    Check::baseline("hostPath volumes", baseline::host_path).replaced(0),
    Check::baseline("hostPort", baseline::host_ports),
    Check { since: 34, ..Check::baseline("probe or lifecycle host", baseline::probe_hosts) },
    Check::baseline("privileged", baseline::privileged),
    Check::baseline("procMount", baseline::proc_mount).replaced(35),
    Check::baseline("seLinuxOptions", baseline::selinux),
    Check::baseline("seccompProfile", baseline::seccomp).replaced(19),
    Check::baseline("forbidden sysctls", baseline::sysctls),
    Check::baseline("hostProcess", baseline::host_process),
    Check::restricted("allowPrivilegeEscalation != false", 8, restricted::privilege_escalation),
    Check::restricted("unrestricted capabilities", 22, restricted::capabilities),
    Check::restricted("procMount", 35, baseline::masked_proc),
    Check::restricted("restricted volume types", 0, restricted::volumes),
    Check::restricted("runAsNonRoot != true", 0, restricted::non_root),
    Check::restricted("runAsUser=0", 23, restricted::user),
    Check::restricted("seccompProfile", 19, restricted::seccomp),
];

#[cfg(test)]
mod tests;
