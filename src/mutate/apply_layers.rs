//! Applies a plan's layers: merged beforehand where that is exact, or one by one.

use bumpalo::Bump;

use super::applied::{Applied, Interrupted};
use super::context::Context;
use super::mutation::{LayerMode, NO_PRIMARY};
use crate::json::Json;
use crate::k8s::labels::PRIMARY;
use crate::merge::layer::{Layer, Source};
use crate::merge::plan_cache::{MergedPlan, names};
use crate::merge::{MergeError, MergeRule, Merger};
use crate::model::denial::{Denial, Reason};
use crate::mutate::provenance::FragmentSource;

type Result<'w, 'a> = std::result::Result<Applied<'w, 'a>, Box<Interrupted<'w, 'a>>>;

impl<'w, 'a> Context<'w, 'a> {
    /// Applies the plan's layers to the submitted pod.
    pub(super) fn apply_layers(&self, mode: LayerMode) -> Result<'w, 'a> {
        let merged = (mode == LayerMode::Premerged).then(|| self.snapshot.plans.get(&self.plan.layers)).flatten();
        let (mut applied, result) = match merged.and_then(|merged| self.apply_premerged(merged)) {
            Some(applied) => (applied, Ok(())),
            None => self.apply_one_by_one(),
        };
        applied.layer_steps = applied.steps.steps.len();
        applied.names = applied.premerged.map_or_else(|| names(&self.plan.layers), |merged| merged.names.clone());
        match result {
            Ok(()) => Ok(applied),
            Err(denial) => Err(Interrupted::new(denial, applied)),
        }
    }

    /// Applies layers that were merged beforehand. Returns `None` if applying them one by one could give another pod,
    /// or if a denial must name the layer.
    fn apply_premerged(&self, merged: &'a MergedPlan) -> Option<Applied<'w, 'a>> {
        let mut applied = self.submitted();
        applied.premerged = Some(merged);
        for run in &merged.runs {
            let layer = *self.plan.layers.get(run.layers.start)?;
            let fragment = match &run.fragment {
                Some(fragment) => fragment.borrowed(self.arena),
                None => self.fragment(layer).ok()?,
            };
            applied.apply_layer(layer, fragment, self.rule(layer)).ok()?;
            if run.order_matters && applied.merger.has_agreed() {
                return None;
            }
        }
        Some(applied)
    }

    /// Applies layer by layer, up to the first that denies the pod.
    fn apply_one_by_one(&self) -> (Applied<'w, 'a>, std::result::Result<(), Denial>) {
        let mut applied = self.submitted();
        let result = self.plan.layers.iter().try_for_each(|layer| {
            let fragment = self.fragment(layer)?;
            applied.apply_layer(layer, fragment, self.rule(layer)).map_err(|error| denial_of(layer, &error))
        });
        (applied, result)
    }

    fn submitted(&self) -> Applied<'w, 'a> {
        let merger = Merger::new(self.pod.object, self.managed_fields, self.task.primary, self.arena);
        Applied::submitted(self.pod.object, merger)
    }

    fn fragment(&self, layer: &'a Layer) -> std::result::Result<Json<'a>, Denial> {
        let fragment = if layer.placeholders {
            self.fill_placeholders(layer)?
        } else {
            Json::borrowed(&layer.fragment, self.arena)
        };
        Ok(to_native_sidecars(fragment, self.pod.object, self.arena))
    }

    fn rule(&self, layer: &Layer) -> MergeRule {
        MergeRule {
            conflict: layer.conflict,
            keeps_env: self.task.user_sets_env() && !layer.explicit,
            // A layer removes what it names with `$patch`: its author wrote the removal out.
            may_remove: true,
            alias: true,
        }
    }

    /// Returns the source that wrote `path` last. A step of layers that were merged beforehand does not tell which of
    /// them wrote a field, so these layers are applied again, one by one.
    pub(super) fn last_writer(&self, applied: &Applied<'w, 'a>, path: &str) -> Option<Source> {
        if applied.premerged.is_none() {
            return applied.steps.last_writer(path, self.arena);
        }
        let mut steps = self.apply_one_by_one().0.steps;
        steps.steps.extend_from_slice(applied.steps.steps.get(applied.layer_steps..).unwrap_or_default());
        steps.last_writer(path, self.arena)
    }
}

impl<'a> Applied<'_, 'a> {
    fn apply_layer(
        &mut self,
        layer: &'a Layer,
        fragment: Json<'a>,
        rule: MergeRule,
    ) -> std::result::Result<(), MergeError> {
        let pod = self.merger.apply(self.steps.last(), fragment, rule)?;
        self.steps.push(layer.source.clone(), pod);
        self.fragments.push((FragmentSource::Layer(layer), fragment));
        Ok(())
    }
}

fn denial_of(layer: &Layer, error: &MergeError) -> Denial {
    let place = format!("{} ({}:{})", layer.source, layer.file, layer.line);
    match error {
        MergeError::NoPrimary => Denial::new(Reason::NoPrimaryContainer, format!("{} {NO_PRIMARY}", layer.source)),
        MergeError::Conflict(path) => Denial::new(
            Reason::Conflict,
            format!("{place} sets another value for {path} than the pod has, and its conflict rule is Deny"),
        ),
        MergeError::Removal(path) => Denial::new(Reason::ConfigInvalid, format!("{place} may not remove {path}")),
        MergeError::Directive(what) => Denial::new(Reason::ConfigInvalid, format!("{place}: {what}")),
    }
}

/// Moves those entries of the fragment's `containers` to its init containers that have an image and are not a
/// container of the pod. `pod` is the submitted one: a sidecar that an earlier pass added is not among its
/// `containers`.
fn to_native_sidecars<'a>(fragment: Json<'a>, pod: Json<'a>, arena: &'a Bump) -> Json<'a> {
    let entries = fragment.get_path(&["spec", "containers"]).map_or(&[][..], |list| list.items());
    let own = pod.get_path(&["spec", "containers"]).map_or(&[][..], |list| list.items());
    let is_added = |entry: &Json<'a>| {
        let name = entry.get("name");
        name.is_some_and(|name| name.as_str() != Some(PRIMARY))
            && entry.get("image").is_some()
            && !own.iter().any(|own| own.get("name") == name)
    };
    if !entries.iter().any(is_added) {
        return fragment;
    }
    let sidecars = entries.iter().filter(|entry| is_added(entry));
    let sidecars = sidecars.map(|entry| entry.with("restartPolicy", Json::Str("Always"), arena));
    let init = fragment.get_path(&["spec", "initContainers"]).map_or(&[][..], |list| list.items());
    let init = Json::array(sidecars.chain(init.iter().copied()), arena);
    let others = Json::array(entries.iter().copied().filter(|entry| !is_added(entry)), arena);
    let spec = fragment.get("spec").unwrap_or(Json::Object(&[]));
    let spec = spec.with("initContainers", init, arena).with("containers", others, arena);
    fragment.with("spec", spec, arena)
}

#[cfg(test)]
mod tests;
