"""DICOM files made for tests; all of them name a patient, who must never be told."""

import pathlib

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
