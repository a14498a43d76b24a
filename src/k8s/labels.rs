//! Well-known labels, annotations and names, of podgraft and of Kubernetes.

/// The annotation that tells people what was applied.
pub const APPLIED: &str = "podgraft.io/applied";

/// The volume that the `ServiceAccount` plugin puts on a pod, and its mounts.
pub const TOKEN_VOLUME: &str = "kube-api-access-";

/// The container entry of a fragment that means the pod's primary container.
pub const PRIMARY: &str = "primary";

/// A whole copy of the pod that client-side `kubectl apply` leaves on it.
pub const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Label: the queue of a pod whose system has no label for it.
pub const QUEUE: &str = "podgraft.io/queue";

/// Label: the environment that a pod asks for by name.
pub const ENVIRONMENT: &str = "podgraft.io/environment";

/// Annotation: which container is the primary one.
pub const PRIMARY_CONTAINER: &str = "podgraft.io/primary-container";

/// Annotation: the user that a task runs for; a submitter is believed.
pub const USER: &str = "podgraft.io/user";

/// Annotation: the container that kubectl takes by default.
pub const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";

/// Annotation: marks a mirror pod, which the kubelet makes of a static pod.
pub const MIRROR_POD: &str = "kubernetes.io/config.mirror";
