"""Images of a source as they would be without the lesion, where it knows them: the phantom's.

Nothing trains on them; `launch.evaluate` holds translations against them.
"""

import os
from collections.abc import Sequence

import numpy as np

from data import images, records
from data.errors import UserError
from data.sources import FLAG, tfds

# Steps that leave everything where it is, relative to the image's edges.
_STILL = ("drop_blank", "clip_percentile", "scale", "window")
_STRETCH = ("resize", "resize(stretch)")


def read(
    spec: str,
    *,
    data_dir: str | os.PathLike[str],
    ids: Sequence[str],
    shape: tuple[int, ...],
    preprocess: Sequence[str],
) -> np.ndarray | None:
    """Healthy twins of images of a source.

    Args:
        spec: `config.data.source`; tfds sets with a feature `twin` have them.
        data_dir: where tfds keeps data sets.
        ids: of the images, [N].
        shape: (H, W, C) of the records, which twins are brought to.
        preprocess: steps that the images went through.

    Returns:
        float32 [N, H, W, C] in [-1, 1], or None if the source has none.

    Raises:
        UserError: images without a twin in a source that has some, or steps that move images.
    """
    kind, _, where = spec.partition(":")
    known = dict(tfds.feature(where, data_dir, "twin")) if kind == "tfds" else {}
    if not known:
        return None
    for step in preprocess:
        if step not in _STRETCH and step.partition("(")[0] not in _STILL:
            raise UserError(
                f"--config.data.preprocess has '{step}', which moves images but not their twins; "
                "prepare them with 'resize' alone to see how near translations come to those."
            )
    missing = [id_ for id_ in ids if id_ not in known]
    if missing:
        raise UserError(
            f"{FLAG}={spec} has no twin of {len(missing)} images, '{missing[0]}' among them; give "
            "the source that they were prepared from."
        )
    return np.stack([records.to_unit(images.resize(known[id_], shape[:-1])) for id_ in ids])
