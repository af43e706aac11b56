"""DICOM files made for tests; all of them name a patient, who must never be told."""

import pathlib
from collections.abc import Callable

import numpy as np
import pydicom


def save_dicom(
    path: pathlib.Path,
    pixels: np.ndarray,
    *,
    kind: str = "MONOCHROME2",
    bits: int = 12,
    compress: str = "",
    **header,
) -> pathlib.Path:
    """Write pixels [H, W], [N, H, W] or [H, W, 3] as a DICOM file with the given elements."""
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dataset.SOPClassUID = pydicom.uid.SecondaryCaptureImageStorage
    dataset.SOPInstanceUID = pydicom.uid.generate_uid()
    dataset.PatientName = "Secret^Name"
    dataset.PatientID = "ID-4711"
    dataset.set_pixel_data(pixels, kind, bits)
    for key, value in header.items():
        setattr(dataset, key, value)
    if compress:
        dataset.compress(compress)
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def save_series(
    folder: pathlib.Path,
    field: Callable[[np.ndarray], np.ndarray],
    *,
    count: int,
    size: tuple[int, int],
    step: float = 2.0,
    spacing: tuple[float, float] = (1.0, 1.0),
    rotation: np.ndarray | None = None,
    shear: tuple[float, float, float] = (0, 0, 0),
    prefix: str = "",
    **header,
) -> np.ndarray:
    """Write the slices of one series as files `<number>.dcm`, whose numbers go up with the place.

    Args:
        folder: of the files.
        field: values of mm [..., 3] to the left, posterior and superior.
        count: slices.
        size: rows and columns.
        step: mm between slices.
        spacing: mm between rows and between columns.
        rotation: [3, 3], of everything.
        shear: mm by which each slice is shifted against the one before.
        prefix: of the files' names.
        header: further elements; `kind` as for `save_dicom`.

    Returns:
        Mm to the right, anterior and superior of all voxels, [count, rows, columns, 3].
    """
    rotation = np.eye(3) if rotation is None else rotation
    across, down, normal = rotation.T
    places = []
    header = {"SeriesInstanceUID": pydicom.uid.generate_uid(), **header}
    for number in range(count):
        position = number * (step * normal + np.array(shear)) + np.array([-3.0, 5.0, 0.0])
        rows, columns = np.indices(size)[..., None]
        mm = position + rows * spacing[0] * down + columns * spacing[1] * across
        places.append(mm * (-1, -1, 1))
        save_dicom(
            folder / f"{prefix}{number}.dcm", field(mm).astype(np.uint16), bits=16,
            ImagePositionPatient=[round(x, 9) for x in position],
            ImageOrientationPatient=[round(x, 12) for x in (*across, *down)],
            PixelSpacing=list(spacing), **header,
        )  # fmt: skip
    return np.stack(places)
