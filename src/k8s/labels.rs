//! Well-known labels, annotations and names, of podgraft and of Kubernetes.

/// Annotation: the units whose layers and modules were applied.
pub const APPLIED: &str = "podgraft.io/applied";

/// Name prefix of the volume that the `ServiceAccount` plugin adds to a pod, and of its mounts.
pub const TOKEN_VOLUME: &str = "kube-api-access-";

/// The name of a fragment's container entry that stands for the pod's primary container.
pub const PRIMARY: &str = "primary";

/// Annotation: a copy of the manifest that client-side `kubectl apply` adds.
pub const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Label: the queue of a pod whose task system has no label of its own for it.
pub const QUEUE: &str = "podgraft.io/queue";

/// Label: the environment that a pod asks for by name.
pub const ENVIRONMENT: &str = "podgraft.io/environment";

/// Annotation: the name of the primary container.
pub const PRIMARY_CONTAINER: &str = "podgraft.io/primary-container";

/// Annotation: the task's user; trusted only from a submitter.
pub const USER: &str = "podgraft.io/user";

/// Annotation: the container that kubectl selects by default.
pub const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";

/// Annotation: marks a mirror pod, which the kubelet creates for a static pod.
pub const MIRROR_POD: &str = "kubernetes.io/config.mirror";
