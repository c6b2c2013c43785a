"""``elimtool samplers``: the stages and the engines' chains, described."""

from __future__ import annotations

import typer

app = typer.Typer(help="Sampler stages and the engines' default chains.", no_args_is_help=True)
