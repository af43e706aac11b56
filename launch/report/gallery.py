"""Which images the report shows, and what is written under them.

Samples are drawn at random with a fixed seed; only the sections that say so show extremes.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from data.records import Records
from launch.report.collect import Found
from launch.report.tiles import Strip, Tile, Window, data_uri
from vrn import calibrate

# Pages with hundreds of classes would not open on a tablet.
MAX_CLASSES = 24
_SEED = 0
_ALIKE = 0.02  # probabilities that read the same under pictures, or nearly


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two strips to compare, of one class."""

    name: str
    left: Strip
    right: Strip


@dataclasses.dataclass(frozen=True)
class Suspect:
    """A synthetic image beside the real image nearest to it.

    Attributes:
      tiles: synthetic, real.
      classes: of both.
      distance: between them.
      use: what the VRN filter did with the synthetic one.
    """

    tiles: list[Tile]
    classes: str
    distance: float
    use: str


class Gallery:
    """Makes the picture sections of one work directory.

    Args:
      found: the work directory.
      count: images per strip.
    """

    def __init__(self, found: Found, count: int):
        self._found, self._count = found, count
        self.window = Window.of_records(found.real["train"])
        vrn = found.filters["vrn"]
        self._probability = calibrate.apply(found.calibration, vrn.score)
        self._vrn = vrn
        # A calibration that found no slope gives all images one probability.
        self.alike = float(np.ptp(self._probability)) < _ALIKE

    def real_and_synthetic(self) -> list[Pair]:
        """Random training images beside random images of the second pool."""
        train, second = self._found.real["train"], self._found.pools["second"]
        return [
            Pair(
                name,
                self._strip("real", train, self._sample(train.labels == k), name),
                self._strip("synthetic", second, self._sample(second.labels == k), name),
            )
            for k, name in self._classes()
        ]

    def extremes(self) -> list[Pair]:
        """The images of the second pool that the VRN likes least and most."""
        second = self._found.pools["second"]
        pairs = []
        for k, name in self._classes():
            rows = np.flatnonzero(second.labels == k)
            ranked = rows[np.argsort(self._vrn.score[rows], kind="stable")]
            worst, best = ranked[: self._count], ranked[::-1][: self._count]
            pairs.append(
                Pair(
                    name,
                    self._strip("worst", second, worst, name, self._probability, "bad"),
                    self._strip("best", second, best, name, self._probability, "good"),
                )
            )
        return pairs

    def kept_and_discarded(self) -> list[Pair]:
        """Random images that the VRN filter keeps beside random ones that it discards."""
        second, kept = self._found.pools["second"], self._vrn.kept
        pairs = []
        for k, name in self._classes():
            of_class = second.labels == k
            keep, drop = self._sample(of_class & kept), self._sample(of_class & ~kept)
            pairs.append(
                Pair(
                    name,
                    self._strip("kept", second, keep, name, self._probability, "good"),
                    self._strip("discarded", second, drop, name, self._probability, "bad"),
                )
            )
        return pairs

    def annotated(self, method: str) -> list[Pair]:
        """Random images of the first pool annotated real-like beside non-real-like ones.

        Args:
          method: rater whose scores are written under the images.
        """
        first, verdict = self._found.pools["first"], self._found.verdict
        scores = self._found.ratings[method][1] if method in self._found.ratings else None
        pairs = []
        for k, name in self._classes():
            of_class = first.labels == k
            good, bad = (
                self._sample(of_class & (verdict == 1)),
                self._sample(of_class & (verdict == 0)),
            )
            pairs.append(
                Pair(
                    name,
                    self._strip("real-like", first, good, name, scores, "good"),
                    self._strip("non-real-like", first, bad, name, scores, "bad"),
                )
            )
        return pairs

    def suspects(self, copying: dict[str, Any]) -> list[Suspect]:
        """The most copy-like images of the second pool, each beside its nearest real image.

        Args:
          copying: of results.json, `memorisation/features` or `memorisation/pixels`.
        """
        second, names = self._found.pools["second"], self._found.class_names
        rows = second.finder()(pa.array(copying["suspects"], pa.string()))
        listed = zip(
            rows, copying["suspects_nearest"], copying["suspects_distance"],
            strict=True,
        )  # fmt: skip
        suspects = []
        for index, real_id, distance in list(listed)[: self._count]:
            records, place = self._real(real_id)
            label = records.labels[place]
            fake, real = names[second.labels[index]], names[label] if label >= 0 else "unlabelled"
            tiles = [
                self._tile(second, index, f"synthetic, {fake}"),
                self._tile(records, place, f"nearest real training image, {real}"),
            ]
            use = "kept by VRN" if self._vrn.kept[index] else "discarded by VRN"
            suspects.append(Suspect(tiles, f"{fake} / {real}", distance, use))
        return suspects

    def _classes(self) -> Sequence[tuple[int, str]]:
        return list(enumerate(self._found.class_names))[:MAX_CLASSES]

    def _sample(self, mask: np.ndarray) -> np.ndarray:
        rows = np.flatnonzero(mask)
        return np.sort(np.random.default_rng(_SEED).permutation(rows)[: self._count])

    def _real(self, place: str) -> tuple[Records, int]:
        name, row = place.split()
        return self._found.real[name], int(row)

    def _strip(
        self,
        title: str,
        records: Records,
        rows: np.ndarray,
        class_name: str,
        scores: np.ndarray | None = None,
        kind: str = "",
    ) -> Strip:
        tiles = [
            self._tile(
                records, row, f"{title} {class_name}",
                "" if scores is None or np.isnan(scores[row]) else f"{scores[row]:.2f}",
            )
            for row in rows
        ]  # fmt: skip
        return Strip(title, tiles, kind=kind)

    def _tile(self, records: Records, row: int, alt: str, caption: str = "") -> Tile:
        picture = self.window.to_uint8(records.read(np.array([row]))[0])
        words = alt if not caption else f"{alt}, {caption}"
        tip = (
            str(records.subset(np.array([row])).ids[0])
            if records.synthetic
            else f"real image, row {row}"
        )
        return Tile(data_uri(picture), words, caption, tip=tip)
