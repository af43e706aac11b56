"""What a compiled step sends between devices, read from its HLO."""

import math
import re
from typing import NamedTuple

_OPERATION = re.compile(
    r"= (?P<type>\([^)]*\)|\S+) (?P<name>all-reduce|all-gather|reduce-scatter|all-to-all|"
    r"collective-permute|collective-broadcast)(?:-start)?\("
)
_ARRAY = re.compile(r"([a-z]+)(\d+)\[([\d,]*)\]")


class Collective(NamedTuple):
    """One operation of a compiled program.

    Attributes:
      name: in HLO, e.g. 'all-reduce'.
      bytes: of its result on one device.
      arrays: shapes in it, as text.
    """

    name: str
    bytes: int
    arrays: list[str]


def collectives(hlo: str) -> list[Collective]:
    """All operations of a compiled module that move data between devices."""
    found = []
    for match in _OPERATION.finditer(hlo):
        arrays = _ARRAY.findall(match["type"])
        sizes = [math.prod(map(int, shape.split(","))) if shape else 1 for _, _, shape in arrays]
        total = sum(int(bits) // 8 * size for (_, bits, _), size in zip(arrays, sizes, strict=True))
        shapes = [f"{kind}{bits}[{shape}]" for kind, bits, shape in arrays]
        found.append(Collective(match["name"], total, shapes))
    return found
