"""What a source knows of its images beyond their class: where the lesion is, and without it.

Nothing trains on it; `launch.evaluate` holds what was found against it.
"""

import dataclasses
import os
import pathlib
from collections.abc import Sequence

import numpy as np

from data import images, records
from data.errors import UserError
from data.sources import FLAG, npz, tfds

# Steps that leave everything where it is, relative to the image's edges.
_STILL = ("drop_blank", "clip_percentile", "scale", "window")
_STRETCH = ("resize", "resize(stretch)")
_INSIDE = 127  # of 255, in a mask


@dataclasses.dataclass(frozen=True)
class Truth:
    """Of N images.

    Attributes:
        masks: bool [N, H, W]: where the lesion is.
        twins: float32 [N, H, W, C] in [-1, 1], the images without it, or None where unknown.
    """

    masks: np.ndarray
    twins: np.ndarray | None


def read(
    spec: str,
    *,
    data_dir: str | os.PathLike[str],
    ids: Sequence[str],
    shape: tuple[int, ...],
    preprocess: Sequence[str],
) -> Truth | None:
    """Masks and healthy twins of images of a source.

    Args:
        spec: `config.data.source`: a tfds set with a feature `mask`, and perhaps `twin`, or an npz
            file with `{train,val,test}_masks`.
        data_dir: where tfds keeps data sets.
        ids: of the images, [N].
        shape: (H, W, C) of the records, which masks are brought to.
        preprocess: steps that the images went through.

    Returns:
        None if the source has no masks.

    Raises:
        UserError: images without a mask in a source that has some, or steps that move images.
    """
    kind, _, where = spec.partition(":")
    known: dict[str, dict[str, np.ndarray]] = {}
    if kind == "tfds":
        known = {k: row for k, row in tfds.further(where, data_dir, ("mask", "twin")) if row}
    elif kind == "npz":
        rows = npz.masks(pathlib.Path(where).expanduser())
        known = {str(id_): {"mask": mask} for id_, mask in rows}
    if not any("mask" in row for row in known.values()):
        return None
    for step in preprocess:
        if step not in _STRETCH and step.partition("(")[0] not in _STILL:
            raise UserError(
                f"--config.data.preprocess has '{step}', which moves images but not their masks; "
                "prepare them with 'resize' alone to see where disease was found."
            )
    missing = [id_ for id_ in ids if id_ not in known]
    if missing:
        raise UserError(
            f"{FLAG}={spec} has no mask of {len(missing)} images, '{missing[0]}' among them; give "
            "the source that they were prepared from."
        )
    masks = np.stack([_sized(known[id_]["mask"], shape) > _INSIDE for id_ in ids])[..., 0]
    twins = None
    if "twin" in known[ids[0]]:
        twins = np.stack([records.to_unit(_sized(known[id_]["twin"], shape)) for id_ in ids])
    return Truth(masks, twins)


def _sized(image: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """An image [H, W] or [H, W, 1] at the size of the records."""
    image = image[..., None] if image.ndim == len(shape) - 1 else image
    return images.resize(image, shape[:-1])
