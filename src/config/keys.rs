//! The table of all keys of a GraftConfig, with their types and editor help.
//!
//! The decoders take keys through it (a key that is not here cannot be taken, and a key that is here and not taken
//! fails a test), and the JSON schema for editors is generated from it. Keys below a Pod's field are not repeated:
//! [`Kind::Pod`] points into the Pod schema.

/// The keys of a mapping, in groups that several mappings share.
#[derive(Debug)]
pub(crate) struct Keys {
    /// the mapping's name in the JSON schema
    pub(crate) name: &'static str,
    pub(crate) parts: &'static [&'static [Key]],
}

/// One key.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) status: KeyStatus,
    /// one sentence that editors show
    pub(crate) description: &'static str,
}

/// The support of a key in this version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyStatus {
    /// may be absent
    Optional,
    /// must be set
    Required,
    /// documented, but an error in this version
    Later,
    /// a key of the ClearML agent: ignored, with a notice
    Agent,
}

/// The type of a key's value.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Text,
    Texts,
    Bool,
    Int,
    Quantity,
    /// one of these words
    Word(&'static [&'static str]),
    /// strings by name
    Labels,
    /// any mapping
    Tree,
    /// a mapping whose keys the user chooses
    Named(&'static Keys),
    /// one mapping
    One(&'static Keys),
    /// a list of mappings
    List(&'static Keys),
    /// a field of the Pod by its path, through lists
    Pod(&'static [&'static str]),
    /// `metadata` of a pod template
    PodMetadata,
    /// any value: ignored
    Any,
}

impl Keys {
    pub(crate) fn all(&self) -> impl Iterator<Item = &'static Key> + use<> {
        self.parts.iter().copied().flatten()
    }

    pub(crate) fn find(&self, name: &str) -> Option<&'static Key> {
        self.all().find(|key| key.name == name)
    }
}

const fn key(name: &'static str, kind: Kind, description: &'static str) -> Key {
    Key { name, kind, status: KeyStatus::Optional, description }
}

const fn required(name: &'static str, kind: Kind, description: &'static str) -> Key {
    Key { name, kind, status: KeyStatus::Required, description }
}

const fn later(name: &'static str) -> Key {
    Key { name, kind: Kind::Any, status: KeyStatus::Later, description: "Not supported yet." }
}

const fn agent(name: &'static str) -> Key {
    Key {
        name,
        kind: Kind::Any,
        status: KeyStatus::Agent,
        description: "A key of the ClearML agent: podgraft ignores it.",
    }
}

/// The keys of a file.
pub(crate) static FILE: Keys = Keys {
    name: "GraftConfig",
    parts: &[&[
        required("apiVersion", Kind::Word(&["podgraft.io/v1alpha1"]), "The version of this format."),
        required("kind", Kind::Word(&["GraftConfig"]), "The kind of this object."),
        key("metadata", Kind::Any, "Ignored: for tools that need metadata."),
        key("systems", Kind::Named(&SYSTEM), "Task systems by name. A type without an entry has a default one."),
        key("basePodTemplate", Kind::One(&BASE), "The layer of every task pod, in ClearML's flat form."),
        key("environments", Kind::Named(&ENVIRONMENT), "The layers of an environment's pods, by its name."),
        key("queues", Kind::Named(&QUEUE), "The layers of a queue's pods, by the queue's name."),
        key("modules", Kind::Named(&MODULE), "WebAssembly modules, for logic that YAML cannot express."),
        key("taskConfig", Kind::List(&TASK_CONFIG), "Configuration vaults: global < namespaces < queue < user."),
        key("providersInfo", Kind::List(&PROVIDERS_INFO), "Data of identity providers about users."),
        key(
            "unknownQueue",
            Kind::Word(UNKNOWN_QUEUE),
            "Handling of a pod whose queue is not configured. Default: Base.",
        ),
        later("defaultTemplate"),
        later("guards"),
        later("levelMode"),
        later("podTemplates"),
        later("tasks"),
        agent("containerCustomBashScript"),
        agent("createQueueIfNotExists"),
        agent("createQueues"),
        agent("customBashScript"),
        agent("defaultContainerImage"),
        agent("extraEnvs"),
        agent("fileMounts"),
        agent("queueSettings"),
    ]],
};

pub(crate) const UNKNOWN_QUEUE: &[&str] = &["Base", "Ignore", "Deny"];

/// `systems.<name>`.
pub(crate) static SYSTEM: Keys = Keys {
    name: "System",
    parts: &[&[
        required("type", Kind::Word(&["ClearML", "Generic"]), "The type of the task system."),
        key("namespaces", Kind::Texts, "Namespaces of its task pods. Default: all."),
        key(
            "podNamePrefix",
            Kind::Text,
            "The text before the task's id in a pod's name (ClearML). Default: clearml-id-.",
        ),
        key("submitters", Kind::Texts, "Users that are trusted to name a task's identity."),
        later("resolver"),
        later("skip"),
    ]],
};

/// The words of `conflict` and `merge`.
pub(crate) const CONFLICT: &[&str] = &["Keep", "Override", "Deny"];
pub(crate) const MERGE: &[&str] = &["Strategic", "Replace"];

/// The keys of a unit beside its templates.
const UNIT: &[Key] = &[
    key("conflict", Kind::Word(CONFLICT), "The rule for a field that the pod sets to another value."),
    key("merge", Kind::Word(MERGE), "Strategic merges a queue's keys with the base's, Replace replaces those."),
    key("claims", Kind::List(&CLAIM), "Volumes with a claim that is created with the pod or exists already."),
    key("modules", Kind::Texts, "The modules that run, in this order."),
];

/// The keys of the flat form. Container-level keys go to the pod's primary container, as their paths say.
pub(crate) const FLAT: &[Key] = &[
    key("labels", Kind::Pod(&["metadata", "labels"]), "Labels of the pod."),
    key("annotations", Kind::Pod(&["metadata", "annotations"]), "Annotations of the pod."),
    key("volumes", Kind::Pod(&["spec", "volumes"]), "Volumes of the pod."),
    key("nodeSelector", Kind::Pod(&["spec", "nodeSelector"]), "Labels that the pod's node must have."),
    key("tolerations", Kind::Pod(&["spec", "tolerations"]), "Taints that the pod tolerates."),
    key("affinity", Kind::Pod(&["spec", "affinity"]), "Node and pod affinity of the pod."),
    key(
        "topologySpreadConstraints",
        Kind::Pod(&["spec", "topologySpreadConstraints"]),
        "Rules for spreading pods over topology domains.",
    ),
    key("schedulerName", Kind::Pod(&["spec", "schedulerName"]), "The scheduler of the pod."),
    key("priorityClassName", Kind::Pod(&["spec", "priorityClassName"]), "The pod's PriorityClass."),
    key("runtimeClassName", Kind::Pod(&["spec", "runtimeClassName"]), "The pod's RuntimeClass."),
    key("serviceAccountName", Kind::Pod(&["spec", "serviceAccountName"]), "The service account of the pod."),
    key("imagePullSecrets", Kind::Pod(&["spec", "imagePullSecrets"]), "Secrets for pulling images."),
    key("hostAliases", Kind::Pod(&["spec", "hostAliases"]), "Entries of the pod's hosts file."),
    key("podSecurityContext", Kind::Pod(&["spec", "securityContext"]), "The securityContext of the pod."),
    key("initContainers", Kind::Pod(&["spec", "initContainers"]), "Containers that run before the task."),
    key("env", Kind::Pod(&["spec", "containers", "env"]), "Environment variables of the primary container."),
    key(
        "envFrom",
        Kind::Pod(&["spec", "containers", "envFrom"]),
        "ConfigMaps and Secrets as environment of the primary container.",
    ),
    key("volumeMounts", Kind::Pod(&["spec", "containers", "volumeMounts"]), "Volume mounts of the primary container."),
    key("resources", Kind::Pod(&["spec", "containers", "resources"]), "Requests and limits of the primary container."),
    key(
        "containerSecurityContext",
        Kind::Pod(&["spec", "containers", "securityContext"]),
        "The securityContext of the primary container.",
    ),
    key(
        EXTRA_VOLUMES,
        Kind::Pod(&["spec", "volumes"]),
        "Volumes in addition to those of the base, also with `merge: Replace`.",
    ),
    key(
        EXTRA_MOUNTS,
        Kind::Pod(&["spec", "containers", "volumeMounts"]),
        "Volume mounts in addition to those of the base.",
    ),
    key(SIDECARS, Kind::Pod(&["spec", "initContainers"]), "Native sidecar containers."),
    key(FILE_MOUNTS, Kind::List(&FILE_MOUNT), "Files in the primary container."),
    key("allowUnknownFields", Kind::Bool, "Allows fields that are not in the Pod schema of this version."),
    later("template"),
];

pub(crate) const EXTRA_VOLUMES: &str = "extraVolumes";
pub(crate) const EXTRA_MOUNTS: &str = "extraVolumeMounts";
pub(crate) const SIDECARS: &str = "sidecars";
pub(crate) const FILE_MOUNTS: &str = "fileMounts";

/// The keys of an entry of `fileMounts`.
pub(crate) static FILE_MOUNT: Keys = Keys {
    name: "FileMount",
    parts: &[&[
        required("name", Kind::Text, "The file's name."),
        required("folderPath", Kind::Text, "The folder of the file in the container."),
        key("fileContent", Kind::Text, "The file's text: at most 64 KiB and no secret, as it becomes an annotation."),
        key("configMapRef", Kind::One(&FILE_REF), "The ConfigMap with the file, in the pod's namespace."),
        key("secretRef", Kind::One(&FILE_REF), "The Secret with the file, in the pod's namespace."),
    ]],
};

/// The keys of `configMapRef` and `secretRef`.
pub(crate) static FILE_REF: Keys = Keys {
    name: "FileRef",
    parts: &[&[
        required("name", Kind::Text, "The name of the ConfigMap or Secret."),
        key("key", Kind::Text, "The key in it. Default: the file's name."),
    ]],
};

/// The keys of `basePodTemplate`.
pub(crate) static BASE: Keys = Keys { name: "BasePodTemplate", parts: &[FLAT, UNIT] };

/// The keys of `templateOverrides`.
pub(crate) static OVERRIDES: Keys = Keys { name: "TemplateOverrides", parts: &[FLAT] };

/// The keys of `podTemplate`.
pub(crate) static POD_TEMPLATE: Keys = Keys {
    name: "PodTemplate",
    parts: &[&[
        key(
            "primaryContainerName",
            Kind::Text,
            "The entry of spec.containers that is applied to the primary container. Default: primary.",
        ),
        key("metadata", Kind::PodMetadata, "Labels and annotations of the pod."),
        key(
            "spec",
            Kind::Pod(&["spec"]),
            "The spec of a Pod; an entry of containers is applied to the container of its name.",
        ),
        key("allowUnknownFields", Kind::Bool, "Allows fields that are not in the Pod schema of this version."),
    ]],
};

/// The fields of the primary container that only the task system sets.
pub(crate) const TASK_FIELDS: [&str; 3] = ["image", "command", "args"];

/// Returns the error for a known key that is not allowed in this mapping of a template.
pub(crate) fn misplaced(keys: &Keys, name: &str) -> Option<String> {
    let (template, beside) = match keys.name {
        "TemplateOverrides" => ("templateOverrides", &QUEUE),
        "PodTemplate" => ("podTemplate", &QUEUE),
        "BasePodTemplate" => ("basePodTemplate", &BASE),
        _ => return None,
    };
    if TASK_FIELDS.contains(&name) {
        return Some("no layer may set it: the task sets the image, command and args of the primary container".into());
    }
    let known = beside.find(name).is_some_and(|key| matches!(key.status, KeyStatus::Optional));
    known.then(|| format!("belongs beside `{template}`, not into it"))
}

/// The keys of `environments.<name>`.
pub(crate) static ENVIRONMENT: Keys = Keys {
    name: "Environment",
    parts: &[
        &[
            key(
                "match",
                Kind::One(&ENVIRONMENT_MATCH),
                "Which pods this applies to. Default: pods that name the environment.",
            ),
            key("priority", Kind::Int, "Higher priorities are applied later. Default: 0."),
            key(
                "podTemplate",
                Kind::One(&POD_TEMPLATE),
                "A layer in the form of a Pod; keeps the pod's own values by default.",
            ),
            later("template"),
            later("templateOverrides"),
            later("queue"),
            later("levelMode"),
        ],
        UNIT,
    ],
};

const MATCH: &[Key] = &[
    key("namespaces", Kind::Texts, "Namespaces of the pod."),
    key("podLabels", Kind::Labels, "Labels that the pod must have, all of them."),
];

pub(crate) static ENVIRONMENT_MATCH: Keys = Keys { name: "EnvironmentMatch", parts: &[MATCH, &[later("flyte")]] };
pub(crate) static QUEUE_MATCH: Keys = Keys { name: "QueueMatch", parts: &[MATCH] };

/// The keys of `queues.<name>`.
pub(crate) static QUEUE: Keys = Keys {
    name: "Queue",
    parts: &[
        &[
            key("id", Kind::Text, "The id of the queue in the task system; takes precedence over the name."),
            key("system", Kind::Text, "The task system of the queue, an entry of `systems`. Default: all."),
            key("mode", Kind::Word(&["Enforce"]), "Enforce changes pods."),
            key("match", Kind::One(&QUEUE_MATCH), "Which pods this applies to. Default: all pods of the queue."),
            key(
                "podTemplate",
                Kind::One(&POD_TEMPLATE),
                "A layer in the form of a Pod; keeps the pod's own values by default.",
            ),
            key(
                "templateOverrides",
                Kind::One(&OVERRIDES),
                "A layer in ClearML's flat form; overrides the pod by default.",
            ),
            later("template"),
            later("levelMode"),
            agent("queueSettings"),
        ],
        UNIT,
    ],
};

/// The keys of an entry of `claims`.
pub(crate) static CLAIM: Keys = Keys {
    name: "Claim",
    parts: &[&[
        required("volume", Kind::Text, "The volume that gets the claim as its source."),
        required(
            "type",
            Kind::Word(&["Ephemeral", "Existing"]),
            "Ephemeral: created with the pod. Existing: exists already.",
        ),
        key("name", Kind::Text, "The name of the existing claim (Existing)."),
        key("labels", Kind::Labels, "Labels of the created claim (Ephemeral)."),
        key("annotations", Kind::Labels, "Annotations of the created claim (Ephemeral)."),
        key(
            "spec",
            Kind::Pod(&["spec", "volumes", "ephemeral", "volumeClaimTemplate", "spec"]),
            "The spec of the created PersistentVolumeClaim (Ephemeral).",
        ),
        later("onError"),
        later("reclaim"),
    ]],
};

/// The keys of `modules.<name>`.
pub(crate) static MODULE: Keys = Keys {
    name: "Module",
    parts: &[&[
        required("wasm", Kind::Text, "The name of the .wasm file."),
        key("sha256", Kind::Text, "The SHA-256 that the file must have: 64 hexadecimal digits."),
        key("when", Kind::Text, "A CEL condition. The module is skipped for pods where it is false."),
        key("params", Kind::Tree, "Parameters, passed to the module unchanged."),
        key("mayRemove", Kind::Bool, "Allows the module to remove fields. Default: false."),
        key(
            "onError",
            Kind::Word(&["Fail", "Ignore"]),
            "Fail denies the pod when the module fails, Ignore skips the module. Default: Fail.",
        ),
        key("budget", Kind::One(&BUDGET), "Limits of one call."),
        later("javascript"),
        later("jobTemplate"),
        later("python"),
    ]],
};

/// The keys of `modules.<name>.budget`.
pub(crate) static BUDGET: Keys = Keys {
    name: "Budget",
    parts: &[&[
        key("time", Kind::Text, "Wall-clock time, like 200ms or 1s."),
        key("memory", Kind::Quantity, "Linear memory, like 64Mi."),
    ]],
};

/// The keys of an entry of `taskConfig`.
pub(crate) static TASK_CONFIG: Keys = Keys {
    name: "TaskConfig",
    parts: &[VAULT, &[required("config", Kind::Tree, "The data that modules and conditions read.")]],
};
/// The keys of an entry of `providersInfo`.
pub(crate) static PROVIDERS_INFO: Keys = Keys {
    name: "ProvidersInfo",
    parts: &[VAULT, &[required("info", Kind::Tree, "The data that modules and conditions read.")]],
};
const VAULT: &[Key] = &[key("match", Kind::One(&VAULT_MATCH), "Which pods this applies to. Default: all.")];

pub(crate) static VAULT_MATCH: Keys = Keys {
    name: "VaultMatch",
    parts: &[&[
        key("namespaces", Kind::Texts, "Namespaces of the pod."),
        key("queue", Kind::Text, "The queue of the pod, by name or id."),
        key("user", Kind::Text, "The user of the task."),
    ]],
};
