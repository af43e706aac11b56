"""What must hold for a set of labelled images, as one sentence that names where it doesn't."""

from typing import TYPE_CHECKING

import numpy as np

from data import marks, texts
from data.errors import UserError

if TYPE_CHECKING:
    from data.records import Records

STORAGE_DTYPES = (np.dtype(np.uint8), np.dtype(np.uint16), np.dtype(np.float32))


def check_split_allowed(split: str, records: "Records") -> None:
    """Raise UserError if synthetic images would be validated or tested on."""
    if split in ("val", "test") and (records.synthetic or marks.marked(records.ids).any()):
        raise UserError(
            f"the '{split}' split would hold synthetic images; validate and test on real ones only."
        )


def check_dtype(where: str, dtype: np.dtype) -> None:
    """Refuse pixels that are neither uint8, uint16 nor float32."""
    if dtype not in STORAGE_DTYPES:
        raise UserError(
            f"{where} has pixels of type {dtype}; store them as uint8, uint16 or float32 in "
            "[-1, 1]."
        )


def check_columns(
    where: str,
    count: int,
    labels: np.ndarray,
    ids: texts.Column,
    groups: texts.Column | None,
    class_names: tuple[str, ...],
) -> None:
    """Refuse labels, ids and groups that don't fit `count` images of these classes.

    Args:
        where: what messages call the set: a file and split.
        count: images.
        labels: integers [N] from 0; -1 = missing.
        ids: unique names [N].
        groups: names [N], or None.
        class_names: unique names in label order.
    """
    for name, column in (("labels", labels), ("ids", ids), ("groups", groups)):
        if column is not None and column.shape != (count,):
            raise UserError(
                f"{where} has {count} images but {name} of shape {column.shape}; "
                "give one per image."
            )
    if not np.issubdtype(labels.dtype, np.integer):
        raise UserError(f"{where} has labels of type {labels.dtype}; give integers from 0.")
    classes = len(class_names)
    if classes == 0 or len(set(class_names)) != classes:
        raise UserError(
            f"{where} has class names {list(class_names)}; give each class its own name."
        )
    wrong = np.flatnonzero((labels < -1) | (labels >= classes))
    if wrong.size:
        raise UserError(
            f"{where}: image '{ids[wrong[0]]}' has label {labels[wrong[0]]}, out of range for "
            f"{classes} classes; labels go from 0 to {classes - 1}, -1 = missing."
        )
    if (twice := texts.repeated(ids)) is not None:
        raise UserError(
            f"{where}: the id '{twice[0]}' occurs {twice[1]} times; give every image its own id."
        )


def check_floats(where: str, images: np.ndarray, ids: np.ndarray) -> None:
    """Refuse float images [N, H, W, C] that hold NaN or leave [-1, 1]."""
    if not len(images):
        return
    flat = images.reshape(len(images), -1)
    bad = np.flatnonzero(~np.isfinite(flat).all(axis=1))
    if bad.size:
        raise UserError(
            f"{where}: image '{ids[bad[0]]}' holds NaN or infinite pixels; mend or remove it."
        )
    low, high = flat.min(), flat.max()
    if low < -1 or high > 1:
        raise UserError(
            f"{where} has float pixels from {low:g} to {high:g}; "
            "scale them to [-1, 1], or store uint8 or uint16."
        )
