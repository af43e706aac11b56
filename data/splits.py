"""Train, unlabelled, validation and test sets: stratified, patient-disjoint, small on request.

Images of the source that are marked as synthetic are a set of their own, in none of these.
"""

import dataclasses
import hashlib
import itertools
from collections.abc import Mapping

import numpy as np

from data import marks, texts
from data.checks import check_split_allowed
from data.errors import UserError
from data.records import Records
from data.sources import Source

# Orders of the groups tried before giving up on having every class on both sides.
_TRIES = 32
# Orders of which the best is taken where there are many strata; one will do for classes alone.
_ORDERS = 8


@dataclasses.dataclass(frozen=True)
class Splits:
    """The sets of a run; no id and no known group of val or test is in another set of real images.

    Only ``imported`` has images marked as synthetic, and it has some of every class or none at all.

    Attributes:
        train: labelled training images.
        unlabelled: further training images, every label -1; may be empty.
        val, test: real, labelled, never trained on.
        imported: synthetic images of the source, labelled, for the arm of that name alone; may be
            empty.
    """

    train: Records
    unlabelled: Records
    val: Records
    test: Records
    imported: Records

    def __post_init__(self) -> None:
        for name in ("val", "test"):
            check_split_allowed(name, getattr(self, name))
        for name in ("train", "unlabelled"):
            ids = getattr(self, name).ids
            if len(found := ids[marks.marked(ids)]):
                raise UserError(
                    f"the '{name}' split would hold synthetic images, such as "
                    f"'{found[0].removeprefix(marks.PREFIX)}'; they belong into 'imported'."
                )
        if not len(self.imported):
            return
        if not marks.marked(self.imported.ids).all():
            raise UserError(
                "the 'imported' split would hold real images; it is for synthetic ones."
            )
        missing = np.setdiff1d(np.arange(len(self.train.class_names)), self.imported.labels)
        if missing.size:
            raise UserError(
                f"class '{self.train.class_names[missing[0]]}' has no synthetic images, so that "
                "arm 'imported' would see the classes in other shares than all others; add some "
                "or remove those of the other classes."
            )

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names in label order."""
        return self.train.class_names

    def digest(self) -> str:
        """SHA-256 over all sets' digests."""
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
    folds: int = 0,
    fold: int = 0,
    seed: int,
) -> Splits:
    """Divide a source into the sets of a run.

    A source's own val and test splits are kept; a missing one is taken, stratified by class, from
    the rest (without sharing a group where groups are known). From what is left, ``real_per_class``
    labelled images per class become ``train``. Asking for more images with the same seed keeps the
    ones that fewer would have given. Images marked as synthetic are all in ``imported``, if they
    have a label, and do not count.

    Args:
        source: the images.
        val_fraction: share of each class, of all labelled images of the source's training part,
            that goes to val if the source has none.
        test_fraction: likewise to test.
        real_per_class: labelled training images per class; 0 = all there are.
        per_class: {class name or index: count} instead of ``real_per_class``, for rare classes.
        unlabelled: how many of the remaining training images to give without labels; -1 = all.
        folds: instead of a random share, test is one of so many parts of the source's training
            part, which together hold each of its labelled images once; 0 = a random share.
        fold: which of them, from 0.
        seed: of every choice made here.

    Raises:
        UserError: a fraction out of range, a class or count that isn't there, or groups that can't
            be divided.
    """
    own: dict[str, Records] = {
        name: source.splits[name] for name in ("val", "test") if name in source.splits
    }
    rest = source.splits.get("train", source.splits.get("all"))
    if rest is None:
        raise UserError(f"{source.spec} has no training images, only {', '.join(source.splits)}.")
    check_disjoint(source.spec, {"train": rest, **own})
    if folds and "test" in own:
        raise UserError(
            f"--config.data.folds={folds}: {source.spec} has a test split of its own; leave folds "
            "out, or give all images as one split."
        )
    made = marks.marked(rest.ids)  # by a network: apart from all that counts as real
    available = np.flatnonzero(~made).astype(np.int32)  # half the memory of a million files
    real = rest.labels[available]
    total = np.bincount(real[real >= 0], minlength=len(rest.class_names))
    sets = dict(own)
    for turn, (name, fraction) in enumerate((("test", test_fraction), ("val", val_fraction))):
        if name in own:
            continue
        if name == "test" and folds:
            sets[name] = rest.subset(held := _fold(rest, available, folds, fold, seed))
            available = _without(rest, available, held)
            continue
        if not 0 < fraction < 1:
            raise UserError(
                f"--config.data.{name}_fraction={fraction} leaves no {name} split and {source.spec}"
                " has none; give a number between 0 and 1, such as 0.2."
            )
        held = _hold_out(rest, available, total, fraction, name, (seed, turn))
        sets[name] = rest.subset(held)
        available = _without(rest, available, held)
    train, remaining = _choose_train(rest, available, real_per_class, per_class or {}, seed)
    return Splits(
        train=rest.subset(train),
        unlabelled=rest.subset(_choose_unlabelled(remaining, unlabelled, seed)).without_labels(),
        val=sets["val"],
        test=sets["test"],
        imported=rest.subset(np.flatnonzero(made & (rest.labels >= 0))),
    )


def check_disjoint(spec: str, named: Mapping[str, Records]) -> None:
    """Refuse splits that share images or groups, or have unlabelled images in val or test."""
    for name in named.keys() & {"val", "test"}:
        if (named[name].labels < 0).any():
            raise UserError(f"{spec}: its {name} split has images without a label; remove them.")
    for a, b in itertools.combinations(named, 2):
        for what in ("ids", "groups"):
            left, right = getattr(named[a], what), getattr(named[b], what)
            if left is None or right is None:
                continue
            shared = texts.shared(left, right)
            shared = shared[shared != ""]  # an unknown group is nobody's
            if shared.size:
                raise UserError(
                    f"{spec}: its {a} and {b} splits share {shared.size} {what} (such as "
                    f"'{shared[0]}'); remove them from one, or give all images as one split."
                )


def _groups_of(records: Records, indices: np.ndarray) -> np.ndarray:
    """Group number per image at ``indices``; an unknown group ('') is a group of its own."""
    if records.groups is None:
        return np.arange(len(indices), dtype=np.int32)
    groups = records.groups[indices]
    numbers, _ = texts.numbers(groups)
    unknown = np.flatnonzero(numbers == 0)  # '' is the first of all
    if unknown.size and groups[int(unknown[0])] == "":
        numbers += len(unknown) - 1
        numbers[unknown], _ = texts.numbers(records.ids[indices[unknown]])
    return numbers


def _strata(records: Records, indices: np.ndarray) -> tuple[np.ndarray, int]:
    """Strata [n, 1 or 2] an image counts for, and the number of all there are.

    Each class is one; where sites are known, so is each class at each site.
    """
    labels, classes = records.labels[indices], len(records.class_names)
    if records.sites is None:
        return labels[:, None], classes
    site, sites = texts.numbers(records.sites[indices])
    # In the order of labels as text, then of sites.
    rank = np.argsort(np.argsort(np.arange(classes).astype(np.str_)))
    stratum = np.unique(rank[labels] * sites + site, return_inverse=True)[1]
    return np.stack([labels, classes + stratum], axis=1), classes + int(stratum.max(initial=-1)) + 1


def _group_counts(records: Records, labelled: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Group number of every image [n], and images of every group and stratum [G, S]."""
    groups = _groups_of(records, labelled)
    columns, strata = _strata(records, labelled)
    counts = np.zeros((groups.max(initial=-1) + 1, strata), np.int32)
    for column in columns.T:
        np.add.at(counts, (groups, column), 1)
    return groups, counts


def _hold_out(
    records: Records,
    available: np.ndarray,
    total: np.ndarray,
    fraction: float,
    name: str,
    seed: tuple[int, int],
) -> np.ndarray:
    """Choose labelled records, whole groups at a time, close to a share of every stratum.

    Groups are visited in random order and taken when that brings the counts nearer to the target
    (squared deviation relative to the target, or to one image): of every class and, where sites are
    known, of every class at every site; then the best of `_ORDERS` orders counts. Orders that leave
    a class empty on either side are tried again.

    Args:
        records: the images.
        available: indices that may be chosen.
        total: labelled images per class [K] in the whole set, before anything was held out.
        fraction: share of them to choose.
        name: of the split, for messages.
        seed: of the orders.
    """
    labelled = available[records.labels[available] >= 0]
    groups, counts = _group_counts(records, labelled)
    classes, here = len(total), counts.sum(axis=0)
    # Of what is left, as large a share as `fraction` is of all.
    share = fraction * total.sum() / max(here[:classes].sum(), 1)
    target = np.concatenate([np.maximum(np.rint(fraction * total), 1), share * here[classes:]])
    # Sets too small to have every class at every site on both sides are divided by class alone.
    for columns in dict.fromkeys((len(target), classes)):
        found: list[tuple[float, np.ndarray]] = []
        for attempt in range(_TRIES):
            rng = np.random.default_rng((*seed, attempt))
            order = rng.permutation(len(counts))
            taken = _walk_groups(counts[:, :columns], target[:columns], order)
            held = counts[taken].sum(axis=0)
            if (held[:classes] > 0).all() and (held < here)[:classes].all():
                off = (held - target)[:columns] ** 2 / np.maximum(target, 1)[:columns]
                found.append((float(off.sum()), taken))
            if len(found) == (1 if columns == classes else _ORDERS):
                break
        if found:
            _, taken = min(found, key=lambda one: one[0])
            return labelled[taken[groups]]
    raise _scarce(records, counts[:, :classes], f"between {name} and the rest", "")


def _scarce(records: Records, counts: np.ndarray, sides: str, wish: str) -> UserError:
    """The class of fewest groups can't be on all sides; `counts` are images per group and class."""
    scarce = int(np.argmin((counts > 0).sum(axis=0)))
    number = int((counts[:, scarce] > 0).sum())
    unit = "images" if records.groups is None else "groups (patients)"
    return UserError(
        f"class '{records.class_names[scarce]}' has {number} {unit} to divide {sides}, too few for "
        f"every class in every split; add images{wish} or leave the class out."
    )


def _walk_groups(counts: np.ndarray, target: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Mask [G] of the groups taken when visited in ``order``; see `_hold_out`."""
    taken = np.zeros(len(counts), bool)
    # Expanding the square, taking group c lowers the deviation when sum c (2 gap - c) / target > 0.
    gap, scale = target.astype(float).copy(), np.maximum(target, 1)
    for group in order:
        row = counts[group]
        if (row * (2 * gap - row) / scale).sum() > 0:
            taken[group] = True
            gap -= row
    return taken


def _fold(records: Records, available: np.ndarray, folds: int, fold: int, seed: int) -> np.ndarray:
    """Labelled records of one of `folds` parts, each about as large in every stratum.

    Groups go one after another, large ones first, to the fold that has the least of what they hold
    (relative to its share), so which fold a group is in does not depend on `fold`.
    """
    if not (folds >= 2 and 0 <= fold < folds):
        raise UserError(
            f"--config.data.folds={folds} with --config.data.fold={fold}: give 2 folds or more, "
            "and one of them counted from 0."
        )
    labelled = available[records.labels[available] >= 0]
    groups, counts = _group_counts(records, labelled)
    share = counts.sum(axis=0) / folds
    order = np.random.default_rng((seed, 4)).permutation(len(counts))
    order = order[np.argsort(-counts[order].sum(axis=1), kind="stable")]
    held, of_group = np.zeros((folds, counts.shape[1])), np.empty(len(counts), np.int64)
    for group in order:
        row = counts[group]
        # What adding the row does to the squared deviation from the shares, relative to these.
        growth = (row * (2 * (held - share) + row) / np.maximum(share, 1e-9)).sum(axis=1)
        of_group[group] = np.argmin(growth)
        held[of_group[group]] += row
    classes = len(records.class_names)
    if (held[:, :classes] == 0).any():
        raise _scarce(records, counts[:, :classes], f"into {folds} folds", ", ask for fewer folds")
    return labelled[of_group[groups] == fold]


def _without(records: Records, available: np.ndarray, held: np.ndarray) -> np.ndarray:
    """What is left of ``available``: neither in ``held`` nor, labelled or not, of its groups."""
    groups = _groups_of(records, available)
    return available[~np.isin(groups, groups[np.isin(available, held)])]


def _choose_train(
    records: Records,
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
        # Only of attributes there may be combinations that never occur: sources refuse others.
        if len(here) == 0 and (count or (records.labels == label).any()):
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
