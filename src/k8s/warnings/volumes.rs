//! Warnings of volumes: removed plugins, and overlapping files of one volume.

use std::fmt::Arguments;

use super::Search;
use crate::json::Json;

const PLUGINS: &[(&str, &str)] = &[
    ("photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
    ("gitRepo", "deprecated in v1.11, and disabled by default in v1.33+"),
    ("scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("flocker", "deprecated in v1.22, non-functional in v1.25+"),
    ("storageos", "deprecated in v1.22, non-functional in v1.25+"),
    ("quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("rbd", "deprecated in v1.28, non-functional in v1.31+"),
];

/// Returns the API server's warning for a volume source that clusters no longer have.
pub fn deprecated_source(kind: &str) -> Option<&'static str> {
    PLUGINS.iter().find(|(plugin, _)| *plugin == kind).map(|(_, message)| *message)
}

impl<'a> Search<'a> {
    pub(super) fn volumes(&mut self) {
        let old = self.before.get_path(&["spec", "volumes"]).map_or(&[][..], |list| list.items());
        for volume in self.changed(&["volumes"]) {
            if old.iter().any(|old| old.ptr_eq(volume)) {
                continue;
            }
            let name = volume.get("name").and_then(|name| name.as_str()).unwrap_or_default();
            let path = format_args!("spec.volumes[{name}]");
            for (kind, _) in volume.members() {
                if let Some(message) = deprecated_source(kind) {
                    self.warn(format!("{path}.{kind}"), message);
                }
            }
            let claim = volume.get_path(&["ephemeral", "volumeClaimTemplate", "spec", "resources"]);
            for kind in ["requests", "limits"] {
                let amounts = claim.and_then(|claim| claim.get(kind));
                self.fractions(amounts, format_args!("{path}.ephemeral.{kind}"), &["storage"]);
            }
            for kind in ["configMap", "secret", "downwardAPI"] {
                let items = volume.get_path(&[kind, "items"]).map_or(&[][..], |items| items.items());
                self.overlaps(path, items.iter().filter_map(path_of).collect());
            }
            if let Some(sources) = volume.get_path(&["projected", "sources"]) {
                self.projected(path, sources.items());
            }
        }
    }

    fn projected(&mut self, path: Arguments<'_>, sources: &'a [Json<'a>]) {
        let mut paths = Vec::new();
        for source in sources {
            let Some((kind, inner)) = source.members().first() else {
                self.warn(path.to_string(), "(Projected) has no sources provided");
                continue;
            };
            match *kind {
                "podCertificate" => {
                    let keys = ["certificateChainPath", "keyPath", "credentialBundlePath"].into_iter();
                    paths.extend(keys.filter_map(|key| inner.get(key)?.as_str()));
                }
                "serviceAccountToken" | "clusterTrustBundle" => paths.extend(path_of(inner)),
                _ => paths.extend(inner.get("items").iter().flat_map(Json::items).filter_map(path_of)),
            }
        }
        self.overlaps(path, paths);
    }

    /// Warns of a file at the path of another one, or at the path of its directory.
    fn overlaps(&mut self, path: Arguments<'_>, files: Vec<&'a str>) {
        let files: Vec<&str> = files.into_iter().map(|file| file.trim_end_matches('/')).collect();
        let within = |file: &str, folder: &str| {
            file.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        for (index, file) in files.iter().enumerate().filter(|(_, file)| !file.is_empty()) {
            let others = files[..index].iter().filter(|other| !other.is_empty());
            if others.into_iter().any(|other| within(file, other) || within(other, file)) {
                self.warn(path.to_string(), format!("overlapping paths: {file:?}"));
            }
        }
    }
}

fn path_of<'a>(item: &Json<'a>) -> Option<&'a str> {
    item.get("path")?.as_str()
}
