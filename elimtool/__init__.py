"""Show what a language model eliminated, where, by which component, and by how much.

The Python interface; each name is loaded on first use:

    import elimtool

    model = elimtool.load_model("smollm2")
    run = elimtool.trace(model, "The capital of France is", targets=["Paris"])
    print(run.table("lens").query("layer == 29")[["target", "rank", "prob"]])
    run.save("capital-run")
    again = elimtool.open_run("capital-run")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from elimtool.version import __version__ as __version__

_HOMES = {
    "Ablate": "elimtool.model.interventions",
    "Analysis": "elimtool.run.analysis",
    "AttributeOptions": "elimtool.tasks.attribute.options",
    "AuditOptions": "elimtool.analysis.populations.audit.api",
    "Chain": "elimtool.samplers",
    "ChatSettings": "elimtool.prompts.chat",
    "Column": "elimtool.run.columns",
    "Comparison": "elimtool.run.comparison",
    "Controls": "elimtool.tasks.compare.asked",
    "CoverageOptions": "elimtool.analysis.populations.coverage.api",
    "ElimError": "elimtool.errors",
    "ExportOptions": "elimtool.analysis.export.choose",
    "Knockout": "elimtool.model.interventions",
    "LocateOptions": "elimtool.tasks.locate.options",
    "Message": "elimtool.prompts.prompt",
    "Metric": "elimtool.metrics.metric",
    "Patch": "elimtool.model.interventions",
    "Prompt": "elimtool.prompts.prompt",
    "Run": "elimtool.run",
    "Scale": "elimtool.model.interventions",
    "SpanRequest": "elimtool.prompts.prompt",
    "Speculation": "elimtool.tasks.compare.drafts",
    "Stage": "elimtool.samplers",
    "SweepOptions": "elimtool.analysis.populations.sweep.api",
    "Table": "elimtool.run.columns",
    "TraceOptions": "elimtool.engine.options",
    "attribute": "elimtool.tasks.attribute.api",
    "audit": "elimtool.analysis.populations.audit.api",
    "compare_chains": "elimtool.analysis.compare.chains",
    "compare_maps": "elimtool.analysis.compare.maps",
    "compare_models": "elimtool.tasks.compare.models",
    "compare_prompts": "elimtool.tasks.compare.prompts",
    "compare_runs": "elimtool.analysis.compare.runs",
    "compare_samplers": "elimtool.tasks.compare.chains",
    "coverage": "elimtool.analysis.populations.coverage.api",
    "export": "elimtool.tasks.export",
    "head_roles": "elimtool.analysis.map.known",
    "load_model": "elimtool.model.loading",
    "locate": "elimtool.tasks.locate.api",
    "map_model": "elimtool.tasks.map.api",
    "open_comparison": "elimtool.run.comparison",
    "open_run": "elimtool.run",
    "record": "elimtool.tasks.trace",
    "run_checks": "elimtool.tasks.check.api",
    "sweep": "elimtool.analysis.populations.sweep.api",
    "trace": "elimtool.tasks.trace",
    "wrap": "elimtool.model.wrapping",
}

if TYPE_CHECKING:
    from elimtool.analysis.compare.chains import compare_chains as compare_chains
    from elimtool.analysis.compare.maps import compare_maps as compare_maps
    from elimtool.analysis.compare.runs import compare_runs as compare_runs
    from elimtool.analysis.export.choose import ExportOptions as ExportOptions
    from elimtool.analysis.map.known import head_roles as head_roles
    from elimtool.analysis.populations.audit.api import AuditOptions as AuditOptions
    from elimtool.analysis.populations.audit.api import audit as audit
    from elimtool.analysis.populations.coverage.api import CoverageOptions as CoverageOptions
    from elimtool.analysis.populations.coverage.api import coverage as coverage
    from elimtool.analysis.populations.sweep.api import SweepOptions as SweepOptions
    from elimtool.analysis.populations.sweep.api import sweep as sweep
    from elimtool.engine.options import TraceOptions as TraceOptions
    from elimtool.errors import ElimError as ElimError
    from elimtool.metrics.metric import Metric as Metric
    from elimtool.model.interventions import Ablate as Ablate
    from elimtool.model.interventions import Knockout as Knockout
    from elimtool.model.interventions import Patch as Patch
    from elimtool.model.interventions import Scale as Scale
    from elimtool.model.loading import load_model as load_model
    from elimtool.model.wrapping import wrap as wrap
    from elimtool.prompts.chat import ChatSettings as ChatSettings
    from elimtool.prompts.prompt import Message as Message
    from elimtool.prompts.prompt import Prompt as Prompt
    from elimtool.prompts.prompt import SpanRequest as SpanRequest
    from elimtool.run import Run as Run
    from elimtool.run import open_run as open_run
    from elimtool.run.analysis import Analysis as Analysis
    from elimtool.run.columns import Column as Column
    from elimtool.run.columns import Table as Table
    from elimtool.run.comparison import Comparison as Comparison
    from elimtool.run.comparison import open_comparison as open_comparison
    from elimtool.samplers import Chain as Chain
    from elimtool.samplers import Stage as Stage
    from elimtool.tasks.attribute.api import attribute as attribute
    from elimtool.tasks.attribute.options import AttributeOptions as AttributeOptions
    from elimtool.tasks.check.api import run_checks as run_checks
    from elimtool.tasks.compare.asked import Controls as Controls
    from elimtool.tasks.compare.chains import compare_samplers as compare_samplers
    from elimtool.tasks.compare.drafts import Speculation as Speculation
    from elimtool.tasks.compare.models import compare_models as compare_models
    from elimtool.tasks.compare.prompts import compare_prompts as compare_prompts
    from elimtool.tasks.export import export as export
    from elimtool.tasks.locate.api import locate as locate
    from elimtool.tasks.locate.options import LocateOptions as LocateOptions
    from elimtool.tasks.map.api import map_model as map_model
    from elimtool.tasks.trace import record as record
    from elimtool.tasks.trace import trace as trace
else:  # hidden from type checkers, which would take any misspelt name for Any
    __all__ = list(_HOMES)

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module 'elimtool' has no attribute '{name}'")
        from importlib import import_module

        found = getattr(import_module(_HOMES[name]), name)
        if isinstance(found, type):
            return found
        from elimtool.errors import guarded

        globals()[name] = guarded(found, name, {*_HOMES, "ChatSettings", "Model", "TransformerBridge"})
        return globals()[name]


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
