"""DICOM Secondary Capture images that say what they are (PS3.3 A.8.1).

Synthetic ones bear Synthetic Data = YES and the conversion type SYN; of real ones nothing is
written that names a patient: what stands for one is a digest.
"""

import pathlib
import uuid

import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

from data.errors import UserError
from data.export.about import About, check_shape, quantised

SUFFIX = ".dcm"
_NUMBER = 16  # characters of a decimal string


def check(shape: tuple[int, ...], bits: int) -> None:
    """Raise a UserError for what Secondary Capture can't hold."""
    check_shape(shape, (1, 3), "dicom", "npy")
    if shape[-1] == 3 and bits == 16:
        raise UserError("--format=dicom can't hold colours of 16 bits; add --bits=8 or use npy.")


def write(path: pathlib.Path, image: np.ndarray, about: About, bits: int) -> None:
    """Write stored pixels [H, W, 1 or 3]; the same image always gives the same bytes."""
    pixels = quantised(image, bits)
    dataset = _frame(about)
    if pixels.shape[2] == 3:
        dataset.set_pixel_data(pixels, "RGB", bits)
    else:
        inverted = about.has_units() and about.low > about.high
        if inverted:
            pixels = np.iinfo(pixels.dtype).max - pixels
        kind = "MONOCHROME1" if inverted else "MONOCHROME2"
        dataset.set_pixel_data(pixels[..., 0], kind, bits)
        _values(dataset, about, bits)
    if about.has_spacing():
        dataset.PixelSpacing = [_decimal(x) for x in about.spacing[1:]]
    # Here, for setting pixels gives a random one.
    dataset.SOPInstanceUID = _uid("instance", about.group, about.name)
    dataset.save_as(path, enforce_file_format=True)


def _frame(about: About) -> Dataset:
    """Everything but the pixels."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    # With characters outside ASCII, such as in names of classes.
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.ImageType = ["DERIVED", "SECONDARY"]
    dataset.SOPClassUID = SecondaryCaptureImageStorage
    dataset.StudyInstanceUID = _uid("study", about.group, about.owner)
    dataset.SeriesInstanceUID = _uid("series", about.group, about.owner, about.class_name)
    dataset.Modality = "OT"
    dataset.ConversionType = "SYN" if about.synthetic else "WSD"
    dataset.SyntheticData = "YES" if about.synthetic else "NO"
    # Required, and empty where there is nothing to say.
    for keyword in (
        "StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName", "StudyID",
        "SeriesNumber", "InstanceNumber", "PatientBirthDate", "PatientSex", "PatientOrientation",
        "Manufacturer",
    ):  # fmt: skip
        setattr(dataset, keyword, None)
    dataset.SeriesDescription = about.class_name[:64]
    if about.synthetic:
        dataset.PatientName = dataset.PatientID = "SYNTHETIC"
        dataset.BurnedInAnnotation = "NO"
    else:
        dataset.PatientName = None
        dataset.PatientID = about.owner
        dataset.PatientIdentityRemoved = "YES"
        dataset.DeidentificationMethod = "Pixels and a digest instead of the patient's identifier"
    lines = [about.description(), *(f"{key}: {value}" for key, value in about.facts.items())]
    dataset.DerivationDescription = "\n".join(lines)[:1024]
    dataset.ContributingEquipmentSequence = [_equipment(about)]
    dataset.LossyImageCompression = "00"
    return dataset


def _equipment(about: About) -> Dataset:
    purpose = Dataset()
    purpose.CodeValue, purpose.CodingSchemeDesignator = "109102", "DCM"
    purpose.CodeMeaning = "Processing Equipment"
    item = Dataset()
    item.PurposeOfReferenceCodeSequence = [purpose]
    item.Manufacturer = about.software.partition(" ")[0]
    item.SoftwareVersions = about.software
    item.ContributionDescription = about.description()
    return item


def _values(dataset: Dataset, about: About, bits: int) -> None:
    """Modality LUT and window, so that readers see all stored values and know their units."""
    top = 2.0**bits - 1
    low, high = 0.0, top
    if about.has_units():
        low, high = sorted((about.low, about.high))
        slope, intercept = (_decimal(x) for x in ((high - low) / top, low))
        dataset.RescaleSlope, dataset.RescaleIntercept = slope, intercept
        dataset.RescaleType = "US"  # unspecified: the units of the source
        low, high = float(intercept), float(intercept) + top * float(slope)
    elif bits == 8:
        return
    dataset.WindowCenter = _decimal((low + high) / 2)
    dataset.WindowWidth = _decimal(high - low)
    dataset.VOILUTFunction = "LINEAR_EXACT"


def _decimal(value: float) -> str:
    """As many digits as a decimal string has room for."""
    for digits in range(15, 0, -1):
        text = f"{value:.{digits}g}"
        if len(text) <= _NUMBER:
            return text
    raise ValueError(f"{value} has no decimal string of 16 characters")


def _uid(*parts: str) -> str:
    """A UID that is the same for the same parts (PS3.5 B.2, from a name-based UUID)."""
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, '/'.join(('vrn', *parts))).int}"
