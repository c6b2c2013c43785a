"""Ten useful queries, as ``elimtool query --example`` prints them."""

from __future__ import annotations

EXAMPLES: tuple[tuple[str, str], ...] = (
    ("what is here", "SELECT run, model, started, n_prompts FROM runs ORDER BY started"),
    (
        "what became of the targets, by run",
        "SELECT run, outcome, count(*) AS n FROM verdicts GROUP BY ALL ORDER BY run, n DESC",
    ),
    (
        "targets that some run keeps and another loses",
        "SELECT prompt_id, target, list(DISTINCT outcome) AS outcomes FROM verdicts"
        " GROUP BY ALL HAVING count(DISTINCT outcome) > 1",
    ),
    (
        "how the rank of a target moved between runs",
        "SELECT prompt_id, target, run, final_rank,"
        " final_rank - lag(final_rank) OVER (PARTITION BY prompt_id, target ORDER BY started, run) AS moved"
        " FROM verdicts ORDER BY prompt_id, target, started, run",
    ),
    (
        "which stage of which chain cuts targets",
        "SELECT chain, stage, count(*) AS n FROM sampling_targets WHERE alive_before AND NOT alive_after"
        " GROUP BY ALL ORDER BY n DESC",
    ),
    (
        "how much probability each stage removes",
        "SELECT run, chain, stage, avg(mass_pruned) AS pruned FROM sampling GROUP BY ALL"
        " ORDER BY run, chain, pruned DESC",
    ),
    (
        "the settings that would keep every target",
        "SELECT run, max(min_top_k) AS top_k, max(min_top_p) AS top_p, min(max_min_p) AS min_p"
        " FROM survival GROUP BY run ORDER BY run",
    ),
    (
        "the layers at which targets are lost",
        "SELECT lost_layer, count(*) AS n FROM verdicts WHERE lost_layer IS NOT NULL"
        " GROUP BY lost_layer ORDER BY lost_layer",
    ),
    (
        "attention that sinks take, by layer",
        "SELECT layer, avg(sink_mass) AS sink_mass, avg(entropy) AS entropy FROM attention_layers"
        " GROUP BY layer ORDER BY layer",
    ),
    (
        "runs of the same weights under other settings",
        "SELECT weights_sha256[:12] AS weights, count(*) AS n, list(run) AS runs FROM runs"
        " GROUP BY weights_sha256 ORDER BY n DESC",
    ),
)
"""What each tells, and its SQL."""
