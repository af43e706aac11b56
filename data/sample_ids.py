"""Names of synthetic images, which say how to make each image again."""

import functools
import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_DIGEST = re.compile("[0-9a-f]{12}")
_SAMPLE_ID = re.compile(r"([0-9a-f]{12})-(\d+)-(\d+)")


def sample_id(checkpoint_digest: str, label: int, seed: int) -> str:
    """Name a synthetic image by what makes it again: '<digest12>-<label>-<seed>'.

    Raises:
        ValueError: the digest isn't at least 12 lower-case hexadecimal characters, or a number is
            negative.
    """
    if label < 0 or seed < 0:
        raise ValueError(f"no image has label {label} and seed {seed}")
    return f"{_prefix(checkpoint_digest)}-{label}-{seed}"


@functools.cache
def _prefix(checkpoint_digest: str) -> str:
    """What the names of a generator's images begin with."""
    match = _DIGEST.match(checkpoint_digest)
    if match is None:
        raise ValueError(f"'{checkpoint_digest}' does not begin with 12 hexadecimal characters")
    return match[0]


def sample_ids(checkpoint_digest: str, labels: np.ndarray, seeds: np.ndarray) -> pa.Array:
    """`sample_id` of integers [N] labels and seeds, as an Arrow text array [N]."""
    labels, seeds = (pa.array(np.asarray(x, np.int64)).cast(pa.string()) for x in (labels, seeds))
    return pc.binary_join_element_wise(_prefix(checkpoint_digest), labels, seeds, "-")


def parse_sample_id(name: str) -> tuple[str, int, int]:
    """Split a sample_id into (first 12 characters of the checkpoint digest, label, seed).

    Raises:
        ValueError: not a sample_id.
    """
    match = _SAMPLE_ID.fullmatch(name)
    if match is None:
        raise ValueError(f"'{name}' is not a sample id '<digest12>-<label>-<seed>'")
    return match[1], int(match[2]), int(match[3])


class SeedSet:
    """The seeds seen so far, as runs of consecutive ones: a pool of any size is usually one run.

    Attributes:
        runs: disjoint [first, last] of seeds, ascending, no two adjacent.
    """

    def __init__(self, runs: list[list[int]] | None = None) -> None:
        self.runs = [list(run) for run in runs or []]

    def add(self, seeds: np.ndarray) -> None:
        """Add integers [N].

        Raises:
            ValueError: one of them is there already, or comes twice.
        """
        ordered = np.sort(np.asarray(seeds, np.int64))
        if (twice := np.flatnonzero(np.diff(ordered) == 0)).size:
            raise ValueError(f"the image of seed {ordered[twice[0]]} is already in the pool")
        starts = np.flatnonzero(np.diff(ordered, prepend=ordered[:1] - 2) != 1)
        firsts, lasts = ordered[starts], np.append(ordered[starts[1:] - 1], ordered[-1:])
        self.merge([list(run) for run in zip(firsts.tolist(), lasts.tolist(), strict=True)])

    def merge(self, runs: list[list[int]]) -> None:
        """Add runs that were collected apart; raises as `add`."""
        joined: list[list[int]] = []
        for first, last in sorted(self.runs + runs):
            if joined and first <= joined[-1][1]:
                raise ValueError(f"the image of seed {first} is already in the pool")
            if joined and first == joined[-1][1] + 1:
                joined[-1][1] = last
            else:
                joined.append([first, last])
        self.runs = joined
