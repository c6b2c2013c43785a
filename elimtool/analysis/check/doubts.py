"""Refuse checks that contradict their metric or themselves."""

from __future__ import annotations

from dataclasses import dataclass

from elimtool.analysis.check.metrics import CheckMetric
from elimtool.analysis.check.spec import CHOOSING, Check, CheckFile, Select
from elimtool.errors import ElimError, nearest
from elimtool.files.places import Key, Places


@dataclass(frozen=True, slots=True)
class Doubts:
    """Contradictions of one check with its metric or within itself."""

    check: Check
    metric: CheckMetric
    places: Places
    key: Key

    def raise_first(self, file: CheckFile) -> None:
        """Raise the first contradiction, if there is any."""
        self._selectors()
        self._analysed()
        self._written(file)
        self._expectation()
        self._texts()
        self._bounds()
        if self.check.baseline or self.metric.kind == "tokens":
            if file.baseline is None:
                self._refuse("baseline", "the file names no baseline", "add baseline: FILE at the top")
        elif self.check.atol is not None or self.check.rtol is not None or self.check.direction != "both":
            given = next(k for k in ("atol", "rtol", "direction") if k in self.check.model_fields_set)
            self._refuse(
                given, f"'{given}' is for comparison with a baseline", "add baseline: true, or leave it out"
            )

    def _selectors(self) -> None:
        for name in CHOOSING:
            column = "layer" if name == "layers" else name
            if getattr(self.check, name) is not None and column not in self.metric.selectors:
                valid = ", ".join("layers" if one == "layer" else one for one in self.metric.selectors)
                self._refuse(
                    name, f"metric {self.metric.name} has no {name}", f"it can be chosen by: {valid}"
                )

    def _analysed(self) -> None:
        """Refuse columns that the table lacks, and what does not go with the tables of an analysis."""
        metric, given = self.metric, self.check.model_fields_set
        for name in ("prompt", "select", "position", "scope", "mostly"):
            if name in given and metric.command is not None:
                hint = f"choose rows by rows: {{COLUMN: VALUE}}, of {', '.join(metric.names)}"
                self._refuse(name, f"metric {metric.name} is not of single prompts", hint)
        for name in self.check.rows:
            if name not in metric.names:
                self._refuse("rows", f"{metric.table} has no column '{name}'", nearest(name, metric.names))

    def _expectation(self) -> None:
        check, kind = self.check, self.metric.kind
        reduced = check.agg is not None and kind in ("boolean", "text")
        if kind == "text" and check.agg is not None and check.agg not in ("share", "first", "last"):
            self._refuse(
                "agg",
                f"metric {self.metric.name} is a text: it has no {check.agg}",
                "give share, first or last",
            )
        numeric = kind in ("integer", "number", "tokens") or (reduced and check.agg not in ("first", "last"))
        for name in ("min", "max"):
            if getattr(check, name) is not None and not numeric:
                self._refuse(
                    name, f"metric {self.metric.name} is not a number", "give is: ..., or agg: share with min"
                )
        if numeric and (check.is_ != () or check.is_not):
            self._refuse("is", f"metric {self.metric.name} is a number", "give min, max or baseline: true")
        if numeric and kind != "tokens" and check.min is None and check.max is None and not check.baseline:
            self._refuse("metric", f"check '{check.id}' expects nothing", "give min, max or baseline: true")
        if check.where is not None and check.agg != "share":
            self._refuse(
                "where", "'where' says what counts for agg: share", "add agg: share, or leave it out"
            )
        if kind in ("integer", "number") and check.agg == "share" and check.where is None:
            self._refuse(
                "agg", "agg: share does not say which values count", "add where: {min: ...} or {max: ...}"
            )

    def _texts(self) -> None:
        """Refuse what is for texts where the value is none, and a text that nothing is expected of."""
        check, where, is_text = self.check, self.check.where, self.metric.kind == "text"
        asked = [name for name in ("contains", "matches") if getattr(check, name)]
        if asked and (not is_text or check.agg == "share"):
            self._refuse(asked[0], f"'{asked[0]}' is for texts", "with agg: share it goes under where")
        if where and not is_text and (where.contains or where.matches):
            self._refuse("where", f"metric {self.metric.name} is not a text", "give min or max")
        if is_text and check.agg is None and not (check.baseline or check.is_ != () or check.is_not or asked):
            hint = "give is, is_not, contains, matches or baseline: true"
            self._refuse("metric", f"check '{check.id}' expects nothing", hint)
        if (
            is_text
            and check.agg == "share"
            and not (where and (where.in_ or where.contains or where.matches))
        ):
            hint = "add where: {is: ...}, {contains: ...} or {matches: ...}"
            self._refuse("agg", "agg: share does not say which texts count", hint)

    def _written(self, file: CheckFile) -> None:
        """Refuse what does not go with written text, and what written text needs."""
        needs = {"written": "generate", "written_prob": "text"}
        mine = needs.get(self.metric.name, "")
        for name in ("generate", "text"):
            if name != mine and getattr(self.check, name) is not None:
                metric = next(one for one, key in needs.items() if key == name)
                self._refuse(
                    name, f"'{name}' is for metric {metric}", f"write metric: {metric}, or leave it out"
                )
        if mine and getattr(self.check, mine) is None:
            example = {"generate": "20, the tokens to write", "text": "the text that is to be written"}[mine]
            self._refuse("metric", f"metric {self.metric.name} needs '{mine}'", f"add {mine}: {example}")
        if self.check.seeds > 1 and (mine != "generate" or self.check.agg is None):
            self._refuse("seeds", "'seeds' writes several texts a prompt", "add agg: share with where: {...}")
        if mine and self.check.chain is None and len(file.samplers) > 1:
            names = ", ".join(file.samplers)
            self._refuse(
                "metric", f"check '{self.check.id}' names no chain to write through", f"add chain: {names}"
            )
        if mine and file.model.ablate:
            self._refuse("metric", "text is written without interventions", "leave ablate out of model")

    def _bounds(self) -> None:
        check = self.check
        if check.min is not None and check.max is not None and check.min > check.max:
            self._refuse(
                "min", f"min {check.min:g} is above max {check.max:g}: nothing can pass", "swap them"
            )
        if check.scope == "all" and check.agg is None:
            self._refuse("scope", "scope: all makes one value of all prompts", "say how: agg: mean")
        if check.scope == "all" and check.mostly is not None:
            self._refuse(
                "mostly", "'mostly' counts prompts, and scope: all has one value", "leave one of the two out"
            )
        if check.prompt and check.select != Select():
            self._refuse("prompt", "'prompt' and 'select' both choose prompts", "leave one of the two out")
        if self.metric.kind == "tokens" and check.agg is not None:
            self._refuse("agg", f"metric {self.metric.name} has one value a prompt", "leave agg out")
        if self.metric.kind == "tokens" and check.scope == "all":
            self._refuse("scope", f"metric {self.metric.name} is judged prompt by prompt", "leave scope out")

    def _refuse(self, name: str, message: str, hint: str) -> None:
        raise ElimError(f"{self.places.at((*self.key, name))}: {message}", hint)
