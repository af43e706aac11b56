"""Train, unlabelled, validation and test sets: stratified, patient-disjoint, small on request."""

import dataclasses
import hashlib
from collections.abc import Mapping

import numpy as np

from data import marks
from data.errors import UserError
from data.records import ArrayRecords, check_split_allowed
from data.sources import Source

# Orders of the groups tried before giving up on having every class on both sides.
_TRIES = 32


@dataclasses.dataclass(frozen=True)
class Splits:
    """The four sets of a run; no id and no known group of val or test is in another set.

    Attributes:
        train: labelled training images.
        unlabelled: further training images, every label -1; may be empty.
        val, test: real, labelled, never trained on.
    """

    train: ArrayRecords
    unlabelled: ArrayRecords
    val: ArrayRecords
    test: ArrayRecords

    def __post_init__(self) -> None:
        check_split_allowed("val", self.val)
        check_split_allowed("test", self.test)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names in label order."""
        return self.train.class_names

    def digest(self) -> str:
        """SHA-256 over the four sets' digests."""
        parts = [getattr(self, field.name).digest() for field in dataclasses.fields(self)]
        return hashlib.sha256(",".join(parts).encode()).hexdigest()


def make_splits(
    source: Source,
    *,
    val_fraction: float,
    test_fraction: float,
    real_per_class: int,
    per_class: Mapping[str | int, int] | None = None,
    unlabelled: int = 0,
    seed: int,
) -> Splits:
    """Divide a source into the sets of a run.

    A source's own val and test splits are kept; a missing one is taken, stratified by class, from
    the rest (without sharing a group where groups are known). From what is left, ``real_per_class``
    labelled images per class become ``train``. Asking for more images with the same seed keeps the
    ones that fewer would have given. Images marked as synthetic are all in train, if they have a
    label, and do not count.

    Args:
        source: the images.
        val_fraction: share of each class, of all labelled images of the source's training part,
            that goes to val if the source has none.
        test_fraction: likewise to test.
        real_per_class: labelled training images per class; 0 = all there are.
        per_class: {class name or index: count} instead of ``real_per_class``, for rare classes.
        unlabelled: how many of the remaining training images to give without labels; -1 = all.
        seed: of every choice made here.

    Raises:
        UserError: a fraction out of range, a class or count that isn't there, or groups that can't
            be divided.
    """
    own: dict[str, ArrayRecords] = {
        name: source.splits[name] for name in ("val", "test") if name in source.splits
    }
    rest = source.splits.get("train", source.splits.get("all"))
    if rest is None:
        raise UserError(f"{source.spec} has no training images, only {', '.join(source.splits)}.")
    _check_disjoint(source.spec, rest, own)
    made = marks.marked(rest.ids)  # by a network: never held out, and not counted as real
    available = np.flatnonzero(~made)
    real = rest.labels[available]
    total = np.bincount(real[real >= 0], minlength=len(rest.class_names))
    sets = dict(own)
    for turn, (name, fraction) in enumerate((("test", test_fraction), ("val", val_fraction))):
        if name in own:
            continue
        if not 0 < fraction < 1:
            raise UserError(
                f"--config.data.{name}_fraction={fraction} leaves no {name} split and {source.spec}"
                " has none; give a number between 0 and 1, such as 0.2."
            )
        held = _hold_out(
            rest, available, np.maximum(np.rint(fraction * total), 1), name, (seed, turn)
        )
        sets[name] = rest.subset(held)
        available = _without(rest, available, held)
    train, remaining = _choose_train(rest, available, real_per_class, per_class or {}, seed)
    train = np.union1d(train, np.flatnonzero(made & (rest.labels >= 0)))
    return Splits(
        train=rest.subset(train),
        unlabelled=rest.subset(_choose_unlabelled(remaining, unlabelled, seed)).without_labels(),
        val=sets["val"],
        test=sets["test"],
    )


def _check_disjoint(spec: str, rest: ArrayRecords, own: Mapping[str, ArrayRecords]) -> None:
    """Refuse a source whose own splits share images or groups, or have unlabelled val or test."""
    named = {"train": rest, **own}
    for name, records in own.items():
        if (records.labels < 0).any():
            raise UserError(f"{spec}: its {name} split has images without a label; remove them.")
    pairs = [(a, b) for i, a in enumerate(named) for b in list(named)[i + 1 :]]
    for a, b in pairs:
        for what in ("ids", "groups"):
            left, right = getattr(named[a], what), getattr(named[b], what)
            if left is None or right is None:
                continue
            shared = np.intersect1d(left, right)
            shared = shared[shared != ""]  # an unknown group is nobody's
            if shared.size:
                raise UserError(
                    f"{spec}: its {a} and {b} splits share {shared.size} {what} (such as "
                    f"'{shared[0]}'); remove them from one, or give all images as one split."
                )


def _groups_of(records: ArrayRecords, indices: np.ndarray) -> np.ndarray:
    """Group number per image at ``indices``; an unknown group ('') is a group of its own."""
    if records.groups is None:
        return np.arange(len(indices))
    names = records.groups[indices]
    names = np.where(names == "", np.char.add("\0", records.ids[indices]), names)
    return np.unique(names, return_inverse=True)[1]


def _hold_out(
    records: ArrayRecords,
    available: np.ndarray,
    target: np.ndarray,
    name: str,
    seed: tuple[int, int],
) -> np.ndarray:
    """Choose labelled records, whole groups at a time, close to ``target`` [K] images per class.

    Groups are visited in random order and taken when that brings the class counts nearer to the
    target (squared deviation relative to the target). Orders that leave a class empty on either
    side are tried again.
    """
    labelled = available[records.labels[available] >= 0]
    labels, groups = records.labels[labelled], _groups_of(records, labelled)
    counts = np.zeros((groups.max(initial=-1) + 1, len(target)))
    np.add.at(counts, (groups, labels), 1)
    total = counts.sum(axis=0)
    for attempt in range(_TRIES):
        rng = np.random.default_rng((*seed, attempt))
        taken = _walk_groups(counts, target, rng.permutation(len(counts)))
        held = counts[taken].sum(axis=0)
        if (held > 0).all() and (held < total).all():
            return labelled[taken[groups]]
    scarce = int(np.argmin((counts > 0).sum(axis=0)))
    number = int((counts[:, scarce] > 0).sum())
    unit = "images" if records.groups is None else "groups (patients)"
    raise UserError(
        f"class '{records.class_names[scarce]}' has {number} {unit} to divide between {name} and "
        "the rest, too few for every class in every split; add images or leave the class out."
    )


def _walk_groups(counts: np.ndarray, target: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Mask [G] of the groups taken when visited in ``order``; see `_hold_out`."""
    taken = np.zeros(len(counts), bool)
    # Expanding the square, taking group c lowers the deviation when sum c (2 gap - c) / target > 0.
    gap = target.astype(float).copy()
    for group in order:
        row = counts[group]
        if (row * (2 * gap - row) / target).sum() > 0:
            taken[group] = True
            gap -= row
    return taken


def _without(records: ArrayRecords, available: np.ndarray, held: np.ndarray) -> np.ndarray:
    """What is left of ``available``: neither in ``held`` nor, labelled or not, of its groups."""
    groups = _groups_of(records, available)
    return available[~np.isin(groups, groups[np.isin(available, held)])]


def _choose_train(
    records: ArrayRecords,
    available: np.ndarray,
    real_per_class: int,
    per_class: Mapping[str | int, int],
    seed: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the labelled training images, sorted, and of what remains."""
    wanted = dict.fromkeys(range(len(records.class_names)), real_per_class)
    flags = dict.fromkeys(wanted, f"--config.data.real_per_class={real_per_class}")
    for key, count in per_class.items():
        label = _class_index(key, records.class_names)
        wanted[label], flags[label] = count, f"--config.data.per_class={{'{key}': {count}}}"
    chosen = []
    for label, count in wanted.items():
        here = available[records.labels[available] == label]
        name = records.class_names[label]
        if len(here) == 0:
            raise UserError(f"class '{name}' has no images left for training; add some.")
        if count < 0:
            raise UserError(f"{flags[label]} is negative; ask for images, or 0 for all.")
        if count > len(here):
            raise UserError(
                f"{flags[label]} asks for {count} images of class '{name}', there are {len(here)}; "
                f"ask for at most {len(here)} or 0 for all."
            )
        order = np.random.default_rng((seed, 2, label)).permutation(here)
        chosen.append(order[: count or len(here)])
    train = np.sort(np.concatenate(chosen))
    return train, np.setdiff1d(available, train)


def _class_index(key: str | int, class_names: tuple[str, ...]) -> int:
    """Label of a class given by name or by number (also as text, as flags give it)."""
    text = str(key)
    if text in class_names:
        return class_names.index(text)
    if text.isdigit() and int(text) < len(class_names):
        return int(text)
    raise UserError(
        f"--config.data.per_class names '{key}', which is no class; "
        f"the classes are {', '.join(class_names)}."
    )


def _choose_unlabelled(remaining: np.ndarray, count: int, seed: int) -> np.ndarray:
    if count < -1:
        raise UserError(f"--config.data.unlabelled={count} is negative; -1 stands for all.")
    if count > len(remaining):
        raise UserError(
            f"--config.data.unlabelled={count} asks for {count} images without labels, "
            f"{len(remaining)} training images remain; ask for at most {len(remaining)} or -1."
        )
    order = np.random.default_rng((seed, 3)).permutation(remaining)
    return np.sort(order if count == -1 else order[:count])
