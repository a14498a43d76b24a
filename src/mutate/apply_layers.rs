//! Laying a plan's layers: merged beforehand where that is exact, or one by one.

use super::{FragmentSource, NO_PRIMARY, Reason, Denial, Work};
use crate::json::Json;
use crate::merge::plan_cache::{MergedPlan, names};
use crate::merge::{Merger, MergeRule, MergeError};
use crate::mutate::provenance::Steps;
use crate::sidecars;
use crate::model::snapshot::{Layer, Source};

/// What laying gives: the pod after each step, and what was laid.
struct AppliedLayers<'w, 'a> {
    merger: Merger<'a, 'w>,
    steps: Steps<'a>,
    fragments: Vec<(FragmentSource<'a>, Json<'a>)>,
}

impl<'w, 'a> Work<'w, 'a> {
    pub(super) fn apply_layers(&mut self) -> Result<(), Denial> {
        let merged = self.merged.and_then(|merged| self.apply_premerged(merged));
        let (laid, result) = if let Some(laid) = merged {
            (laid, Ok(()))
        } else {
            self.merged = None;
            self.apply_one_by_one()
        };
        (self.merger, self.steps, self.laid) = (laid.merger, laid.steps, laid.fragments);
        self.layer_steps = self.steps.steps.len();
        self.applied = self.merged.map_or_else(|| names(&self.plan.layers), |merged| merged.names.clone());
        result
    }

    /// None where the pod makes a difference, or is to be refused by a sentence that names the layer.
    fn apply_premerged(&self, merged: &'a MergedPlan) -> Option<AppliedLayers<'w, 'a>> {
        let mut all = self.none_applied();
        for run in &merged.runs {
            let layer = *self.plan.layers.get(run.layers.start)?;
            let fragment = match &run.fragment {
                Some(fragment) => fragment.borrowed(self.arena),
                None => self.fragment(layer).ok()?,
            };
            all.apply(layer, fragment, self.rule(layer)).ok()?;
            if run.order_matters && all.merger.has_agreed() {
                return None;
            }
        }
        Some(all)
    }

    /// What could be laid, and why no more.
    fn apply_one_by_one(&self) -> (AppliedLayers<'w, 'a>, Result<(), Denial>) {
        let mut all = self.none_applied();
        let result = self.plan.layers.iter().try_for_each(|layer| {
            let fragment = self.fragment(layer)?;
            all.apply(layer, fragment, self.rule(layer)).map_err(|trouble| denial_of(layer, &trouble))
        });
        (all, result)
    }

    fn none_applied(&self) -> AppliedLayers<'w, 'a> {
        let merger = Merger::new(self.pod.object, self.managed_fields, self.task.primary, self.arena);
        AppliedLayers { merger, steps: Steps { submitted: self.pod.object, steps: Vec::new() }, fragments: Vec::new() }
    }

    fn fragment(&self, layer: &'a Layer) -> Result<Json<'a>, Denial> {
        let fragment = if layer.placeholders { self.fill_placeholders(layer)? } else { Json::borrowed(&layer.fragment, self.arena) };
        Ok(sidecars::to_native_sidecars(fragment, self.pod.object, self.arena))
    }

    fn rule(&self, layer: &Layer) -> MergeRule {
        MergeRule {
            conflict: layer.conflict,
            keeps_env: self.task.owner_sets_env() && !layer.explicit,
            // A layer takes away what it names with `$patch`: it is written out.
            may_remove: true,
            alias: true,
        }
    }

    /// Who touched `path` last. The steps of layers that were merged do not tell, so these are laid again.
    pub(super) fn last_writer(&self, path: &str) -> Option<Source> {
        let again = self.merged.map(|_| self.apply_one_by_one().0);
        let Some(AppliedLayers { mut steps, .. }) = again else { return self.steps.last_writer(path, self.arena) };
        steps.steps.extend_from_slice(self.steps.steps.get(self.layer_steps..).unwrap_or_default());
        steps.last_writer(path, self.arena)
    }
}

impl<'a> AppliedLayers<'_, 'a> {
    fn apply(&mut self, layer: &'a Layer, fragment: Json<'a>, rule: MergeRule) -> Result<(), MergeError> {
        let pod = self.merger.apply(self.steps.last(), fragment, rule)?;
        self.steps.push(layer.source.clone(), pod);
        self.fragments.push((FragmentSource::Layer(layer), fragment));
        Ok(())
    }
}

fn denial_of(layer: &Layer, trouble: &MergeError) -> Denial {
    let at = format!("{} ({}:{})", layer.source, layer.file, layer.line);
    match trouble {
        MergeError::NoPrimary => Denial::new(Reason::NoPrimaryContainer, format!("{} {NO_PRIMARY}", layer.source)),
        MergeError::Conflict(path) => Denial::new(
            Reason::Conflict,
            format!("{at} wants another value for {path} than is there, and its conflict rule is Deny"),
        ),
        MergeError::Removal(path) => Denial::new(Reason::ConfigInvalid, format!("{at} may not take away {path}")),
        MergeError::Directive(what) => Denial::new(Reason::ConfigInvalid, format!("{at}: {what}")),
    }
}

#[cfg(test)]
mod tests;
