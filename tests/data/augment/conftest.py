import numpy as np
import pytest

from data.augment import geometry, pipeline
from data.augment.streams import Uniform


def apply(name: str, images: np.ndarray, rng: Uniform, strength: float = 1.0) -> np.ndarray:
    """One transform with any generator."""
    if name in geometry.NAMES:
        return geometry.warp(images, *geometry.draw(images.shape, {name: rng}, strength))
    return pipeline.INTENSITY[name](images, rng, strength)


@pytest.fixture(params=[(16, 16, 1), (9, 13, 3), (5, 9, 7, 1), (4, 6, 9, 3)])
def images(request, rng):
    return rng.uniform(-1, 1, (6, *request.param)).astype(np.float32)
