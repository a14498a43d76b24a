//! Every key of a GraftConfig: what stands where, and what it holds.
//!
//! One table for both readers: the decoders take keys through it (a key that is not here cannot be taken, and a key
//! that is here and not taken fails a test), and the JSON schema for editors is written from it. What is below a Pod's
//! field is not repeated: [`Kind::Pod`] points into the schema table.

/// A mapping with a closed set of keys, in parts that several mappings share.
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
    pub(crate) stage: KeyStatus,
    /// one sentence, as editors show it
    pub(crate) about: &'static str,
}

/// What becomes of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyStatus {
    /// it may be there
    Optional,
    /// it must be there
    Required,
    /// the documentation knows it and this version does not
    Later,
    /// the ClearML agent's own: accepted, and said to be so
    Agent,
}

/// What a key holds.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Text,
    Texts,
    Bool,
    Int,
    Quantity,
    /// one of these
    Word(&'static [&'static str]),
    /// strings by name
    Labels,
    /// any mapping
    Tree,
    /// a mapping of the user's names
    Named(&'static Keys),
    /// a mapping
    One(&'static Keys),
    /// a list of mappings
    List(&'static Keys),
    /// the Pod's field at this path, through lists
    Pod(&'static [&'static str]),
    /// `metadata` of a pod template
    PodMetadata,
    /// anything: not read
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

const fn key(name: &'static str, kind: Kind, about: &'static str) -> Key {
    Key { name, kind, stage: KeyStatus::Optional, about }
}

const fn required(name: &'static str, kind: Kind, about: &'static str) -> Key {
    Key { name, kind, stage: KeyStatus::Required, about }
}

const fn later(name: &'static str) -> Key {
    Key { name, kind: Kind::Any, stage: KeyStatus::Later, about: "Not supported yet." }
}

const fn agent(name: &'static str) -> Key {
    Key { name, kind: Kind::Any, stage: KeyStatus::Agent, about: "The ClearML agent's own: accepted and not read." }
}

/// A file.
pub(crate) static FILE: Keys = Keys {
    name: "GraftConfig",
    parts: &[&[
        required("apiVersion", Kind::Word(&["podgraft.io/v1alpha1"]), "The version of this format."),
        required("kind", Kind::Word(&["GraftConfig"]), "What this file is."),
        key("metadata", Kind::Any, "Not read: for tools that want one."),
        key("systems", Kind::Named(&SYSTEM), "Instances of task systems; a type without one has its stock instance."),
        key("basePodTemplate", Kind::One(&BASE), "What every task pod gets, in ClearML's flat form."),
        key("environments", Kind::Named(&ENVIRONMENT), "What the pods of an environment get."),
        key("queues", Kind::Named(&QUEUE), "What the pods of a queue get, by the queue's name."),
        key("modules", Kind::Named(&MODULE), "WebAssembly modules that change pods where YAML ends."),
        key("taskConfig", Kind::List(&TASK_CONFIG), "Configuration vaults: global < namespaces < queue < user."),
        key("providersInfo", Kind::List(&PROVIDERS_INFO), "What identity providers say of users."),
        key("unknownQueue", Kind::Word(UNKNOWN_QUEUE), "What happens to a pod whose queue is not configured here."),
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
        required("type", Kind::Word(&["ClearML", "Generic"]), "How its pods are understood."),
        key("namespaces", Kind::Texts, "Where its task pods live; absent: anywhere."),
        key("podNamePrefix", Kind::Text, "What precedes the task's id in a pod's name (ClearML)."),
        key("submitters", Kind::Texts, "User names whose word counts for a task's identity."),
        later("resolver"),
        later("skip"),
    ]],
};

/// What `conflict` and `merge` may say.
pub(crate) const CONFLICT: &[&str] = &["Keep", "Override", "Deny"];
pub(crate) const MERGE: &[&str] = &["Strategic", "Replace"];

/// What a unit has beside its templates.
const UNIT: &[Key] = &[
    key("conflict", Kind::Word(CONFLICT), "What happens where the pod has a value of its own."),
    key("merge", Kind::Word(MERGE), "Whether a queue's keys are merged with the base's, or replace them."),
    key("claims", Kind::List(&CLAIM), "Volumes whose storage Kubernetes makes with the pod, or that exist already."),
    key("modules", Kind::Texts, "The modules that run, in this order."),
];

/// The flat form: container-level keys go to the pod's primary container. A field's path says where each goes.
pub(crate) const FLAT: &[Key] = &[
    key("labels", Kind::Pod(&["metadata", "labels"]), "Labels of the pod."),
    key("annotations", Kind::Pod(&["metadata", "annotations"]), "Annotations of the pod."),
    key("volumes", Kind::Pod(&["spec", "volumes"]), "Volumes of the pod."),
    key("nodeSelector", Kind::Pod(&["spec", "nodeSelector"]), "Labels that the pod's node must have."),
    key("tolerations", Kind::Pod(&["spec", "tolerations"]), "Taints that the pod tolerates."),
    key("affinity", Kind::Pod(&["spec", "affinity"]), "Which nodes and neighbours the pod wants."),
    key("topologySpreadConstraints", Kind::Pod(&["spec", "topologySpreadConstraints"]), "How pods are spread."),
    key("schedulerName", Kind::Pod(&["spec", "schedulerName"]), "The scheduler that places the pod."),
    key("priorityClassName", Kind::Pod(&["spec", "priorityClassName"]), "The pod's PriorityClass."),
    key("runtimeClassName", Kind::Pod(&["spec", "runtimeClassName"]), "The pod's RuntimeClass."),
    key("serviceAccountName", Kind::Pod(&["spec", "serviceAccountName"]), "The account that the pod runs under."),
    key("imagePullSecrets", Kind::Pod(&["spec", "imagePullSecrets"]), "Secrets for pulling images."),
    key("hostAliases", Kind::Pod(&["spec", "hostAliases"]), "Entries of the pod's hosts file."),
    key("podSecurityContext", Kind::Pod(&["spec", "securityContext"]), "The pod's securityContext."),
    key("initContainers", Kind::Pod(&["spec", "initContainers"]), "Containers that run before the task."),
    key("env", Kind::Pod(&["spec", "containers", "env"]), "Environment variables of the task's container."),
    key("envFrom", Kind::Pod(&["spec", "containers", "envFrom"]), "Whole ConfigMaps and Secrets as its environment."),
    key("volumeMounts", Kind::Pod(&["spec", "containers", "volumeMounts"]), "Where its volumes are mounted."),
    key("resources", Kind::Pod(&["spec", "containers", "resources"]), "Its requests and limits."),
    key("containerSecurityContext", Kind::Pod(&["spec", "containers", "securityContext"]), "Its securityContext."),
    key(EXTRA_VOLUMES, Kind::Pod(&["spec", "volumes"]), "Volumes beside those of the base, whatever `merge` says."),
    key(EXTRA_MOUNTS, Kind::Pod(&["spec", "containers", "volumeMounts"]), "Mounts beside those of the base."),
    key(SIDECARS, Kind::Pod(&["spec", "initContainers"]), "Containers beside the task, as native sidecars."),
    key(FILE_MOUNTS, Kind::List(&FILE_MOUNT), "Files in the task's container."),
    key(
        "allowUnknownFields",
        Kind::Bool,
        "Whether fields that this version's Pod schema does not have may stand here.",
    ),
    later("template"),
];

pub(crate) const EXTRA_VOLUMES: &str = "extraVolumes";
pub(crate) const EXTRA_MOUNTS: &str = "extraVolumeMounts";
pub(crate) const SIDECARS: &str = "sidecars";
pub(crate) const FILE_MOUNTS: &str = "fileMounts";

/// An entry of `fileMounts`.
pub(crate) static FILE_MOUNT: Keys = Keys {
    name: "FileMount",
    parts: &[&[
        required("name", Kind::Text, "The file's name."),
        required("folderPath", Kind::Text, "The folder that it appears in."),
        key("fileContent", Kind::Text, "Its text, at most 64 KiB and no secret: it travels in an annotation."),
        key("configMapRef", Kind::One(&FILE_REF), "The ConfigMap of the pod's namespace that has its text."),
        key("secretRef", Kind::One(&FILE_REF), "The Secret of the pod's namespace that has its text."),
    ]],
};

/// `configMapRef`, `secretRef`.
pub(crate) static FILE_REF: Keys = Keys {
    name: "FileRef",
    parts: &[&[
        required("name", Kind::Text, "The object's name."),
        key("key", Kind::Text, "The key in it; the file's name if absent."),
    ]],
};

/// `basePodTemplate`.
pub(crate) static BASE: Keys = Keys { name: "BasePodTemplate", parts: &[FLAT, UNIT] };

/// `templateOverrides`.
pub(crate) static OVERRIDES: Keys = Keys { name: "TemplateOverrides", parts: &[FLAT] };

/// `podTemplate`.
pub(crate) static POD_TEMPLATE: Keys = Keys {
    name: "PodTemplate",
    parts: &[&[
        key("primaryContainerName", Kind::Text, "The entry of spec.containers that lies over the task's container."),
        key("metadata", Kind::PodMetadata, "labels and annotations."),
        key("spec", Kind::Pod(&["spec"]), "A Pod's spec; an entry of containers lies over the container of its name."),
        key(
            "allowUnknownFields",
            Kind::Bool,
            "Whether fields that this version's Pod schema does not have may stand here.",
        ),
    ]],
};

/// What the task's own container is, the task system says.
pub(crate) const OWNED: [&str; 3] = ["image", "command", "args"];

/// What is said of a key that means something, but not in this mapping of a template.
pub(crate) fn misplaced(keys: &Keys, name: &str) -> Option<String> {
    let (template, beside) = match keys.name {
        "TemplateOverrides" => ("templateOverrides", &QUEUE),
        "PodTemplate" => ("podTemplate", &QUEUE),
        "BasePodTemplate" => ("basePodTemplate", &BASE),
        _ => return None,
    };
    if OWNED.contains(&name) {
        return Some(
            "no layer gives it: the image, command and args of the task's container are the task's own".into(),
        );
    }
    let known = beside.find(name).is_some_and(|key| matches!(key.stage, KeyStatus::Optional));
    known.then(|| format!("stands beside `{template}`, not in it"))
}

/// `environments.<name>`.
pub(crate) static ENVIRONMENT: Keys = Keys {
    name: "Environment",
    parts: &[
        &[
            key("match", Kind::One(&ENVIRONMENT_MATCH), "Which pods it is for; absent: those that name it."),
            key("priority", Kind::Int, "The higher is laid over the lower."),
            key("podTemplate", Kind::One(&POD_TEMPLATE), "What it lays over its pods."),
            later("template"),
            later("templateOverrides"),
            later("queue"),
            later("levelMode"),
        ],
        UNIT,
    ],
};

const MATCH: &[Key] = &[
    key("namespaces", Kind::Texts, "The pod is in one of these."),
    key("podLabels", Kind::Labels, "The pod has all of these labels."),
];

pub(crate) static ENVIRONMENT_MATCH: Keys = Keys { name: "EnvironmentMatch", parts: &[MATCH, &[later("flyte")]] };
pub(crate) static QUEUE_MATCH: Keys = Keys { name: "QueueMatch", parts: &[MATCH] };

/// `queues.<name>`.
pub(crate) static QUEUE: Keys = Keys {
    name: "Queue",
    parts: &[
        &[
            key("id", Kind::Text, "The system's id of the queue; wins over the name."),
            key("system", Kind::Text, "Only for this instance of systems."),
            key("mode", Kind::Word(&["Enforce"]), "Whether pods are changed."),
            key("match", Kind::One(&QUEUE_MATCH), "Only for these pods."),
            key("podTemplate", Kind::One(&POD_TEMPLATE), "What it lays over its pods."),
            key("templateOverrides", Kind::One(&OVERRIDES), "The same in ClearML's flat form; wins over the pod."),
            later("template"),
            later("levelMode"),
            agent("queueSettings"),
        ],
        UNIT,
    ],
};

/// An entry of `claims`.
pub(crate) static CLAIM: Keys = Keys {
    name: "Claim",
    parts: &[&[
        required("volume", Kind::Text, "The volume that it gives a source to."),
        required("type", Kind::Word(&["Ephemeral", "Existing"]), "Made with the pod, or there already."),
        key("name", Kind::Text, "The claim that exists (Existing)."),
        key("labels", Kind::Labels, "Labels of the claim that is made (Ephemeral)."),
        key("annotations", Kind::Labels, "Its annotations (Ephemeral)."),
        key(
            "spec",
            Kind::Pod(&["spec", "volumes", "ephemeral", "volumeClaimTemplate", "spec"]),
            "A PersistentVolumeClaim's spec (Ephemeral).",
        ),
        later("onError"),
        later("reclaim"),
    ]],
};

/// `modules.<name>`.
pub(crate) static MODULE: Keys = Keys {
    name: "Module",
    parts: &[&[
        required("wasm", Kind::Text, "The file with its bytes."),
        key("sha256", Kind::Text, "What its bytes must be: 64 hexadecimal digits."),
        key("when", Kind::Text, "A CEL condition; it runs only where this holds."),
        key("params", Kind::Tree, "Handed to it as they are."),
        key("mayRemove", Kind::Bool, "Whether it may take something away."),
        key("onError", Kind::Word(&["Fail", "Ignore"]), "What its failure means for the pod."),
        key("budget", Kind::One(&BUDGET), "What one call may use."),
        later("javascript"),
        later("jobTemplate"),
        later("python"),
    ]],
};

/// `modules.<name>.budget`.
pub(crate) static BUDGET: Keys = Keys {
    name: "Budget",
    parts: &[&[
        key("time", Kind::Text, "Wall clock: 200ms, 1s."),
        key("memory", Kind::Quantity, "Linear memory: 64Mi."),
    ]],
};

/// An entry of `taskConfig`, and of `providersInfo`.
pub(crate) static TASK_CONFIG: Keys = Keys {
    name: "TaskConfig",
    parts: &[VAULT, &[required("config", Kind::Tree, "The tree that modules and conditions see.")]],
};
pub(crate) static PROVIDERS_INFO: Keys = Keys {
    name: "ProvidersInfo",
    parts: &[VAULT, &[required("info", Kind::Tree, "The tree that modules and conditions see.")]],
};
const VAULT: &[Key] = &[key("match", Kind::One(&VAULT_MATCH), "Whom it is about; absent: everybody.")];

pub(crate) static VAULT_MATCH: Keys = Keys {
    name: "VaultMatch",
    parts: &[&[
        key("namespaces", Kind::Texts, "The pod is in one of these."),
        key("queue", Kind::Text, "The pod's queue, by name or id."),
        key("user", Kind::Text, "The task's user."),
    ]],
};
