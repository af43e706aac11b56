"""Thousands of damaged, absurd and hostile files, each of which must be read or refused by name.

    python -m tests.data.fuzzing --files=5000

Whole files are made, some of them damaged in a seeded way, and put beside whole ones; a process of
its own, with a limit of memory and of time, goes through the folder as `launch.check_data` does.
A file that is read must give images of a storage type without NaN; one that is not must be named
with a reason; whole files must come back bit for bit whatever lies beside them. A process that
crashes or hangs is a fault of the project, as is one that runs out of memory.
"""

import dataclasses
import gzip
import importlib.util
import io
import json
import os
import pathlib
import resource
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
from absl import flags
from PIL import Image

from data.errors import UserError
from data.sources.raw import Options
from data.sources.walk import Unreadable, walk
from tests.dicom_files import save_dicom
from tests.tiff_files import tiff
from tests.video_files import save_video

FLAGS = flags.FlagValues()
FILES = flags.DEFINE_integer("files", 5000, "How many damaged files.", 1, flag_values=FLAGS)
SEED = flags.DEFINE_integer("seed", 0, "Of all damage.", flag_values=FLAGS)
BATCH = flags.DEFINE_string("batch", "", "Used by the program itself.", flag_values=FLAGS)

MEMORY = 4 << 30  # bytes of address space a process may take
SECONDS = 10  # per file, and as many for the start
_PER_BATCH = 125
_GOOD = 3  # whole files beside the damaged ones
SUFFIXES = {
    "folder": ".png", "npy": ".npy", "dicom": ".dcm", "nifti": ".nii.gz", "tiff": ".tif",
    "video": ".mkv",
}  # fmt: skip


@dataclasses.dataclass
class Outcome:
    """What became of all files."""

    read: int = 0
    refused: int = 0
    whole: int = 0
    faults: list[str] = dataclasses.field(default_factory=list)
    peak: int = 0
    slowest: tuple[float, str] = (0.0, "")
    reasons: Counter[str] = dataclasses.field(default_factory=Counter)


# --- whole files ---------------------------------------------------------------------------------


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
# Videos need the extra of that name.
KINDS = [kind for kind in WHOLE if kind != "video" or importlib.util.find_spec("av")]


# --- damage --------------------------------------------------------------------------------------


def truncated(rng: np.random.Generator, content: bytes) -> bytes:
    """Cut off anywhere."""
    return content[: rng.integers(0, len(content))]


def flipped(rng: np.random.Generator, content: bytes) -> bytes:
    """One to eight bits turned over, half of them near the start, where headers are."""
    damaged = bytearray(content)
    for _ in range(rng.integers(1, 9)):
        end = len(damaged) if rng.random() < 0.5 else min(400, len(damaged))
        damaged[rng.integers(end)] ^= 1 << rng.integers(8)
    return bytes(damaged)


def overwritten(rng: np.random.Generator, content: bytes) -> bytes:
    """A run of bytes that is all zeros, all ones, or noise."""
    start, length = rng.integers(len(content)), rng.integers(1, 64)
    run = (bytes(length), b"\xff" * int(length), rng.bytes(length))[rng.integers(3)]
    return content[:start] + run + content[start + length :]


def spliced(rng: np.random.Generator, content: bytes) -> bytes:
    """A piece moved elsewhere, left out, or doubled."""
    a, b, c = sorted(rng.integers(0, len(content) + 1, 3).tolist())
    pieces = ([content[:a], content[b:c], content[a:b], content[c:]], [content[:a], content[b:]],
              [content[:b], content[a:]])  # fmt: skip
    return b"".join(pieces[rng.integers(3)])


def noise(rng: np.random.Generator, content: bytes) -> bytes:
    """The first bytes of the right kind and nothing but noise after."""
    kept = (4, 16, 132, 348)[rng.integers(4)]
    return content[:kept] + rng.bytes(int(rng.integers(0, 2000)))


_NUMBERS = (0, 1, 2, 255, 32767, 65535, 2**31 - 1, 2**31, 2**32 - 1)


def absurd_png(rng: np.random.Generator, content: bytes) -> bytes:
    """Another size, depth, colour type or interlacing, with a right checksum."""
    head = bytearray(content[16:29])
    if rng.random() < 0.6:
        place = 4 * rng.integers(2)
        head[place : place + 4] = struct.pack(">I", _NUMBERS[rng.integers(len(_NUMBERS))])
    else:
        head[8 + rng.integers(5)] = rng.integers(256)
    return content[:16] + bytes(head) + struct.pack(">I", zlib.crc32(b"IHDR" + head)) + content[33:]


def bomb_png(rng: np.random.Generator, content: bytes) -> bytes:
    """An image of 9,000 to 60,000 pixels a side in few bytes, or a text that is one."""
    del content
    if rng.random() < 0.5:
        side = int(rng.choice([9000, 20000, 60000]))
        packer = zlib.compressobj(9)
        rows = min(side, 9000)
        data = b"".join(packer.compress(bytes(side // 8 + 1)) for _ in range(rows)) + packer.flush()
        head = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
        chunks = [(b"IHDR", head), (b"IDAT", data), (b"IEND", b"")]
    else:
        text = b"Comment\0\0" + zlib.compress(bytes(80 << 20), 9)
        small = zlib.compress(bytes(72))
        head = struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0)
        chunks = [(b"IHDR", head), (b"zTXt", text), (b"IDAT", small), (b"IEND", b"")]
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + body


def absurd_npy(rng: np.random.Generator, content: bytes) -> bytes:
    """A header that promises another shape or type."""
    shape = tuple(int(rng.choice(_NUMBERS)) for _ in range(rng.integers(0, 5)))
    kind = str(rng.choice(["|u1", "<u2", ">u2", "<f4", "<f8", "<i8", "|O", "|b1", "<U9", "<c8"]))
    file = io.BytesIO()
    header = {"descr": kind, "fortran_order": bool(rng.integers(2)), "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue() + content[128:]


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


def absurd_nifti(rng: np.random.Generator, content: bytes) -> bytes:
    """Another number in the header of a volume."""
    plain = bytearray(gzip.decompress(content))
    place, kind = (
        (40, "<h"), (42, "<h"), (44, "<h"), (46, "<h"), (48, "<h"), (70, "<h"), (72, "<h"),
        (108, "<f"), (112, "<f"), (116, "<f"), (252, "<h"), (254, "<h"), (280, "<f"), (348, "<i"),
    )[rng.integers(14)]  # fmt: skip
    values = (-1, 0, 1, 2, 7, 64, 128, 511, 32767) if kind == "<h" else (
        0, -1, 1e38, np.nan, np.inf, 352, 1e9)  # fmt: skip
    if kind == "<i":
        values = (1, 2**24, -1)
    plain[place : place + struct.calcsize(kind)] = struct.pack(
        kind, values[rng.integers(len(values))]
    )
    return gzip.compress(bytes(plain), 1, mtime=0)


def bomb_nifti(rng: np.random.Generator, content: bytes) -> bytes:
    """A gigabyte, or an exabyte, promised in a few kilobytes."""
    plain = bytearray(gzip.decompress(content)[:352])
    dims = ((2000, 2000, 300), (32767, 32767, 32767), (32767, 32767, 4))[rng.integers(3)]
    plain[40:56] = struct.pack("<8h", 3, *dims, 1, 1, 1, 1)
    packer = zlib.compressobj(9, wbits=31)
    body = packer.compress(bytes(plain))
    body += b"".join(packer.compress(bytes(1 << 20)) for _ in range(1200))
    return body + packer.flush()


def absurd_tiff(rng: np.random.Generator, content: bytes) -> bytes:
    """An entry of the first directory with another type, count or value, or another next one."""
    order = "<" if content[:2] == b"II" else ">"
    (start,) = struct.unpack(order + "I", content[4:8])
    (count,) = struct.unpack(order + "H", content[start : start + 2])
    number = _NUMBERS[rng.integers(len(_NUMBERS))]
    place = start + 2 + 12 * int(rng.integers(count + 1))
    if place == start + 2 + 12 * count:  # where the next directory begins
        new = struct.pack(order + "I", number)
    elif rng.random() < 0.5:
        place, new = place + 2, struct.pack(order + "HI", rng.integers(16), number)
    else:
        place, new = place + 8, struct.pack(order + "I", number)
    return content[:place] + new + content[place + len(new) :]


def bomb_tiff(rng: np.random.Generator, content: bytes) -> bytes:
    """Pages that are 360 MB together, or one of 3.6 GB, in a few hundred kilobytes."""
    del content
    if rng.random() < 0.5:
        return tiff([np.zeros((6000, 6000), np.uint8)] * 10, deflate=True)
    return tiff([np.zeros((6000, 6000), np.uint8)], deflate=True, tags=[{256: 60000, 257: 60000}])


def absurd_video(rng: np.random.Generator, content: bytes) -> bytes:
    """Four bytes of the header, or of the table at the end, that are another number."""
    place = int(rng.integers(min(600, len(content) - 4)))
    place = place if rng.random() < 0.7 else len(content) - 4 - place
    new = struct.pack((">I", "<I")[rng.integers(2)], _NUMBERS[rng.integers(len(_NUMBERS))])
    return content[:place] + new + content[place + 4 :]


def bomb_video(rng: np.random.Generator, content: bytes) -> bytes:
    """A black frame of 100 megapixels."""
    del rng, content
    with tempfile.TemporaryDirectory() as folder:
        frames = np.zeros((1, 10000, 10000), np.uint8)
        return save_video(pathlib.Path(folder) / "a.mkv", frames).read_bytes()


ANY = (truncated, flipped, overwritten, spliced, noise)
OWN = {
    "folder": (absurd_png, bomb_png), "npy": (absurd_npy, absurd_npy),
    "dicom": (absurd_dicom, bomb_dicom), "nifti": (absurd_nifti, bomb_nifti),
    "tiff": (absurd_tiff, bomb_tiff), "video": (absurd_video, bomb_video),
}  # fmt: skip
_BOMBS = 0.01  # share of bombs: they take seconds to make
_ABSURD = 0.25


def damage(kind: str, seed: int, folder: pathlib.Path) -> tuple[str, bytes]:
    """The damaged file of a number: what was done to it, and its content."""
    rng = np.random.default_rng((7, list(WHOLE).index(kind), seed))
    content = WHOLE[kind](rng, folder)
    draw = rng.random()
    absurd, bomb = OWN[kind]
    if draw < _BOMBS:
        change = bomb
    elif draw < _BOMBS + _ABSURD:
        change = absurd
    else:
        change = ANY[rng.integers(len(ANY))]
    return change.__name__, change(rng, content)


# --- reading -------------------------------------------------------------------------------------


def look(root: pathlib.Path, kind: str) -> dict[str, Any]:
    """Goes through a folder in this process; what became of every file, and what that took."""
    started, images, refused, before = time.monotonic(), {}, {}, [time.monotonic()]
    slowest = [0.0, ""]

    def facts(pixels: np.ndarray) -> str | list[Any]:
        if pixels.dtype.name not in ("uint8", "uint16", "float32"):
            return f"type {pixels.dtype}"
        if pixels.ndim != 3 or 0 in pixels.shape or not np.isfinite(pixels).all():
            return f"shape {pixels.shape}, or values that are not finite"
        return [*pixels.shape, zlib.crc32(np.ascontiguousarray(pixels))]

    spec = f"{'folder' if kind in ('npy', 'tiff') else kind}:{root}"
    options = Options(max_unreadable=0.999, axis="axial")
    for item in walk(spec, facts, data_dir="", options=options).items:
        now = time.monotonic()
        name = item.name if isinstance(item, Unreadable) else item.id
        slowest = max(slowest, [now - before[0], name])
        before[0] = now
        if isinstance(item, Unreadable):
            refused[item.name.partition("#")[0]] = item.why
        else:
            images.setdefault(item.id.partition("#")[0], []).append(item.seen)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"images": images, "refused": refused, "peak": peak, "slowest": slowest,
            "seconds": time.monotonic() - started}  # fmt: skip


def look_apart(root: pathlib.Path, kind: str, files: int) -> dict[str, Any] | str:
    """`look` in a process with limits; a text where it did not come to its end."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))

    command = [sys.executable, "-m", "tests.data.fuzzing", f"--batch={kind}:{root}"]
    environment = os.environ | {"TQDM_DISABLE": "1", "OPENBLAS_NUM_THREADS": "1"}
    seconds = SECONDS * min(files, 12)
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=seconds, preexec_fn=limit,
            env=environment, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"took more than {seconds} s"
    if done.returncode:
        return f"ended with {done.returncode}: {done.stderr.strip()[-400:]}"
    return json.loads(done.stdout.splitlines()[-1])


def run_batch(kind: str, seeds: range, outcome: Outcome, apart: bool = True) -> None:
    """Makes a folder of damaged and whole files, and judges what was made of them."""
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder) / "set"
        (root / "class").mkdir(parents=True)
        told, whole = {}, {}
        for seed in seeds:
            told[f"class/{seed}{SUFFIXES[kind]}"], content = damage(kind, seed, root)
            (root / "class" / f"{seed}{SUFFIXES[kind]}").write_bytes(content)
        for i in range(_GOOD):
            rng = np.random.default_rng((8, i, seeds.start))
            whole[f"class/whole{i}{SUFFIXES[kind]}"] = content = WHOLE[kind](rng, root)
            (root / "class" / f"whole{i}{SUFFIXES[kind]}").write_bytes(content)
        found = look_apart(root, kind, len(told)) if apart else look(root, kind)
        if isinstance(found, str):
            found = _one_by_one(root, kind, [*told, *whole], told, outcome, found)
        _judge(root, kind, found, told, list(whole), outcome)


def _one_by_one(
    root: pathlib.Path,
    kind: str,
    names: list[str],
    told: dict[str, str],
    outcome: Outcome,
    why: str,
) -> dict[str, Any]:
    """Every file alone, to find the one that brought the process down."""
    joined: dict[str, Any] = {"images": {}, "refused": {}, "peak": 0, "slowest": [0.0, ""]}
    blamed = False
    for name in names:
        alone = root.parent / "alone"
        (alone / "class").mkdir(parents=True, exist_ok=True)
        target = alone / name
        target.hardlink_to(root / name)
        found = look_apart(alone, kind, 1)
        target.unlink()
        if isinstance(found, str):
            blamed = True
            seed = name.partition("/")[2]
            outcome.faults.append(f"{kind} {seed} ({told.get(name, 'whole')}): {found}")
            joined["refused"][name] = "fault"
        else:
            joined["images"] |= found["images"]
            joined["refused"] |= found["refused"]
            joined["peak"] = max(joined["peak"], found["peak"])
    if not blamed:
        outcome.faults.append(f"{kind} batch of {names[0]}: {why}")
    return joined


def _judge(
    root: pathlib.Path, kind: str, found: dict[str, Any], told: dict[str, str],
    whole: list[str], outcome: Outcome,
) -> None:  # fmt: skip
    for name, change in told.items():
        images, why = found["images"].get(name), found["refused"].get(name)
        wrong = [one for one in images or () if isinstance(one, str)]
        if images is None and why is None:
            outcome.faults.append(f"{kind} {name} ({change}): neither read nor named")
        elif wrong:
            outcome.faults.append(f"{kind} {name} ({change}): read as {wrong[0]}")
        elif why is not None:
            outcome.refused += 1
            outcome.reasons[" ".join(why.split()[:6])] += 1
            if not why or "\n" in why or str(root) in why:
                outcome.faults.append(f"{kind} {name} ({change}): reason {why!r}")
        else:
            outcome.read += 1
    for name in whole:
        with tempfile.TemporaryDirectory() as folder:
            alone = pathlib.Path(folder)
            (alone / "class").mkdir()
            (alone / name).write_bytes((root / name).read_bytes())
            if found["images"].get(name) != look(alone, kind)["images"].get(name, "none"):
                outcome.faults.append(f"{kind} {name}: a whole file was not read as it is")
            else:
                outcome.whole += 1
    outcome.peak = max(outcome.peak, found["peak"])
    outcome.slowest = max(outcome.slowest, tuple(found["slowest"]))


# --- npz files and tables, each a source of its own ----------------------------------------------


def damaged_npz(seed: int) -> tuple[str, bytes]:
    """The damaged npz file of a number."""
    rng = np.random.default_rng((9, seed))
    images = rng.integers(0, 255, (6, 9, 9), dtype=np.uint8)
    arrays = {"images": images, "labels": np.arange(6) % 2, "class_names": np.array(["a", "b"])}
    draw, file = rng.random(), io.BytesIO()
    if draw < 0.3:
        key = ("images", "labels", "class_names")[rng.integers(3)]
        strange = (
            np.array([None, 1], object), np.zeros(0), np.zeros((6, 9)), np.full((6, 9, 9), np.nan),
            np.array(["x"] * 6), np.zeros((2,) * 9), np.array(7), np.arange(6) - 9,
            np.full(6, 2**62), np.zeros((6, 9, 9, 7), np.uint8), np.zeros((6, 0, 9), np.uint8),
        )  # fmt: skip
        arrays[key] = strange[rng.integers(len(strange))]
        np.savez(file, allow_pickle=True, **arrays)
        return "strange", file.getvalue()
    if draw < 0.4:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, array in arrays.items():
                member = io.BytesIO()
                np.save(member, array)
                content = member.getvalue()
                if name == "images":
                    shape = tuple(int(rng.choice(_NUMBERS)) for _ in range(3))
                    member = io.BytesIO()
                    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
                    np.lib.format.write_array_header_1_0(member, header)
                    content = member.getvalue() + content[128:]
                archive.writestr(("../" if rng.random() < 0.2 else "") + f"{name}.npy", content)
        return "absurd", file.getvalue()
    if draw < 0.405:
        arrays["images"] = np.zeros((3000, 1000, 1000), np.uint8)
        np.savez_compressed(file, **arrays)
        return "bomb", file.getvalue()
    (np.savez if rng.random() < 0.5 else np.savez_compressed)(file, **arrays)
    change = ANY[rng.integers(len(ANY))]
    return change.__name__, change(rng, file.getvalue())


def damaged_table(seed: int) -> tuple[str, bytes]:
    """The damaged table of a number: paths that lead elsewhere, strange labels, damaged bytes."""
    rng = np.random.default_rng((10, seed))
    rows = [["file", "label", "patient", "split"]]
    rows += [[f"class/{i}.png", "ab"[i % 2], f"p{i}", ""] for i in range(6)]
    strange = (
        "../set/class/0.png", "/etc/passwd", "class/../class/1.png", "\0", "x" * 5000, "", ".",
        "class", "~", "class/\udcff.png", "-1", "nan", "=1+1", "train", "\u202e", "class\\2.png",
    )  # fmt: skip
    for _ in range(rng.integers(1, 4)):
        row, column = rng.integers(len(rows)), rng.integers(4)
        rows[row][column] = strange[rng.integers(len(strange))]
    text = "\n".join(",".join(row) for row in rows).encode("utf-8", "surrogateescape")
    if rng.random() < 0.4:
        change = ANY[rng.integers(len(ANY))]
        return change.__name__, change(rng, text)
    return "strange", text


def look_at_each(folder: pathlib.Path) -> dict[str, Any]:
    """All .npz and .csv files of a folder, each as a source; why it was refused, or ''."""
    result: dict[str, Any] = {"reasons": {}, "slowest": [0.0, ""]}
    for path in sorted(folder.iterdir()):
        if path.suffix not in (".npz", ".csv"):
            continue
        began = time.monotonic()
        table = str(path) if path.suffix == ".csv" else ""
        spec = f"folder:{folder / 'set'}" if table else f"npz:{path}"
        try:
            options = Options(labels=table, max_unreadable=0.999)
            for _ in walk(spec, lambda pixels: pixels.shape, data_dir="", options=options).items:
                pass
            result["reasons"][path.name] = ""
        except UserError as error:
            result["reasons"][path.name] = str(error)
        except Exception as error:  # what we are after
            result["reasons"][path.name] = f"FAULT {type(error).__name__}: {error}"
        result["slowest"] = max(result["slowest"], [time.monotonic() - began, path.name])
    result["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return result


def run_sources(seeds: range, outcome: Outcome, apart: bool = True) -> None:
    """Damaged npz files and tables."""
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        (root / "set" / "class").mkdir(parents=True)
        for i in range(6):
            Image.new("L", (9, 9), i).save(root / "set" / "class" / f"{i}.png")
        told = {}
        for seed in seeds:
            suffix, make = ((".npz", damaged_npz), (".csv", damaged_table))[seed % 2]
            told[f"{seed}{suffix}"], content = make(seed)
            (root / f"{seed}{suffix}").write_bytes(content)
        found = look_apart(root, "each", len(told)) if apart else look_at_each(root)
        if isinstance(found, str):
            outcome.faults.append(f"sources {seeds}: {found}")
            return
        for name, change in told.items():
            why = found["reasons"].get(name)
            if why is None or why.startswith("FAULT") or "\n" in why:
                outcome.faults.append(f"{name} ({change}): {why}")
            elif why:
                outcome.refused += 1
                if name not in why and "labels" not in why and "set" not in why:
                    outcome.faults.append(f"{name} ({change}): not named in {why!r}")
            else:
                outcome.read += 1
        outcome.peak = max(outcome.peak, found["peak"])
        outcome.slowest = max(outcome.slowest, tuple(found["slowest"]))


def fuzz(files: int, seed: int, apart: bool = True, say: Callable[[str], Any] = print) -> Outcome:
    """Damages so many files, the same share of each kind, and returns what became of them."""
    outcome = Outcome()
    kinds = [*KINDS, "sources"]
    each = -(-files // len(kinds))
    for kind in kinds:
        began, faults = time.monotonic(), len(outcome.faults)
        for start in range(0, each, _PER_BATCH):
            seeds = range(seed + start, seed + min(start + _PER_BATCH, each))
            if kind == "sources":
                run_sources(seeds, outcome, apart)
            else:
                run_batch(kind, seeds, outcome, apart)
        say(
            f"{kind}: {each} files, {len(outcome.faults) - faults} faults, "
            f"{time.monotonic() - began:.0f} s"
        )
    return outcome


def main(_: list[str]) -> None:
    """The program."""
    if BATCH.value:
        kind, _, root = BATCH.value.partition(":")
        path = pathlib.Path(root)
        print(json.dumps(look_at_each(path) if kind == "each" else look(path, kind)))
        return
    outcome = fuzz(FILES.value, SEED.value)
    print(
        f"{outcome.read} read, {outcome.refused} refused by name, {outcome.whole} whole files "
        f"beside them; peak {outcome.peak / 2**20:.0f} MiB, slowest file "
        f"{outcome.slowest[0]:.1f} s ({outcome.slowest[1]})"
    )
    for reason, count in outcome.reasons.most_common(12):
        print(f"{count:6d}  {reason}")
    for fault in outcome.faults:
        print(f"FAULT {fault}")
    if outcome.faults:
        raise SystemExit(1)


if __name__ == "__main__":
    main(FLAGS(sys.argv))
