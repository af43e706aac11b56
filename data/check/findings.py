"""What is doubtful about a source, as sentences; and the numbers they rest on."""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from data import marks
from data.check import duplicates
from data.check.duplicates import Pairs
from data.check.facts import RANGES
from data.check.survey import Survey

STOP, LOOK, FINE = "stop", "look", "fine"
_ORDER = (STOP, LOOK, FINE)
# Associations (Cramér's V) from here on are called a shortcut.
_SHORTCUT = 0.5
# Where more than this share of the patients has several labels, that is how the set is.
_MIXED_PATIENTS = 0.2
_FEW = 10  # images of a class, or patients
_DISTORTED = 1.25  # how far aspect ratios may lie apart
MOST_VALUES = 20  # of a column that is shown


@dataclasses.dataclass(frozen=True)
class Finding:
    """One sentence.

    Attributes:
        level: `STOP` (prepare refuses), `LOOK` (look at it before training) or `FINE`.
        text: the sentence.
    """

    level: str
    text: str


@dataclasses.dataclass(frozen=True)
class Doubles:
    """Duplicates, exact and near together.

    Attributes:
        pairs: all of them.
        exact: bool [P], whether of the same pixels.
        across: bool [P], whether in two splits.
        labels: bool [P], whether of two labels.
        patients: bool [P], whether of two known patients.
    """

    pairs: Pairs
    exact: np.ndarray
    across: np.ndarray
    labels: np.ndarray
    patients: np.ndarray

    def ranked(self, most: int) -> list[int]:
        """The pairs that matter most: across splits, of two labels, exact, of two patients."""
        keys = (
            self.pairs.distance, ~self.patients, ~self.exact, ~self.labels, ~self.across,
        )  # fmt: skip
        return np.lexsort(keys)[:most].tolist()


def doubles(survey: Survey) -> Doubles:
    """Finds all pairs."""
    varied = survey.values[:, 0] < survey.values[:, 1]  # all blank images are alike
    exact = duplicates.exact(survey.digests, varied)
    near = duplicates.near(survey.thumbnails, survey.digests)
    pairs = Pairs(
        *(np.concatenate([getattr(exact, x), getattr(near, x)]) for x in ("a", "b", "distance")),
        near.complete,
    )
    a, b = pairs.a, pairs.b
    known = (survey.groups[a] != "") & (survey.groups[b] != "")
    return Doubles(
        pairs,
        exact=np.arange(len(pairs)) < len(exact),
        across=survey.splits[a] != survey.splits[b],
        labels=(survey.labels[a] != survey.labels[b]) & (survey.labels[a] >= 0)
        & (survey.labels[b] >= 0),
        patients=known & (survey.groups[a] != survey.groups[b]),
    )  # fmt: skip


def findings(survey: Survey, found: Doubles, max_unreadable: float) -> list[Finding]:
    """All sentences, the gravest first."""
    checks = (
        _files(survey, max_unreadable), _classes(survey), _types(survey), _values(survey),
        _shapes(survey), _doubles(survey, found), _patients(survey), _shortcuts(survey),
    )  # fmt: skip
    sentences = [finding for check in checks for finding in check]
    return sorted(sentences, key=lambda finding: _ORDER.index(finding.level))


def association(column: np.ndarray, labels: np.ndarray) -> float:
    """Cramér's V of two columns [N], with Bergsma's correction: 0 independent, 1 determined.

    Bergsma (2013), J. Korean Stat. Soc. 42(3), doi:10.1016/j.jkss.2012.10.002.
    """
    table = crosstab(column, labels)[2].astype(float)
    n, (r, k) = table.sum(), table.shape
    if min(r, k) < 2 or n < 2:
        return 0.0
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / n
    phi2 = ((table - expected) ** 2 / expected).sum() / n
    phi2 = max(0.0, phi2 - (r - 1) * (k - 1) / (n - 1))
    rows, columns = r - (r - 1) ** 2 / (n - 1), k - (k - 1) ** 2 / (n - 1)
    least = min(rows, columns) - 1
    return float(np.sqrt(phi2 / least)) if least > 0 else 0.0


def crosstab(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values of a [R], values of b [K], and how often they come together, int64 [R, K]."""
    rows, i = np.unique(a, return_inverse=True)
    columns, j = np.unique(b, return_inverse=True)
    counts = np.bincount(i * len(columns) + j, minlength=len(rows) * len(columns))
    return rows, columns, counts.reshape(len(rows), len(columns))


def shown_columns(survey: Survey) -> dict[str, np.ndarray]:
    """Columns with few enough values to be a subgroup and not a name."""
    return {
        name: values
        for name, values in survey.columns.items()
        if len(np.unique(values)) <= min(MOST_VALUES, max(2, len(values) // 5))
    }


def _files(survey: Survey, allowed: float) -> Iterator[Finding]:
    made = int(marks.marked(survey.ids).sum())
    if made:
        yield Finding(STOP, f"{made} images are marked as synthetic.")
    count = len(survey.unreadable)
    if count:
        share = count / (survey.files or count)
        level = STOP if share > allowed else LOOK
        yield Finding(level, f"{count} of {survey.files} files can't be read: see the list.")
    elif survey.files is not None:
        yield Finding(FINE, f"All {survey.files} files can be read.")
    names, counts = np.unique(survey.ids, return_counts=True)
    if (counts > 1).any():
        name = names[counts.argmax()]
        yield Finding(STOP, f"{int((counts > 1).sum())} ids occur several times, such as {name}.")


def _classes(survey: Survey) -> Iterator[Finding]:
    wrong = (survey.labels < -1) | (survey.labels >= len(survey.class_names))
    if wrong.any():
        yield Finding(STOP, f"{int(wrong.sum())} images have a label that is no class.")
    if len(survey.class_names) < 2:
        yield Finding(LOOK, "There is one class only: nothing to tell apart.")
    for split in np.unique(survey.splits):
        here = survey.labels[survey.splits == split]
        counts = np.bincount(here[(here >= 0) & ~wrong[survey.splits == split]],
                             minlength=len(survey.class_names))  # fmt: skip
        for name, count in zip(survey.class_names, counts, strict=False):
            where = "" if split == "all" else f" in split '{split}'"
            if count == 0:
                yield Finding(STOP, f"Class '{name}' has no images{where}.")
            elif count < _FEW:
                yield Finding(LOOK, f"Class '{name}' has {count} images only{where}.")


def _types(survey: Survey) -> Iterator[Finding]:
    types = sorted(set(survey.dtypes.tolist()))
    strange = [name for name in types if name not in RANGES]
    if strange:
        yield Finding(STOP, f"Pixels are {', '.join(strange)}; store them as uint8 or uint16.")
    elif len(types) > 1 and survey.spec.partition(":")[0] != "dicom":
        yield Finding(STOP, f"Bit depths are mixed ({', '.join(types)}); convert to one.")
    channels = sorted(set(survey.shapes[:, 2].tolist()))
    colour = int((~survey.grey).sum())
    if 3 in channels and colour == 0:
        yield Finding(LOOK, "Images are stored as RGB, but all of them are grey.")
    elif 0 < colour < len(survey):
        yield Finding(
            LOOK, f"{colour} images are in colour, {len(survey) - colour} grey; does that go with "
            f"the class? Association {association(survey.grey, survey.labels):.2f}.",
        )  # fmt: skip


def _values(survey: Survey) -> Iterator[Finding]:
    low, high, mean = survey.values.T
    broken = int((~np.isfinite(mean)).sum())
    if broken:
        yield Finding(STOP, f"{broken} images hold NaN or infinite values.")
    blank = int((low == high).sum())
    if blank:
        yield Finding(LOOK, f"{blank} images are blank: all their pixels are alike.")
    for name in sorted(set(survey.dtypes.tolist())):
        here = survey.dtypes == name
        if name == "float32" and (low[here].min() < -1 or high[here].max() > 1):
            yield Finding(STOP, "Float pixels go beyond [-1, 1]; scale them.")
        elif name in RANGES and np.isfinite(mean[here]).all():
            least, most = RANGES[name]
            used = (high[here].max() - least) / (most - least)
            if used < 0.5:
                yield Finding(
                    LOOK, f"The brightest {name} pixel of all is {high[here].max():g} of {most:g}: "
                    "the images will be dark; rescale them.",
                )  # fmt: skip


def _shapes(survey: Survey) -> Iterator[Finding]:
    ratios = survey.shapes[:, 1] / survey.shapes[:, 0]
    low, high = ratios.min(), ratios.max()
    if high / low > _DISTORTED:
        yield Finding(
            LOOK, f"Aspect ratios go from {low:.2f} to {high:.2f} (width by height); all images "
            "become square, so some are distorted.",
        )  # fmt: skip
    elif max(high, 1 / low) > _DISTORTED:
        yield Finding(LOOK, f"Images are {high:.2f} as wide as high and become square.")


def _doubles(survey: Survey, found: Doubles) -> Iterator[Finding]:
    for exact, what in ((True, "the same pixels"), (False, "nearly the same pixels")):
        kind = found.exact == exact
        if not kind.any():
            yield Finding(FINE, f"No two images have {what}.")
            continue
        images = len(np.unique(np.concatenate([found.pairs.a[kind], found.pairs.b[kind]])))
        patients = kind & found.patients
        more = "" if found.pairs.complete else "more than "
        tail = f", {int(patients.sum())} of two patients" if (survey.groups != "").any() else ""
        level = LOOK if exact or patients.any() or not (survey.groups != "").any() else FINE
        yield Finding(level, f"{more}{int(kind.sum())} pairs of {images} images have {what}{tail}.")
        for mask, where in ((found.across, "in two splits"), (found.labels, "under two labels")):
            count = int((kind & mask).sum())
            if count and (exact or level == LOOK or mask is found.across):
                yield Finding(LOOK, f"{count} of these pairs are {where}.")


def _patients(survey: Survey) -> Iterator[Finding]:
    known = survey.groups != ""
    if not known.any():
        yield Finding(
            LOOK, "Patients are not known: images of one patient may come into several splits. "
            "A table of labels with the column 'patient' mends that.",
        )  # fmt: skip
        return
    if not known.all():
        yield Finding(LOOK, f"The patient of {int((~known).sum())} images is not known.")
    groups, labels = survey.groups[known], survey.labels[known]
    names, _, splits = crosstab(groups, survey.splits[known])
    shared = int(((splits > 0).sum(axis=1) > 1).sum())
    if shared:
        yield Finding(STOP, f"{shared} patients (or groups) are in several splits.")
    several = crosstab(groups[labels >= 0], labels[labels >= 0])[2]
    mixed = int(((several > 0).sum(axis=1) > 1).sum())
    repeated = int((several.sum(axis=1) > 1).sum())
    if mixed:
        usual = mixed > _MIXED_PATIENTS * repeated
        yield Finding(
            FINE if usual else LOOK,
            f"{mixed} of the {repeated} patients (or groups) with several images have several "
            "labels" + (", as is usual where images are slices." if usual else "."),
        )
    if len(names) < _FEW * len(survey.class_names):
        yield Finding(LOOK, f"There are {len(names)} patients (or groups) only.")


def _shortcuts(survey: Survey) -> Iterator[Finding]:
    labelled = survey.labels >= 0
    sizes = np.column_stack([survey.depths, survey.shapes[:, :2]])
    size = np.array(["x".join(map(str, shape)) for shape in sizes])
    for name, column in {**shown_columns(survey), "the size of the image": size}.items():
        if len(np.unique(column)) > max(2, len(column) // 5):
            continue
        strength = association(column[labelled], survey.labels[labelled])
        if strength >= _SHORTCUT:
            yield Finding(
                LOOK, f"{name[0].upper()}{name[1:]} tells the class (Cramér's V {strength:.2f}): a "
                "network may learn that instead of the disease.",
            )  # fmt: skip
    for name in survey.columns.keys() - shown_columns(survey).keys():
        count = len(np.unique(survey.columns[name]))
        yield Finding(FINE, f"Column '{name}' has {count} values and is not shown.")


def summary(levels: Sequence[Finding]) -> str:
    """'2 to mend, 3 to look at'."""
    stop, look = (sum(f.level == level for f in levels) for level in (STOP, LOOK))
    return f"{stop} to mend before preparing, {look} to look at"
