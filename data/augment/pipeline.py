"""The named transforms applied in their order, to images, to masks, and to whole batches."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from data.augment import degradation, geometry, intensity, mixing
from data.augment.streams import RowStream, Uniform, row_blocks, stream_key
from data.errors import UserError

# The random stream of each transform. A number stays for ever, or the same seed would make other
# images; new transforms take the next one.
STREAMS: Mapping[str, int] = {
    "flip": 0, "shift": 1, "rotate": 2, "scale": 3, "elastic": 4,
    "contrast": 5, "brightness": 6, "blur": 7, "noise": 8,
    "shear": 9, "gamma": 10, "bias": 11, "colour": 12, "lowres": 13, "rician": 14, "cutout": 15,
    "histogram": 16, "mixup": 17,
}  # fmt: skip
NAMES = tuple(STREAMS)

# By name, and in the order in which they are applied.
INTENSITY = {**intensity.BEFORE, **degradation.TRANSFORMS, **intensity.AFTER}

Rows = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def check_names(names: Sequence[str], channels: int) -> None:
    """Raise UserError unless every name is one of `NAMES` and fit for so many channels."""
    for name in names:
        if name not in STREAMS:
            raise UserError(f"there is no augmentation '{name}'; choose from {', '.join(NAMES)}.")
    if "colour" in names and channels != 3:
        raise UserError(
            f"the augmentation 'colour' needs 3 channels, and images have {channels}; leave it out."
        )


def augment(
    images: np.ndarray,
    names: Sequence[str],
    strength: float,
    seed: tuple[int, ...],
    *,
    first_row: int = 0,
    references: np.ndarray | None = None,
) -> np.ndarray:
    """Apply the named transforms to a batch, each image with its own random parameters.

    The order is fixed, whatever the order of the names: histogram, geometry (in one warp), gamma,
    bias, contrast, brightness, colour, blur, lowres, noise, rician, cutout, and clipping to
    [-1, 1]. Each transform's randomness depends on the seed and its name only, so adding one leaves
    the others' choices as they were. 'mixup' is left to `make_batch`, which knows the labels.

    Args:
        images: [B, H, W, C] or [B, D, H, W, C] float32 in [-1, 1].
        names: of `NAMES`.
        strength: 0 = identity, 1 = the magnitudes of docs/augmentation.md.
        seed: the only randomness, for instance (seed, step).
        first_row: which row of the global batch ``images[0]`` is; rows get the same parameters
            however a batch is divided.
        references: like ``images``; what 'histogram' matches each image to.

    Raises:
        UserError: an unknown name, or one that these images have not the channels for.
        ValueError: 'histogram' without references.
    """
    check_names(names, images.shape[-1])
    if "histogram" in names and references is None:
        raise ValueError("histogram matching needs references")
    if strength == 0 or not names:
        return images
    keys = _keys(names, seed)
    out = np.empty_like(images)
    for block in row_blocks(images.shape):
        streams = _streams(keys, first_row + block.start)
        part = images[block]
        if "histogram" in streams:
            part = mixing.match_histogram(part, references[block], streams["histogram"], strength)
        drawn = geometry.draw(part.shape, streams, strength)
        if drawn is not None:
            part = geometry.warp(part, *drawn)
        for name, transform in INTENSITY.items():
            if name in streams:
                part = transform(part, streams[name], strength)
        out[block] = part
    return np.clip(out, -1, 1, out=out)


def augment_masks(
    masks: np.ndarray,
    names: Sequence[str],
    strength: float,
    seed: tuple[int, ...],
    *,
    first_row: int = 0,
) -> np.ndarray:
    """Move masks as `augment` moves the images of the same rows, sizes, names, strength and seed.

    Args:
        masks: [B, H, W, K] or [B, D, H, W, K] of any type; values are taken from the nearest pixel,
            and nothing but geometry is applied.
        names: see `augment`.
        strength: see `augment`.
        seed: see `augment`.
        first_row: see `augment`.
    """
    keys = _keys([name for name in names if name in geometry.NAMES], seed)
    if strength == 0 or not keys:
        return masks
    out = np.empty_like(masks)
    for block in row_blocks(masks.shape):
        part = masks[block]
        drawn = geometry.draw(part.shape, _streams(keys, first_row + block.start), strength)
        out[block] = geometry.warp(part, *drawn, nearest=True)
    return out


def make_batch(
    read: Rows,
    rows: np.ndarray,
    total: int,
    names: Sequence[str],
    strength: float,
    seed: tuple[int, ...],
) -> dict[str, np.ndarray]:
    """Read and augment rows of a batch, with those others of it that histogram and mixup need.

    The same rows come out whatever other ``rows`` are asked for. A row's other image is augmented
    as in its own row before it is mixed in; histograms are matched to images as they are read.

    Args:
        read: images float32 [n, ...] in [-1, 1] and labels int32 [n] of ascending rows [n].
        rows: [b], which rows of the batch to make, ascending.
        total: rows of the whole batch.
        names: see `augment`.
        strength: see `augment`.
        seed: see `augment`.

    Returns:
        'image' float32 [b, ...] and 'label' int32 [b]; with 'mixup' among the names, also
        'mix_label' int32 [b] of the images mixed in, and 'mix_weight' float32 [b], the share of
        'label' (1 at strength 0).
    """
    made = rows
    if "mixup" in names:
        drawn = _uniform(total, (*seed, STREAMS["mixup"]))
        partners = mixing.other_rows(drawn[:, 0])[rows]
        weights = mixing.mixup_weights(drawn[:, 1], strength)[rows]
        made = np.union1d(rows, partners)
    others = made
    if "histogram" in names:
        # The 1 tells it from the stream that `augment` draws from; a 0 would not.
        drawn = _uniform(total, (*seed, STREAMS["histogram"], 1))
        others = mixing.other_rows(drawn[:, 0])[made]
    known = np.union1d(made, others)
    images, labels = read(known)
    label = labels[np.searchsorted(known, made)]
    image, reference = (images[np.searchsorted(known, wanted)] for wanted in (made, others))
    starts = np.flatnonzero(np.diff(made, prepend=-2) != 1)
    for start, stop in zip(starts, [*starts[1:], len(made)], strict=True):
        run = slice(start, stop)
        image[run] = augment(
            image[run], names, strength, seed, first_row=made[start], references=reference[run]
        )
    own = np.searchsorted(made, rows)
    batch = {"image": image[own], "label": label[own]}
    if "mixup" in names:
        other = np.searchsorted(made, partners)
        batch["image"] = mixing.mix(batch["image"], image[other], weights)
        batch |= {"mix_label": label[other], "mix_weight": weights}
    return batch


def _uniform(total: int, seed: tuple[int, ...]) -> np.ndarray:
    """Numbers [total, 2] in [0, 1), those of all rows: few enough, and partners may be any."""
    return RowStream(stream_key(seed), 0).random((total, 2), np.float64)


def _keys(names: Sequence[str], seed: tuple[int, ...]) -> dict[str, np.ndarray]:
    return {name: stream_key((*seed, STREAMS[name])) for name in names}


def _streams(keys: Mapping[str, np.ndarray], first_row: int) -> dict[str, Uniform]:
    return {name: RowStream(key, first_row) for name, key in keys.items()}
