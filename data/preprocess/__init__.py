"""What happens to images before they become records: named steps, in order, kept with the data.

A chain is written as in `config.data.preprocess`: ('window(40, 400)', 'resample(1.0)', 'resize').
`docs/data.md` lists the steps.
"""

import ast
import functools
import json
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from data.errors import UserError
from data.preprocess.geometry import Centre, DropBlank, Resample, Resize
from data.preprocess.image import Image, Undo, to_pixels, to_units
from data.preprocess.intensity import ClipPercentile, Scale, Window

__all__ = ["STEPS", "Image", "Step", "apply", "of_dataset", "parse", "undo", "works_in_units"]

FLAG = "--config.data.preprocess"
STEPS = {
    "window": Window,
    "clip_percentile": ClipPercentile,
    "scale": Scale,
    "resample": Resample,
    "centre": Centre,
    "drop_blank": DropBlank,
    "resize": Resize,
}


class Step(Protocol):
    """One step of a chain; `in_units` says that it needs values in the units of the file."""

    in_units: bool

    def __call__(self, image: Image) -> tuple[Image, Undo] | None:
        """The image after the step and what the way back needs; None leaves the image out."""

    def undo(self, image: Image, undo: Undo) -> Image:
        """The way back, as far as there is one."""


def parse(names: Sequence[str], size: int | tuple[int, ...]) -> tuple[Step, ...]:
    """The steps that a chain names.

    Args:
        names: 'NAME' or 'NAME(value, …)'; values are numbers or words.
        size: of all sides of the records, or of each, pixels; what 'resize' brings images to.

    Raises:
        UserError: an unknown step, wrong arguments, or a chain without 'resize'; names the flag.
    """
    steps = tuple(_parse(name, size) for name in names)
    if sum(isinstance(step, Resize) for step in steps) != 1:
        raise UserError(f"{FLAG}={tuple(names)!r} needs 'resize' once, to --config.data.size.")
    places = [i for i, step in enumerate(steps) if step == Scale("dataset")]
    if places and any(step.in_units for step in steps[places[0] + 1 :]):
        raise UserError(
            f"{FLAG}={tuple(names)!r} has a step on values after 'scale(dataset)', which is known "
            "when all images are read; put it last of these."
        )
    return steps


def works_in_units(steps: Sequence[Step]) -> bool:
    """Whether a chain needs the values of a file rather than what its header's window shows."""
    return any(step.in_units for step in steps)


def of_dataset(steps: Sequence[Step]) -> bool:
    """Whether the range is that of all images, so that pixels can be stored when all are read."""
    return Scale("dataset") in steps


def apply(steps: Sequence[Step], image: Image) -> tuple[Image, str] | None:
    """The image after all steps, and as JSON what the way back needs; None leaves it out.

    Its values are stored pixels, or float64 in units where the range is that of the data set.

    Raises:
        RefusedError: the file lacks what a step needs.
    """
    image = to_units(image) if works_in_units(steps) else image
    undos = []
    for step in steps:
        done = step(image)
        if done is None:
            return None
        image, undo_one = done
        undos.append(undo_one)
    if image.in_units and not of_dataset(steps):
        pixels = to_pixels(image.values, image.low, image.high, image.dtype)
        image = image.replace(values=pixels)
    return image, json.dumps(undos)


def undo(
    steps: Sequence[Step], pixels: np.ndarray, undos: str, low: float, high: float
) -> np.ndarray:
    """Values float64 [H, W, C] or [D, H, W, C] in the frame and units of the file.

    Args:
        steps: of the chain.
        pixels: stored pixels of a record, or of an image made like it.
        undos: what `apply` gave for the record.
        low: what the darkest pixel stands for; NaN where pixels are their own units.
        high: what the brightest stands for.
    """
    image = to_units(Image(pixels, low, high, pixels.dtype))
    for step, undo_one in zip(reversed(steps), reversed(json.loads(undos)), strict=True):
        image = step.undo(image, undo_one)
    return image.values


@functools.lru_cache
def _parse(text: str, size: int | tuple[int, ...]) -> Step:
    try:
        node = ast.parse(text.strip(), mode="eval").body
        call = node if isinstance(node, ast.Call) else ast.Call(node, [], [])
        if not isinstance(call.func, ast.Name) or call.keywords:
            raise ValueError("no name")
        name, values = call.func.id, [_value(argument) for argument in call.args]
    except (SyntaxError, ValueError) as error:
        raise UserError(
            f"{FLAG}: cannot read {text!r}; write it like 'window(40, 400)'."
        ) from error
    if name not in STEPS:
        raise UserError(f"{FLAG}: there is no step {name!r}; choose from {', '.join(STEPS)}.")
    if name == "resize":
        values.insert(0, size)
    try:
        return STEPS[name](*values)
    except (TypeError, UserError) as error:
        raise UserError(f"{FLAG}: {text!r}: {error}.") from error


def _value(node: ast.expr) -> Any:
    return node.id if isinstance(node, ast.Name) else ast.literal_eval(node)
