"""Say what the numbers of a figure are, with unit and range, in the words of the tables they come from."""

from __future__ import annotations

from functools import cache

from elimtool.run.columns import Column
from elimtool.run.schema import TABLES
from elimtool.run.tables.comparison import COMPARISON_TABLES
from elimtool.run.tables.findings import FINDING_TABLES

COLUMNS: dict[str, dict[str, str]] = {
    "tokens": {"attention": "attention.lift_no_sink"},
    "ranks": {"rank": "lens.rank"},
    "probabilities": {"probability": "lens.prob"},
    "layer_tokens": {"rank": "lens.rank", "probability": "lens.prob"},
    "logit_lens": {
        "rank": "lens.rank",
        "probability": "lens.prob",
        "probability of the top token": "lens_layers.top_prob",
    },
    "retention": {"attention": "attention.lift_no_sink"},
    "heads": {"share": "attention_heads.mass_no_sink"},
    "heads:listing": {
        "focus A": "head_differences.focus_a",
        "focus B": "head_differences.focus_b",
        "shift (logits)": "head_differences.retention_shift",
        "z": "head_differences.z",
    },
    "head_attention": {"share": "attention_heads.mass_no_sink"},
    "attention_matrix": {"weight": "attention_weights.weight"},
    "sink": {
        "on the sink": "attention_layers.sink_mass",
        "eliminated": "attention_layers.eliminated_frac",
        "out of window": "attention_layers.masked_frac",
        "on no key": "attention_layers.null_mass",
    },
    "content": {"written": "sources.dla_centred"},
    "components": {"logits": "components.dla_centred"},
    "layer_components": {"logits": "components.dla_centred"},
    "head_attribution": {"logits": "components.dla_centred"},
    "head_ablation": {"effect": "ablations.effect", "null": "ablations.null"},
    "associations": {"rank": "associations.best_rank"},
    "association_layers": {
        "its rank": "associations.best_rank",
        "p": "associations.p_value",
        "over all layers": "associations.p_adjusted",
        "mass": "associations.mass",
    },
    "association_contrast": {"difference": "association_contrast.difference"},
    "parting_tokens": {
        "p in A": "association_contrast.prob_a",
        "p in B": "association_contrast.prob_b",
        "B less A, nats": "association_contrast.difference",
        "share": "association_contrast.term_share",
    },
    "contrast": {"difference": "contrast_layers.difference"},
    "contrast_components": {"difference": "contrast_components.dla_difference"},
    "contrast_stages": {
        "margin of target": "contrast_stages.target_margin",
        "of foil": "contrast_stages.foil_margin",
    },
    "experts": {"router's score": "experts.router_prob"},
    "attribution": {"score": "attributions.score"},
    "attribution_scores": {"score": "attributions.score"},
    "locations": {"r": "locations.r", "q": "locations.q"},
    "top_tokens": {"probability": "top_tokens.prob"},
    "interventions": {
        "rank": "effects.rank_after",
        "p": "effects.prob_after",
    },
    "funnel": {
        "tokens before": "sampling.n_before",
        "tokens after": "sampling.n_after",
        "cut": "sampling.mass_pruned",
        "rank": "sampling_targets.rank_before",
        "p before": "sampling_targets.prob_before",
        "p after": "sampling_targets.prob_after",
        "margin": "sampling_targets.margin",
    },
    "differences": {
        "total variation": "chain_differences.total_variation",
        "the chain alone keeps": "chain_differences.n_only",
        "the other alone keeps": "chain_differences.n_only_other",
    },
    "taken_back": {
        "to step": "walk_rewinds.step",
        "tokens": "walk_rewinds.n_tokens",
        "p": "walk_rewinds.back_prob",
        "collateral": "walk_rewinds.collateral",
    },
    "walk": {
        "p": "walk.model_prob",
        "rank": "walk.model_rank",
        "drawn at": "walk.prob",
        "survivors": "walk.n_survivors",
    },
    "grammar_texts": {
        "log p free": "grammar_texts.logprob",
        "log p masked": "grammar_texts.masked_logprob",
        "favoured, nats": "grammar_texts.favoured",
    },
    "beams": {
        "place": "beams.place",
        "score": "beams.score",
        "log p": "beams.logprob",
        "tokens": "beams.n_tokens",
    },
    "beam_steps": {"score": "beam_steps.score", "lead, nats": "beam_steps.lead"},
    "paths": {
        "log p": "paths.logprob",
        "entropy": "paths.entropy",
        "p a token": "paths.mean_prob",
        "repeated": "paths.rep4",
    },
    "survivors": {"p": "survivors.prob", "entropy, nats": "survivors.future_entropy"},
    "choices": {
        "tokens": "survivor_sets.n",
        "compared": "survivor_sets.n_read",
        "effective tokens": "survivor_sets.hill1",
        "different futures": "survivor_sets.futures",
    },
    "stops": {"p stop": "stops.model_prob", "through": "stops.prob", "by then": "stops.stopped_by"},
    "grammar": {
        "allowed": "walk_grammar.n_allowed",
        "removed": "walk_grammar.mass_removed",
        "p": "walk_grammar.cut_prob",
        "distortion so far, nats": "walk_grammar.distortion_so_far",
    },
    "repeated": {
        "copies": "resonance.copies",
        "mean p": "resonance.tp",
        "after other text": "resonance.tp_control",
        "higher": "resonance.ip",
        "first of all": "resonance.wr",
        "rank of first": "resonance.first_rank",
        "its p": "resonance.first_prob",
        "entropy, nats": "resonance.entropy",
        "gain, nats": "resonance.gain",
    },
    "along": {"log p": "answers_along.logprob"},
    "segments": {"rank": "answers_along.rank"},
    "orders": {"rank": "answers_along.rank"},
    "divergence": {"divergence": "divergence.js", "95 % of the controls": "divergence.band"},
    "attention": {"logit of the share": "attention_differences.logit_shift"},
    "stages": {
        "tokens left in A": "sampling_differences.n_after_a",
        "tokens left in B": "sampling_differences.n_after_b",
        "probability removed in A": "sampling_differences.mass_pruned_a",
        "probability removed in B": "sampling_differences.mass_pruned_b",
    },
    "flips": {
        "p in A": "flips.prob_a",
        "p in B": "flips.prob_b",
        "rank in A": "flips.rank_a",
        "rank in B": "flips.rank_b",
    },
    "alignment": {"at in A": "alignment.index_a", "at in B": "alignment.index_b"},
    "outcomes": {"tokens": "verdicts.outcome"},
    "outcomes:stack": {"targets": "verdict_differences.outcome_b"},
    "regimes": {"prompts": "verdicts.regime"},
    "lost_layers": {"tokens": "verdicts.lost_layer"},
    "groups": {"tokens": "verdicts.outcome"},
    "pruned": {"share": "sampling.mass_pruned"},
    "worst": {"final rank": "verdicts.final_rank"},
    "changes": {"targets": "verdict_differences.changed"},
    "moved": {"nats": "verdict_differences.final_logprob_difference"},
    "onsets": {"pairs": "pairs.onset_layer"},
    "statistics": {
        "pairs": "statistics.n_pairs",
        "mean difference": "statistics.mean_difference",
        "95 % from": "statistics.ci_low",
        "to": "statistics.ci_high",
        "q": "statistics.q_value",
    },
    "audit_effects": {"nats": "audit_effects.difference"},
    "audit_survival": {"share": "audit_effects.difference"},
    "audit_attention": {"difference": "audit_effects.difference"},
    "audit_lens": {"difference": "audit_effects.difference"},
    "audit_stages": {"share": "audit_effects.mean_a"},
    "coverage_reliability": {"share": "calibration_bins.accuracy", "claimed": "calibration_bins.confidence"},
    "coverage_abstention": {"share": "abstention.mass"},
    "coverage_tree": {"share": "coverage.accuracy", "guessing": "coverage.chance"},
    "sweep_matrix": {"value": "sweep_variants.value"},
    "sweep_effects": {"effect": "sweep_effects.main_effect"},
    "map_roles": {
        "role": "head_roles.score",
        "score": "head_roles.score",
        "selectivity": "head_categories.selectivity",
        "d50 in tokens": "head_kernels.d50",
        "self-bias in logits": "head_kernels.self_bias_net",
    },
    "map_head_roles": {"score": "head_roles.score"},
    "map_head_categories": {"selectivity": "head_categories.selectivity"},
    "map_head_lift": {"lift": "head_distances.lift"},
    "map_head_kernel": {"score": "head_distances.score", "kernel": "head_distances.kernel"},
    "map_head_partners": {
        "js": "head_pairs.js",
        "js, other text": "head_pairs.js_null",
        "cka": "head_pairs.cka",
        "affinity": "head_pairs.affinity",
        "affinity, random": "head_pairs.affinity_null",
    },
    "map_head_losses": {
        "without it": "head_interactions.effect_a",
        "without both": "head_interactions.effect_both",
        "interaction": "head_interactions.interaction",
        "low": "head_interactions.low",
        "high": "head_interactions.high",
        "random pairs, low": "head_interactions.null_low",
    },
    "map_neurons": {"open": "neurons.open"},
}
"""Figure (``name``, or ``name:kind`` of two of one name) -> its number's name there -> table and column."""

EVERY_TABLE = {**FINDING_TABLES, **COMPARISON_TABLES, **TABLES}


@cache
def definitions() -> dict[str, dict[str, str]]:
    """Return the definitions of the numbers of every figure: figure -> name of the number -> its text."""
    return {
        figure: {name: defined(column_of(place)) for name, place in numbers.items()}
        for figure, numbers in COLUMNS.items()
    }


def column_of(place: str) -> Column:
    """Look up ``table.column``, in the tables of runs, of comparisons and of what commands find in a run."""
    table, _, name = place.partition(".")
    return next(one for one in EVERY_TABLE[table].columns if one.name == name)


def defined(column: Column) -> str:
    """Write a column's definition with its unit and range, as the schema has them.

    Where a figure counts what a column of texts says, its definition is that of these texts.
    """
    facts = {"Unit": column.unit, "Range": column.range, "Not measurable where": column.null_when}
    return " ".join([column.description, *(f"{name}: {text}." for name, text in facts.items() if text)])
