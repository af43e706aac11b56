"""How alike two images look."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

_SIGMA, _RADIUS = 1.5, 5  # of the window of 11 x 11 pixels
_C1, _C2 = 0.01**2, 0.03**2  # times the square of the range


def ssim(x: np.ndarray, y: np.ndarray, span: float = 2.0) -> np.ndarray:
    """Structural similarity (Wang et al. 2004, equations 13 to 17), 1 for equal images.

    Args:
      x: [N, *S, C].
      y: of the same shape.
      span: range of the values.

    Returns:
      float64 [N], the mean over channels and all places whose window lies in the image.

    Raises:
      ValueError: images smaller than the window.
    """
    axes = tuple(range(1, x.ndim - 1))
    if min(x.shape[axis] for axis in axes) <= 2 * _RADIUS:
        raise ValueError(f"images {x.shape} are smaller than a window of {2 * _RADIUS + 1}")

    def mean(values: np.ndarray) -> np.ndarray:
        filtered = ndimage.gaussian_filter(values, _SIGMA, axes=axes, radius=_RADIUS)
        inside = slice(_RADIUS, -_RADIUS)
        return filtered[:, *(inside for _ in axes)]

    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    mean_x, mean_y = mean(x), mean(y)
    var_x, var_y = mean(x * x) - mean_x**2, mean(y * y) - mean_y**2
    covariance = mean(x * y) - mean_x * mean_y
    c1, c2 = _C1 * span**2, _C2 * span**2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * covariance + c2) / (var_x + var_y + c2)
    return (luminance * structure).reshape(len(x), -1).mean(1)
