"""Prompt files in, one record after another out: JSONL, CSV, TSV, Parquet, text; plain, gzip or zstd."""

from elimtool.promptfile.file import FORMATS, PromptFile
from elimtool.promptfile.record import Record

__all__ = ["FORMATS", "PromptFile", "Record"]
