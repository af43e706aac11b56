"""DICOM files whose elements do not fit their pixels, and DICOM bombs."""

import io
import struct
import zlib

import numpy as np
import pydicom

from tests.data.fuzzing.bytewise import flipped

_ELEMENTS = (
    ("Rows", "H"), ("Columns", "H"), ("BitsAllocated", "H"), ("BitsStored", "H"), ("HighBit", "H"),
    ("SamplesPerPixel", "H"), ("PixelRepresentation", "H"), ("PlanarConfiguration", "H"),
)  # fmt: skip
_TEXTS = (
    ("NumberOfFrames", ("0", "-1", "65535", "2147483647", "x")),
    ("WindowWidth", ("0", "-5", "1e308", "nan", "x", "1\\2")),
    ("WindowCenter", ("nan", "inf", "-1e308", "")),
    ("RescaleSlope", ("0", "nan", "1e308", "-inf", "a")),
    ("PhotometricInterpretation", ("MONOCHROME9", "RGB", "PALETTE COLOR", "YBR_FULL_422", "")),
    ("TransferSyntaxUID", ("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.5", "1.2", "")),
)


def absurd_dicom(rng: np.random.Generator, content: bytes) -> bytes:
    """One or two elements that do not fit the pixels, written as any program could."""
    try:
        dataset = pydicom.dcmread(io.BytesIO(content))
    except Exception:  # not reached with whole files
        return content
    for _ in range(rng.integers(1, 3)):
        if rng.random() < 0.6:
            keyword, _ = _ELEMENTS[rng.integers(len(_ELEMENTS))]
            setattr(dataset, keyword, int(rng.choice([0, 1, 3, 7, 12, 16, 33, 64, 9999, 65535])))
        else:
            keyword, values = _TEXTS[rng.integers(len(_TEXTS))]
            target = dataset.file_meta if keyword == "TransferSyntaxUID" else dataset
            value = values[rng.integers(len(values))].encode()
            tag = pydicom.datadict.tag_for_keyword(keyword)
            raw = pydicom.dataelem.RawDataElement(
                pydicom.tag.Tag(tag), pydicom.datadict.dictionary_VR(tag),
                len(value) + len(value) % 2, value + b" " * (len(value) % 2), 0, False, True,
            )  # fmt: skip
            target._dict[raw.tag] = raw  # as it is, without pydicom's checks
    file = io.BytesIO()
    try:
        pydicom.dcmwrite(file, dataset, enforce_file_format=False)
    except Exception:  # what pydicom can't even write
        return flipped(rng, content)
    return file.getvalue()


def bomb_dicom(rng: np.random.Generator, content: bytes) -> bytes:
    """A deflated file that grows without end, or compressed frames of an absurd size."""
    if rng.random() < 0.4:
        return deflated_dicom(megabytes=3000)
    return vast_dicom(bool(rng.random() < 0.5), content)


def _small_dicom() -> pydicom.Dataset:
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.SOPClassUID = pydicom.uid.SecondaryCaptureImageStorage
    dataset.SOPInstanceUID = "2.25.1"
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows = dataset.Columns = 8
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    return dataset


def deflated_dicom(megabytes: int) -> bytes:
    """A file of the deflated syntax whose stream becomes so many zeros."""
    dataset = _small_dicom()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    file = io.BytesIO()
    pydicom.dcmwrite(file, dataset, enforce_file_format=True)
    head = file.getvalue().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99")
    # The element's own length, and that of the group.
    head = head.replace(b"UI\x14\x001.2.840.10008.1.2.1.99", b"UI\x16\x001.2.840.10008.1.2.1.99")
    length = struct.unpack("<I", head[140:144])[0] + 2
    start = 144 + length
    packer = zlib.compressobj(9, wbits=-15)
    body = b"".join(packer.compress(bytes(1 << 20)) for _ in range(megabytes)) + packer.flush()
    return head[:140] + struct.pack("<I", length) + head[144:start] + body


def vast_dicom(rle: bool, content: bytes) -> bytes:
    """Four gigabytes of pixels promised by the header, and by the JPEG 2000 stream as well."""
    dataset = _small_dicom()
    dataset.Rows = dataset.Columns = 65535
    syntax = pydicom.uid.RLELossless if rle else pydicom.uid.JPEG2000Lossless
    dataset.file_meta.TransferSyntaxUID = syntax
    frame = struct.pack("<16I", 1, 64, *[0] * 14) + b"\x81\x00" * 500
    if not rle:
        size = struct.pack(">HIIIIIIII", 0, 65535, 65535, 0, 0, 65535, 65535, 0, 0)
        size += struct.pack(">HBBB", 1, 7, 1, 1)
        frame = b"\xff\x4f\xff\x51" + struct.pack(">H", len(size) + 2) + size + content[-300:]
    dataset.PixelData = pydicom.encaps.encapsulate([frame + bytes(len(frame) % 2)])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    file = io.BytesIO()
    pydicom.dcmwrite(file, dataset, enforce_file_format=True)
    return file.getvalue()
