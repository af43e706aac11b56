"""How solids are pictured: as a radiograph (2-D, by their thickness) or as a volume (3-D).

A solid is given by a map q of the image plane, 1 at its outline and less inside, by half its depth
where q = 0, and by the depth of its middle. That is an ellipsoid where q is quadratic. What lies
outside an outline is exactly 0 in both pictures.
"""

import copy

import numpy as np

from data.builders.phantom.anatomy import Anatomy

_EDGE = 6  # how steep the borders of solids are in volumes


class View:
    """The coordinates of every pixel or voxel in the patients, posed as they are.

    Attributes:
        x: float32 [B, H, W], or [B, 1, H, W] for volumes; positive on the patient's left.
        y: float32 of the same shape, positive towards the feet.
        z: float32 [D, 1, 1], positive towards the back; None for radiographs.
        plain: x and y of the image itself, [H, W].
    """

    def __init__(self, anatomy: Anatomy, shape: tuple[int, ...]):
        """Args: the phantoms [B], and (H, W) or (D, H, W)."""
        *depth, height, width = shape
        y = _centres(height)[:, None]
        x = _centres(width)[None, :]
        self.plain = np.broadcast_arrays(x, y)
        self.z = _centres(depth[0])[:, None, None] if depth else None
        self._axes = (np.newaxis,) * (len(shape))
        x, y = x - self.of(anatomy.shift_x), y - self.of(anatomy.shift_y)
        cos, sin = np.cos(anatomy.turn), np.sin(anatomy.turn)
        scale = anatomy.scale
        self.x = (self.of(cos / scale) * x + self.of(sin / scale) * y) * self.of(anatomy.mirror)
        self.y = self.of(cos / scale) * y - self.of(sin / scale) * x

    def of(self, values: np.ndarray) -> np.ndarray:
        """Values [B] of the phantoms, so that they broadcast over pixels or voxels."""
        return np.asarray(values, np.float32)[(slice(None), *self._axes)]

    def take(self, rows: np.ndarray) -> "View":
        """The views of the phantoms at `rows`, integers or a mask."""
        part = copy.copy(self)
        part.x, part.y = self.x[rows], self.y[rows]
        return part

    def fill(self, q: np.ndarray, depth: np.ndarray | float, middle: float = 0.0) -> np.ndarray:
        """Half the thickness of a solid along the view, or 1 inside it and 0 outside."""
        inside = np.maximum(1 - q, 0)
        if self.z is None:
            return depth * np.sqrt(inside)
        return np.clip((inside - ((self.z - middle) / depth) ** 2) * _EDGE, 0, 1)

    def ellipsoid(
        self, centre: tuple, axes: tuple, angle: np.ndarray | float = 0.0, middle: float = 0.0
    ) -> np.ndarray:
        """An ellipsoid: its centre (x, y), half axes (x, y, z), turned in the plane by an angle."""
        dx, dy = self.x - centre[0], self.y - centre[1]
        cos, sin = np.cos(angle), np.sin(angle)
        q = ((cos * dx + sin * dy) / axes[0]) ** 2 + ((cos * dy - sin * dx) / axes[1]) ** 2
        return self.fill(q, axes[2], middle)


def _centres(count: int) -> np.ndarray:
    """Middles of `count` pixels between -1 and 1, float32."""
    return ((2 * np.arange(count) + 1) / count - 1).astype(np.float32)
