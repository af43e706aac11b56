"""Whole files of each kind, as small as readers take them."""

import gzip
import importlib.util
import io
import pathlib
from collections.abc import Callable

import nibabel as nib
import numpy as np
import pydicom
from PIL import Image

from tests.dicom_files import save_dicom
from tests.tiff_files import tiff
from tests.video_files import save_video

SUFFIXES = {
    "folder": ".png", "npy": ".npy", "dicom": ".dcm", "nifti": ".nii.gz", "tiff": ".tif",
    "video": ".mkv",
}  # fmt: skip


def _picture(rng: np.random.Generator, dtype: type = np.uint8, channels: int = 1) -> np.ndarray:
    high, wide = rng.integers(32, 48, 2)  # JPEG 2000 has no smaller ones
    shape = (high, wide) if channels == 1 else (high, wide, channels)
    return rng.integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)


def whole_png(rng: np.random.Generator, _folder: pathlib.Path) -> bytes:
    """Grey of 8 or 16 bits, colour, or palette."""
    kind = rng.integers(4)
    deep = kind == 1
    image = Image.fromarray(_picture(rng, np.uint16 if deep else np.uint8, 3 if kind > 1 else 1))
    image = image.convert("P") if kind == 3 else image
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def whole_npy(rng: np.random.Generator, _folder: pathlib.Path) -> bytes:
    """Arrays of each type."""
    image = _picture(rng, (np.uint8, np.uint16)[rng.integers(2)])
    file = io.BytesIO()
    np.save(file, image if rng.random() < 0.7 else (image / image.max()).astype(np.float32))
    return file.getvalue()


_SYNTAXES = (
    "", pydicom.uid.RLELossless, pydicom.uid.JPEG2000Lossless,
    pydicom.uid.DeflatedExplicitVRLittleEndian,
)  # fmt: skip


def whole_dicom(rng: np.random.Generator, folder: pathlib.Path) -> bytes:
    """Grey, several frames, colour; plain, RLE, JPEG 2000 or deflated."""
    kind, syntax = rng.integers(3), _SYNTAXES[rng.integers(4)]
    pixels = _picture(rng, np.uint8 if kind == 2 else np.uint16, 3 if kind == 2 else 1)
    if kind == 1:
        pixels = np.stack([pixels, pixels[::-1]])
    header = {"NumberOfFrames": 2} if kind == 1 else {}
    if rng.random() < 0.5 and kind != 2:
        header |= {"WindowCenter": 30000, "WindowWidth": 9000, "RescaleSlope": 1.5,
                   "RescaleIntercept": -10}  # fmt: skip
    deflated = syntax == pydicom.uid.DeflatedExplicitVRLittleEndian
    rle = syntax == pydicom.uid.RLELossless
    path = save_dicom(
        folder / ".whole", pixels, kind="RGB" if kind == 2 else "MONOCHROME2",
        bits=8 if kind == 2 else 16, compress="" if deflated or rle else syntax, **header,
    )  # fmt: skip
    if rle:  # GDCM's encoder ends the process where it does not like a size
        dataset = pydicom.dcmread(path)
        dataset.compress(syntax, encoding_plugin="pydicom")
        dataset.save_as(path)
    if deflated:
        dataset = pydicom.dcmread(path)
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.save_as(path, enforce_file_format=True)
    content = path.read_bytes()
    path.unlink()
    return content


def whole_nifti(rng: np.random.Generator, _folder: pathlib.Path) -> bytes:
    """Small volumes, with and without a slope, gzipped."""
    volume = nib.Nifti1Image(
        rng.integers(-9, 999, rng.integers(4, 12, 3), dtype=np.int16), np.eye(4)
    )
    if rng.random() < 0.5:
        volume.header.set_slope_inter(0.5, 3)
    return gzip.compress(volume.to_bytes(), 1, mtime=0)


def whole_tiff(rng: np.random.Generator, _folder: pathlib.Path) -> bytes:
    """One to four pages of 8 or 16 bits, in a strip or in tiles, plain or deflated."""
    pages = [_picture(rng, (np.uint8, np.uint16)[rng.integers(2)])] * rng.integers(1, 5)
    return tiff(
        pages, tile=16 * int(rng.integers(2)), deflate=bool(rng.integers(2)),
        order="<>"[rng.integers(2)],
    )  # fmt: skip


def whole_video(rng: np.random.Generator, folder: pathlib.Path) -> bytes:
    """Five frames, grey or in colour, in three containers and codecs; the suffix does not count."""
    suffix = (".mkv", ".avi", ".mp4")[rng.integers(3)]
    codec, kind = (("ffv1", ""), ("mjpeg", "yuvj420p"), ("libx264", "yuv420p"))[rng.integers(3)]
    frames = rng.integers(0, 255, (5, 32, 48, 3), dtype=np.uint8)
    if codec == "ffv1" and rng.random() < 0.5:
        frames = frames[..., 0]
    path = save_video(folder / f".whole{suffix}", frames, codec=codec, kind=kind)
    content = path.read_bytes()
    path.unlink()
    return content


WHOLE: dict[str, Callable[[np.random.Generator, pathlib.Path], bytes]] = {
    "folder": whole_png, "npy": whole_npy, "dicom": whole_dicom, "nifti": whole_nifti,
    "tiff": whole_tiff, "video": whole_video,
}  # fmt: skip
KINDS = [kind for kind in WHOLE if kind != "video" or importlib.util.find_spec("av")]
