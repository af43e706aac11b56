"""Batches as a pure function of (seed, step): shuffled, class-balanced, sharded, resumable.

Nothing is carried from batch to batch, so resuming a run is setting a position, and the global
batch of a step is the same on any number of processes.
"""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import grain
import numpy as np

from data import augment as augmentation
from data.errors import UserError
from data.records import Records

# Longer than any run; grain wants a length, the stream itself has no end.
_STEPS = 2**40


class Matched(NamedTuple):
    """Strata of records, and how often each is to be drawn: as it is among other images.

    Attributes:
        strata: int [N], of the records.
        like: int [L], of the other images; one of which there is no record counts for nothing.
    """

    strata: np.ndarray
    like: np.ndarray


@dataclasses.dataclass(frozen=True)
class Part:
    """A share of every batch.

    Attributes:
        records: where the images come from.
        count: images of every global batch that come from here.
        balanced: equal share per class (missing labels count as a class) instead of walking through
            all images alike.
        label: give the images out with this label instead of their own, e.g. 1 for all positives of
            a binary task; balance is still over their own.
        masks: of the same images in the same order; all parts of a batch have some, or none has.
        matched: which strata to draw from, and how often, instead of equal shares of classes.
    """

    records: Records
    count: int
    balanced: bool = True
    label: int | None = None
    masks: Records | None = None
    matched: Matched | None = None


class _Walk:
    """Which record stands at slot ``s = step * count + row`` of one part's endless stream.

    Slots go round and round a pattern of strata: the classes one after another, so that per batch
    they differ by at most one image; one stratum of everything; or those of `Matched.like`, in one
    random order. Within a stratum images come in epochs, each a new permutation: every image is
    seen before any is seen again.
    """

    def __init__(self, part: Part, seed: tuple[int, ...]) -> None:
        if part.matched is not None:
            of, like = part.matched
            shuffled = np.random.default_rng(seed).permutation(like)
            values, pattern = np.unique(shuffled[np.isin(shuffled, of)], return_inverse=True)
        else:
            of = part.records.labels if part.balanced else np.zeros(len(part.records), int)
            values = np.unique(of)
            pattern = np.arange(len(values))
        self._strata = [np.flatnonzero(of == value) for value in values]
        self._sizes = np.array([len(stratum) for stratum in self._strata])
        self._pattern = pattern
        # How often a stratum comes in the pattern, and how often it came before each of its places.
        self._often = np.bincount(pattern, minlength=len(values))
        order = np.argsort(pattern, kind="stable")
        first = np.cumsum(self._often) - self._often
        self._before = np.empty(len(pattern), int)
        self._before[order] = np.arange(len(pattern)) - first[pattern[order]]
        self._seed = seed
        # Two epochs of each stratum are in use around an epoch's end; threads may be a step apart.
        self._permutation = functools.lru_cache(maxsize=4 * len(self._strata))(self._shuffle)

    def _shuffle(self, stratum: int, epoch: int) -> np.ndarray:
        rng = np.random.default_rng((*self._seed, stratum, epoch))
        return rng.permutation(self._strata[stratum])

    def __call__(self, slots: np.ndarray) -> np.ndarray:
        """Record indices [n] at ``slots`` [n]."""
        lap, place = np.divmod(slots, len(self._pattern))
        stratum = self._pattern[place]
        position = lap * self._often[stratum] + self._before[place]
        epoch, place = np.divmod(position, self._sizes[stratum])
        indices = np.empty(len(slots), np.int64)
        for s, e in set(zip(stratum.tolist(), epoch.tolist(), strict=True)):
            here = (stratum == s) & (epoch == e)
            indices[here] = self._permutation(s, e)[place[here]]
        return indices


class BatchSource(grain.sources.RandomAccessDataSource):
    """Element i is this process' rows of the global batch of step i.

    The global batch holds the parts' images one part after another; process p of P takes the p-th
    contiguous block of rows. With `interleave` n it is dealt like cards first: its first n-th goes
    to rows 0, n, 2n, ..., so that every process has its share of each n-th. Elements are
    ``{'image': float32 [b, H, W, C] in [-1, 1], 'label': int32 [b]}`` with -1 for missing labels,
    with mixup what `data.augment.make_batch` adds, and of parts with masks 'mask' bool [b, H, W].
    """

    def __init__(
        self,
        parts: Sequence[Part],
        *,
        seed: int,
        augment: Sequence[str] = (),
        strength: float = 1.0,
        process_index: int = 0,
        process_count: int = 1,
        interleave: int = 1,
    ) -> None:
        """Prepare the stream.

        Args:
            parts: what a batch is made of; the global batch is the sum of their counts.
            seed: the only source of randomness, with the step.
            augment: names of `data.augment.NAMES`, applied to all rows.
            strength: of the augmentation; 0 = none.
            process_index: which block of rows is ours, from 0.
            process_count: into how many blocks the global batch is divided.
            interleave: into how many blocks it is cut to be dealt; divides the batch.

        Raises:
            UserError: an empty part, parts of different image shapes, a batch that the processes
                can't share evenly, an unknown augmentation, or a match that leaves no image.
            ValueError: masks of some parts only, or with mixup, which has none for its images.
        """
        parts = [part for part in parts if part.count > 0]
        self.batch_size = sum(part.count for part in parts)
        if not parts:
            raise UserError("a batch would hold no images; ask for at least one.")
        if self.batch_size % process_count:
            raise UserError(
                f"a global batch of {self.batch_size} can't be shared by {process_count} "
                "processes; make it a multiple of their number."
            )
        for part in parts:
            if len(part.records) == 0:
                raise UserError(
                    f"a batch would take {part.count} images from an empty set; fill it or ask "
                    "for 0 images of it."
                )
            if part.matched is not None and not np.isin(*part.matched).any():
                raise UserError(
                    f"a batch would take {part.count} images of strata that hold none; match others"
                )
        shapes = {part.records.image_shape for part in parts}
        if len(shapes) > 1:
            raise UserError(f"a batch would mix images of shapes {sorted(shapes)}; use one size.")
        augmentation.check_names(augment, shapes.pop()[-1])
        self._masked = parts[0].masks is not None
        if any((part.masks is not None) != self._masked for part in parts):
            raise ValueError("some parts of a batch have masks and others have none")
        if self._masked and "mixup" in augment:
            raise ValueError("mixup has no masks for the images it makes")
        self._parts, self._seed = parts, seed
        self._augment, self._strength = tuple(augment), strength
        self._walks = [_Walk(part, (seed, p)) for p, part in enumerate(parts)]
        if self.batch_size % interleave:
            raise UserError(
                f"a batch of {self.batch_size} can't be dealt to {interleave} updates; make it a "
                "multiple of their number."
            )
        self._interleave = interleave
        count = self.batch_size // process_count
        self._rows = np.arange(process_index * count, (process_index + 1) * count)

    def __len__(self) -> int:
        return _STEPS

    def __repr__(self) -> str:
        counts = [part.count for part in self._parts]
        rows = (int(self._rows[0]), int(self._rows[-1]) + 1)
        return f"BatchSource(counts={counts}, seed={self._seed}, rows={rows})"

    def __getitem__(self, step: int) -> dict[str, np.ndarray]:
        how = (self._augment, self._strength, (self._seed, step))
        batch = augmentation.make_batch(
            functools.partial(self._read, step), self._rows, self.batch_size, *how
        )
        if self._masked:
            masks = self._read_masks(step, self._rows)
            moved = augmentation.augment_masks(masks, *how, first_row=int(self._rows[0]))
            batch["mask"] = moved[..., 0] > 0
        return batch

    def _read(self, step: int, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Images and labels of any rows [n] of the global batch, as they are in the records."""
        image = np.empty((len(rows), *self._parts[0].records.image_shape), np.float32)
        label = np.empty(len(rows), np.int32)
        for part, here, indices in self._drawn(step, rows):
            image[here] = part.records.read(indices)
            fixed = part.label is not None
            label[here] = part.label if fixed else part.records.labels[indices]
        return image, label

    def _read_masks(self, step: int, rows: np.ndarray) -> np.ndarray:
        """Masks uint8 [n, H, W, 1] of the same rows."""
        mask = np.empty((len(rows), *self._parts[0].masks.image_shape), np.uint8)
        for part, here, indices in self._drawn(step, rows):
            mask[here] = part.masks.read_raw(indices)
        return mask

    def _drawn(self, step: int, rows: np.ndarray) -> Iterator[tuple[Part, np.ndarray, np.ndarray]]:
        """Each part that has some of the rows [n], which they are [n], and which of its records."""
        block, place = np.divmod(rows, self._interleave)
        places = place * (self.batch_size // self._interleave) + block
        offset = 0
        for part, walk in zip(self._parts, self._walks, strict=True):
            here = (places >= offset) & (places < offset + part.count)
            if here.any():
                yield part, here, walk(step * part.count + places[here] - offset)
            offset += part.count


def make_loader(source: BatchSource, *, start: int = 0, prefetch: int = 2) -> grain.DatasetIterator:
    """Iterate over the batches of ``source`` from step ``start`` on.

    Args:
        source: the stream.
        start: the step of the first batch.
        prefetch: batches made ahead by a background thread; 0 = none.

    Returns:
        A grain iterator: ``get_state``/``set_state``, and `grain.checkpoint.CheckpointSave` in an
        orbax checkpoint.
    """
    options = grain.ReadOptions(num_threads=min(prefetch, 1), prefetch_buffer_size=prefetch)
    iterator = iter(grain.MapDataset.source(source).to_iter_dataset(options))
    if start:
        grain.experimental.set_next_index(iterator, start)
    return iterator
