"""A configuration to begin with, as the text of a file that is saved under configs/ and run."""

import json
import pathlib

import numpy as np

from data.check.survey import Survey
from data.sources.raw import VOLUME, Options

_SIZES = (16, 32, 64, 128)  # that the networks can make
_MARGIN = 1.5  # how much more unreadable files than found are allowed


def size(survey: Survey) -> int:
    """The largest size that does not enlarge the shorter side of most images."""
    side = np.median(survey.shapes[:, :2].min(axis=1))
    return max((s for s in _SIZES if s <= side), default=_SIZES[0])


def channels(survey: Survey) -> int:
    """1 for grey images, 3 if one in a hundred is in colour, any other number as it is."""
    found = set(survey.shapes[:, 2].tolist())
    if found - {1, 3}:
        return max(found)
    return 3 if np.mean(~survey.grey) > 0.01 else 1


def lines(survey: Survey, options: Options) -> list[tuple[str, str, str]]:
    """(field, value as Python, why) of everything that differs from configs/default.py."""
    kind, _, where = survey.spec.partition(":")
    spec = survey.spec if kind == "tfds" else f"{kind}:{pathlib.Path(where).expanduser().resolve()}"
    pixels, chosen = size(survey), []
    chosen.append(("data.source", json.dumps(spec), ""))
    if options.labels:
        table = pathlib.Path(options.labels).expanduser().resolve()
        chosen.append(("data.labels", json.dumps(str(table)), ""))
    if kind == "dicom" or options.labels:
        chosen.append(("data.salt", '""', "better --config.data.salt=SECRET than written here"))
    if kind == "nifti":
        chosen.append(("data.axis", json.dumps(options.axis), ""))
    elif options.axis == VOLUME:
        chosen.append(("data.axis", json.dumps(VOLUME), "series as volumes"))
    if kind == "video":
        chosen.append(("data.stride", str(options.stride), ""))
    if survey.unreadable and survey.files:
        share = len(survey.unreadable) / survey.files
        allowed = min(0.99, max(0.1, np.ceil(100 * _MARGIN * share) / 100))
        why = f"{len(survey.unreadable)} of {survey.files} files can't be read"
        chosen.append(("data.max_unreadable", f"{allowed:g}", why))
    middle = np.median(survey.shapes, axis=0).astype(int)
    chosen.append(
        ("data.size", str(pixels), f"the median image is {middle[0]} x {middle[1]} pixels")
    )
    if options.axis == VOLUME:
        depth = int(np.median(survey.depths))
        chosen.append(("data.depth", str(depth), f"the median volume has {depth} slices"))
    chosen.append(("data.channels", str(channels(survey)), ""))
    chosen.append(("data.real_per_class", "0", "all there are; a number makes the set small"))
    chosen += _fractions(survey)
    chosen.append(
        (
            "data.augment", '("shift", "rotate", "scale", "brightness", "contrast", "noise")',
            'no "flip": add it where left and right mean the same',
        )
    )  # fmt: skip
    if pixels >= 64:
        why = "sixteen times cheaper classifiers"
        chosen += [("features.stem", '"imagenet"', why), ("target.stem", '"imagenet"', "")]
    chosen.append(("vrn.input_size", str(min(32, pixels)), ""))
    return chosen


def _fractions(survey: Survey) -> list[tuple[str, str, str]]:
    """Shares of val and test where the source has none."""
    own = set(survey.splits.tolist())
    shares = {"val": "0.15", "test": "0.25"}
    return [
        (f"data.{name}_fraction", share, "the source has no such split")
        for name, share in shares.items()
        if name not in own
    ]


def config(survey: Survey, options: Options, name: str) -> str:
    """The file's text; `name` is its own, without .py."""
    body = "\n".join(
        (f"    # {why[0].upper()}{why[1:]}.\n" if why else "") + f"    config.{field} = {value}"
        for field, value, why in lines(survey, options)
    )
    classes = ", ".join(survey.class_names[:8]) + (", ..." if len(survey.class_names) > 8 else "")
    return f'''"""{len(survey):,} images of {len(survey.class_names)} classes: {classes}.

Command:   python -m launch.pipeline --config=configs/{name}.py --workdir=runs/{name}
Hardware, time and score: not measured yet; written by launch.check_data as a beginning
"""

import ml_collections

from configs import default


def get_config() -> ml_collections.ConfigDict:
    """Returns the experiment."""
    config = default.get_config()
{body}
    return config
'''
