"""Write the files that commands are given, whole, each as no other."""

from __future__ import annotations

import gzip
import json
import random
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from words import STAGES, TEXTS


class Files:
    """Writes files into the current folder, and damages what it wrote."""

    def __init__(self, chance: random.Random, seeds: Path) -> None:
        self.chance, self.seeds, self.made = chance, seeds, 0

    def fresh(self, suffix: str) -> Path:
        """Name a file that is not there yet."""
        self.made += 1
        return Path(f"f{self.made}{suffix}")

    def written(self, suffix: str, content: str | bytes) -> Path:
        """Write a file."""
        path = self.fresh(suffix)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def text(self, content: str | None = None) -> Path:
        """Write a text, long enough to fit a lens unless it is given."""
        return self.written(".txt", content or "\n\n".join(f"{one} {i}." for i in range(12) for one in TEXTS))

    def record(self, number: int) -> dict[str, Any]:
        """Make a record of a prompt file."""
        text = self.chance.choice(TEXTS)
        word = self.chance.choice(text.split())
        fields: dict[str, Any] = {
            "targets": ["Paris", self.chance.choice(("x", "\u00e9", " Rome"))],
            "foils": ["Rome "],
            "spans": {"x": word},
            "group": self.chance.choice(("g", "h")),
            "category": "c",
            "tags": ["t", "u"],
            "meta": {"k": [1, None]},
        }
        kept = {key: one for key, one in fields.items() if self.chance.random() < 0.4}
        if "foils" in kept:
            kept["targets"] = ["Paris"]
        if self.chance.random() < 0.2:
            kept.pop("spans", None)
            return {"messages": [{"role": "user", "content": text}], "id": f"p{number}", **kept}
        return {"prompt": text, "id": f"p{number}", **kept}

    def prompts(self) -> Path:
        """Write a prompt file in one of its formats."""
        rows = [self.record(number) for number in range(self.chance.randrange(1, 4))]
        suffix = self.chance.choice(
            (".jsonl", ".jsonl", ".jsonl", ".jsonl.gz", ".csv", ".tsv", ".txt", ".parquet")
        )
        if suffix == ".parquet":
            path = self.fresh(suffix)
            pq.write_table(
                pa.table({"prompt": [f"{one} {len(rows)}" for one in TEXTS], "target": ["x"] * 4}), path
            )
            return path
        if suffix.startswith(".jsonl"):
            content = "\n".join(map(json.dumps, rows)).encode()
            return self.written(suffix, gzip.compress(content) if suffix.endswith("gz") else content)
        mark = "\t" if suffix == ".tsv" else ","
        lines = (("prompt", "id", "target"), ("a b", "1", "c"), ('"x\ny"', "2", "d"))
        return self.written(
            suffix, "\n".join(TEXTS[:2]) if suffix == ".txt" else "\n".join(map(mark.join, lines)) + "\n"
        )

    def chain(self) -> Path:
        """Write a chain of one to three stages."""
        return self.written(
            ".yaml", yaml.safe_dump({"stages": self.chance.sample(STAGES, self.chance.randrange(1, 4))})
        )

    def checks(self) -> Path:
        """Write a check file, some checks of the one of the seeds, beside a baseline."""
        known = yaml.safe_load((self.seeds / "checks.yaml").read_text())
        known["checks"] = self.chance.sample(known["checks"], self.chance.randrange(1, 4))
        if self.chance.random() < 0.3:
            known["prompts"] = [{"id": "one", "prompt": TEXTS[0]}, {"id": "two", "prompt": TEXTS[1]}]
        shutil.copy(self.seeds / "baseline.json", "baseline.json")
        return self.written(".yaml", yaml.safe_dump(known))

    def copied(self, seed: str) -> Path:
        """Copy a file or a directory of the seeds."""
        path = self.fresh(Path(seed).suffix)
        whole = self.seeds / seed
        shutil.copytree(whole, path) if whole.is_dir() else shutil.copy(whole, path)
        return path
