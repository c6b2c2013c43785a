"""List the parts of a map; a new one needs a file in this folder and an entry here, see ``part.py``."""

from __future__ import annotations

from elimtool.tasks.map.categories import Categories
from elimtool.tasks.map.distances import Distances
from elimtool.tasks.map.examples import Examples
from elimtool.tasks.map.layers import Layers
from elimtool.tasks.map.neurons import Neurons
from elimtool.tasks.map.part import Part
from elimtool.tasks.map.redundancy import Redundancy
from elimtool.tasks.map.roles import Roles

PARTS: dict[str, type[Part]] = {
    "roles": Roles,
    "categories": Categories,
    "distances": Distances,
    "redundancy": Redundancy,
    "neurons": Neurons,
    "layers": Layers,
    "examples": Examples,
}
"""By name, as in ``elimtool.run.tables.findings.map.PART_TABLES``."""
