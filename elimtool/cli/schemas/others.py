"""What commands print of models, lenses, samplers and the environment."""

from __future__ import annotations

from elimtool.cli.schemas.making import Schema, list_of, made_from, object_of, or_null, value, with_keys


def models() -> Schema:
    """Describe the catalogue."""
    from elimtool.model.catalogue import ModelStatus

    return made_from(list[ModelStatus])


def verified() -> Schema:
    """Describe differences from Hugging Face."""
    from elimtool.model.verify import ActivationDifference

    schema = made_from(list[ActivationDifference])
    name = schema["items"]["$ref"].rpartition("/")[2]
    passed = with_keys(schema["$defs"][name], passed=value("boolean", "Whether it is within its tolerance."))
    return {**schema, "$defs": {name: passed}}


def evaluated() -> Schema:
    """Describe measured lenses."""
    from elimtool.lenses.evaluate import Evaluation

    return with_keys(made_from(Evaluation), model=value("string", "The model, as it was named."))


def _of_tokens(kind: type) -> Schema:
    return with_keys(made_from(kind), model=value("string", "The model, as it was named."))


def near() -> Schema:
    """Describe the neighbours of a word."""
    from elimtool.lenses.clouds import Near

    return _of_tokens(Near)


def near_reading() -> Schema:
    """Describe the neighbours of what a lens reads."""
    from elimtool.lenses.reading_near import ReadingNear

    return _of_tokens(ReadingNear)


def analogy() -> Schema:
    """Describe an analogy."""
    from elimtool.lenses.clouds import Analogy

    return _of_tokens(Analogy)


def axis() -> Schema:
    """Describe an axis."""
    from elimtool.lenses.axis import Axis

    return _of_tokens(Axis)


def stage() -> Schema:
    """Describe a sampler stage."""
    from elimtool.samplers.catalogue import StageInfo

    return made_from(StageInfo)


def chain() -> Schema:
    """Describe a chain of stages."""
    stage = {
        "stage": value("string", "Kind of the stage."),
        "name": value("string", "Its name in the ledger."),
        "params": value("object", "Its parameters."),
        "off": value("boolean", "Whether it does nothing with them."),
        "plugin": value("string", "Package that brings it, with its version, if elimtool does not."),
    }
    chain = {
        "name": value("string", "Name of the chain."),
        "engine": value("string", "Engine that it is modelled on."),
        "version": value("string", "Version of that engine."),
        "precision": value("string", "Number type that the engine computes in."),
        "accumulation": value("string", "How it sums probabilities."),
        "sources": list_of({"type": "string"}, "Where its defaults are written down."),
        "limits": value("object", "Bounds that the engine puts on parameters."),
        "stages": list_of(object_of(stage, "A stage.", optional=("plugin",)), "The stages, in order."),
        "origins": value("object", "Where values come from that are not the preset's own."),
        "left_out": list_of({"type": "string"}, "Settings of the model that are not applied, and why."),
    }
    return object_of(chain, "A chain of sampler stages.", optional=("origins", "left_out"))


def explained() -> Schema:
    """Describe a chain that is explained stage by stage."""
    from elimtool.samplers.explain import ExplainedStage

    described = chain()
    stages = list_of(made_from(ExplainedStage), "The stages, in order, explained.")
    return {**described, "properties": {**described["properties"], "stages": stages}}


def samplers() -> Schema:
    """Describe engines and stages."""
    listed = {
        "engines": list_of(chain(), "The engines' chains."),
        "stages": list_of(stage(), "The stages that chains are made of."),
    }
    return object_of(listed, "What chains are made of.")


def doctor() -> Schema:
    """Describe what is here and what is missing."""
    from elimtool.tasks.doctor import Examination

    return with_keys(
        made_from(Examination), fit=value("boolean", "Whether nothing is missing that a trace needs.")
    )


def exported() -> Schema:
    """Describe what was exported: the sidecar of the file."""
    from elimtool.analysis.export.choose import ExportOptions

    run = {
        "fingerprint": value("string", "SHA-256 over what the run depends on."),
        "model": value("string", "Its model, as it was named."),
        "revision": or_null("string", "Revision of the model."),
        "weights_sha256": or_null("string", "SHA-256 of the weights."),
        "tokenizer_sha256": or_null("string", "SHA-256 of the tokenizer."),
        "label": or_null("string", "The user's name for the run."),
    }
    setting = {
        "elim_id": value("string", "Prompt and target."),
        "chain": or_null("string", "Chain that cuts it."),
        "stage": or_null("string", "Stage that cuts it."),
        "needed": value("string", "Setting of the stage that keeps it; empty where it is not known."),
    }
    keys = {
        "elimtool": value("string", "Version of elimtool."),
        "sha256": value("string", "SHA-256 of the file."),
        "run": object_of(run, "The run that was exported."),
        "options": made_from(ExportOptions),
        "n_eliminated": value("integer", "Named targets of the run that were eliminated."),
        "n_exported": value("integer", "Those that are in the file."),
        "n_rows": value("integer", "Rows of the file: with `kto` a wrong answer has a row of its own."),
        "left_out": value("object", "Targets that were left out, by reason."),
        "held_out_templates": list_of({"type": "string"}, "Templates that are never exported."),
        "settings": list_of(
            object_of(setting, "A setting."), "What a sampler alone cut, and how to keep it."
        ),
    }
    return object_of(keys, "What was exported, and what was left out: the file's sidecar.")
