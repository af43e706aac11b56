"""Maps in colour: equal steps of a value look like equal steps.

The colours go from black over violet, red and orange to pale yellow, with the lightness of the
OKLab space (Ottosson 2020, bottosson.github.io/posts/oklab) rising in proportion to the value: they
read in grey too, and with any colour vision.
"""

import numpy as np

STEPS = 256
# Hue from and to in degrees, the largest chroma, and the lightest colour.
_HUES, _CHROMA, _LIGHTEST = (280.0, 460.0), 0.16, 0.97
_TO_CONES = np.array(
    [
        [1.0, 0.3963377774, 0.2158037573],
        [1.0, -0.1055613458, -0.0638541728],
        [1.0, -0.0894841775, -1.2914855480],
    ]
)
_TO_RGB = np.array(
    [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
)


def scale() -> np.ndarray:
    """The colours from nothing to all, uint8 [256, 3], sRGB."""
    share = np.linspace(0, 1, STEPS)
    hue = np.deg2rad(np.interp(share, [0, 1], _HUES))
    chroma = _CHROMA * np.sin(np.pi * share)
    lab = np.stack([_LIGHTEST * share, chroma * np.cos(hue), chroma * np.sin(hue)], 1)
    linear = np.clip((lab @ _TO_CONES.T) ** 3 @ _TO_RGB.T, 0, 1)
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.rint(255 * srgb).astype(np.uint8)


def painted(values: np.ndarray, most: float) -> np.ndarray:
    """A map [H, W] as uint8 [H, W, 3]: 0 is black, `most` and above the lightest colour."""
    share = np.clip(values / most if most > 0 else np.zeros_like(values), 0, 1)
    return scale()[np.rint(share * (STEPS - 1)).astype(int)]
