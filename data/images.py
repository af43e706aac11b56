"""Image files to arrays, and arrays to one size and number of channels, at their own bit depth."""

import contextlib
import pathlib
import warnings
from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from data.errors import UserError, reason

EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".gif", ".webp", ".pgm", ".ppm")
# ITU-R BT.601 luma, what Pillow and most viewers use for grey.
_LUMA = np.array([0.299, 0.587, 0.114])
_ARRAYS = ("uint8", "uint16", "float32")  # types of .npy files
_GREY_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "F")


def read_image(path: pathlib.Path) -> np.ndarray:
    """Decode an image file to [H, W, C], C = 1 (grey) or 3 (RGB).

    Eight-bit files give uint8, 16-bit grey ones uint16, float TIFFs float32. Transparency is
    dropped, palettes are expanded, EXIF rotation is applied.

    Raises:
        UserError: a truncated or damaged file, several frames, or a depth that can't be kept.
    """
    # Opened here: what Pillow opens by name it maps into memory if it is an uncompressed TIFF, and
    # then exchanges height and width of one that is turned by a quarter (13.0).
    with named_errors(path), path.open("rb") as file, Image.open(file) as image:
        frames = getattr(image, "n_frames", 1)
        if frames > 1:
            raise UserError(f"{path} holds {frames} frames; save each as a file.")
        return to_array(image, path)


@contextlib.contextmanager
def named_errors(path: pathlib.Path) -> Iterator[None]:
    """Turn what Pillow raises into a `UserError` that names the file; large images are errors."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    except FileNotFoundError:
        raise UserError(f"{path} is missing.") from None
    except UnidentifiedImageError:
        raise UserError(f"{path} is no readable image (of no known kind); mend it.") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombWarning) as error:
        raise UserError(
            f"{path} is no readable image ({reason(error)}); mend or remove it."
        ) from None
    except Image.DecompressionBombError as error:
        raise UserError(f"{path} is too large ({reason(error)}); reduce it.") from None


def read_array(path: pathlib.Path) -> np.ndarray:
    """Read an .npy file of one image [H, W] or [H, W, C] to [H, W, C] in its own type.

    Raises:
        UserError: a damaged file, another shape, or float values outside [-1, 1].
    """
    try:
        # Mapped: a header that promises more than the file holds is refused before memory is taken.
        array = np.array(np.load(path, mmap_mode="r", allow_pickle=False))
    except FileNotFoundError:
        raise UserError(f"{path} is missing.") from None
    except (OSError, ValueError, EOFError, TypeError, OverflowError) as error:
        raise UserError(
            f"{path} is no readable array ({reason(error)}); mend or remove it."
        ) from None
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or 0 in array.shape or array.dtype.name not in _ARRAYS:
        raise UserError(
            f"{path} is an array {array.shape} of {array.dtype}; save [H, W] or [H, W, C] as "
            f"{', '.join(_ARRAYS)}."
        )
    if array.dtype == np.float32 and not (np.abs(array) <= 1).all():  # NaN neither
        raise UserError(f"{path} has values that are not in [-1, 1]; scale them.")
    return array


def to_array(image: Image.Image, path: pathlib.Path) -> np.ndarray:
    """Pixels [H, W, C] of an opened image, see `read_image`; of a file of several, the current one.

    Raises:
        UserError: a depth that can't be kept.
    """
    if image.mode not in _GREY_MODES and any(";16" in str(t[3]) for t in image.tile):
        # Pillow would drop the low byte without a word.
        raise UserError(f"{path} is a 16-bit colour image; save it as 16-bit grey.")
    image = ImageOps.exif_transpose(image)
    if image.mode not in _GREY_MODES:
        return np.asarray(image.convert("RGB"))
    if image.mode in ("1", "LA", "La"):
        image = image.convert("L")
    array = np.asarray(image)
    if array.dtype not in (np.uint8, np.uint16, np.float32):
        if array.min() < 0 or array.max() > 65535:
            raise UserError(f"{path} has 32-bit values outside 0..65535; rescale it to 16 bits.")
        array = array.astype(np.uint16)
    elif array.dtype.byteorder == ">":
        array = array.astype(array.dtype.newbyteorder("="))
    return array[..., None]


def resize(image: np.ndarray, size: int | tuple[int, ...]) -> np.ndarray:
    """Resize [H, W, C] or [D, H, W, C] to [*size, C], or to one size along all axes.

    Antialiased triangle filter (Pillow's BILINEAR: the filter widens when shrinking), which never
    leaves the range of the pixels and does not ring. The dtype is kept, the aspect ratio is not.
    """
    shape = (size,) * (image.ndim - 1) if isinstance(size, int) else size
    if image.shape[:-1] == shape:
        return image
    channels = np.moveaxis(image, -1, 0).astype(np.float32)
    if len(shape) == 2:
        resized = [_resize_plane(plane, shape) for plane in channels]
    else:
        resized = [_resize_volume(volume, shape) for volume in channels]
    return _as_stored(np.stack(resized, axis=-1), image.dtype)


def nearest(mask: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Resize [H, W] or [D, H, W] to a shape; each pixel is the one that its centre falls into."""
    places = [
        ((np.arange(new) + 0.5) * old / new).astype(np.int64)
        for old, new in zip(mask.shape, shape, strict=True)
    ]
    return mask[np.ix_(*places)]


def _resize_plane(plane: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    image = Image.fromarray(np.ascontiguousarray(plane))
    return np.asarray(image.resize(shape[::-1], Image.Resampling.BILINEAR))


def _resize_volume(volume: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """The filter is separable: first the planes, then along the depth, all columns side by side."""
    depth, height, width = shape
    planes = np.stack([_resize_plane(plane, (height, width)) for plane in volume])
    columns = _resize_plane(planes.reshape(len(planes), -1), (depth, height * width))
    return columns.reshape(shape)


def set_channels(images: np.ndarray, channels: int) -> np.ndarray:
    """Turn [..., 1 or 3] into [..., channels]: RGB to grey by luma, grey to RGB by repetition."""
    if images.shape[-1] == channels:
        return images
    if channels == 3:
        return np.repeat(images, 3, axis=-1)
    return _as_stored((images @ _LUMA)[..., None], images.dtype)


def _as_stored(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Round to the nearest value of an integer dtype; filters keep the range, rounding may not."""
    if np.issubdtype(dtype, np.integer):
        values = np.clip(np.rint(values), 0, np.iinfo(dtype).max)
    return values.astype(dtype)
