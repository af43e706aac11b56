"""Reads all files of a source in parallel, and keeps account of those that can't be read."""

import collections
import concurrent.futures
import contextlib
import dataclasses
import hashlib
import itertools
import logging
import pathlib
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from data import images as image_files
from data.errors import UserError
from data.sources.labels import Entry
from data.sources.raw import Options, Raw, Report

# Longest reason kept for a file; decoders report a line per plug-in.
_REASON = 300
# Files that are read before they are asked for.
_AHEAD = 64


class UnreadableError(UserError):
    """Too many files can't be read; `unreadable` is {relative path: why}."""

    def __init__(self, message: str, unreadable: Mapping[str, str]) -> None:
        super().__init__(message)
        self.unreadable = unreadable


class RefusedError(Exception):
    """A file that is no image of its kind; the message goes on after the file's name: 'is …'."""


@dataclasses.dataclass(frozen=True)
class Picture:
    """One image of a file.

    Attributes:
        pixels: [H, W, C] uint8, uint16 or float32.
        frame: its number in the file; None for a file that is one image.
        low, high: values that the lowest and the highest pixel stand for; NaN where unknown.
    """

    pixels: np.ndarray
    frame: int | None = None
    low: float = np.nan
    high: float = np.nan


@dataclasses.dataclass(frozen=True)
class Decoded:
    """What a file holds.

    Attributes:
        pictures: its images, or what was made of them; may be read while they are taken.
        owner: what images of one patient have in common, '' where unknown; never shown.
        blank: slices left out because all their pixels are alike.
        more_volumes: whether the file has further volumes that were not read.
    """

    pictures: Iterable[Picture]
    owner: str = ""
    blank: int = 0
    more_volumes: bool = False


# The files of a source, its class names, and what reads a file.
Listing = tuple[Sequence[Entry], Sequence[str], Callable[[Entry], Decoded]]


def read(
    root: pathlib.Path,
    entries: Sequence[Entry],
    names: Sequence[str],
    decode: Callable[[Entry], Decoded],
    *,
    kind: str,
    size: int,
    options: Options,
) -> tuple[dict[str, Raw], Report]:
    """Decode files in threads and bring their images to [size, size, C].

    Image ids are '<relative path>#<frame>', or the relative path for files of one image. Groups are
    salted digests: of the patient in the table, otherwise of what `decode` says the owner is. Where
    8-bit and 16-bit DICOM files come together, 8-bit values v become v * 257, which is exact.

    Raises:
        UserError: no files, image files of several bit depths, or (`UnreadableError`) too many
            unreadable files.
    """
    if not entries:
        raise UserError(f"{root} holds no {kind} files; mend --config.data.source.")

    def small(picture: Picture) -> Picture:
        return dataclasses.replace(picture, pixels=image_files.resize(picture.pixels, size))

    results = list(decoded(entries, decode, small, kind))
    unreadable = {entry.name: text for entry, text in results if isinstance(text, str)}
    _check_share(root, unreadable, len(entries), options.max_unreadable)
    whole = [(entry, found) for entry, found in results if isinstance(found, Decoded)]
    _check_depths(whole, mixed=kind != "folder")
    raws, intensity = {}, {}
    for split in dict.fromkeys(entry.split for entry in entries):
        raws[split], values = _raw([x for x in whole if x[0].split == split], names, options.salt)
        intensity |= values
    depths = {image.dtype for raw in raws.values() for image in raw.images}
    if len(depths) > 1:
        raws = {name: _as_uint16(raw) for name, raw in raws.items()}
    report = Report(
        files=len(entries),
        unreadable=unreadable,
        blank=sum(found.blank for _, found in whole),
        more_volumes=sum(found.more_volumes for _, found in whole),
        sites=collections.Counter(entry.site for entry, _ in whole if entry.site),
        intensity=intensity if kind != "folder" else {},
    )
    return raws, report


def decoded(
    entries: Sequence[Entry],
    decode: Callable[[Entry], Decoded],
    change: Callable[[Picture], Any],
    kind: str,
) -> Iterator[tuple[Entry, Decoded | str]]:
    """Decode files in threads, in order, a few ahead of the reader.

    Args:
        entries: the files.
        decode: reads one.
        change: what becomes of each of its pictures, in the thread that read it.
        kind: of the source, for the progress bar.

    Yields:
        Each entry with what `decode` made of it, its pictures changed, or why it can't be read.
    """

    def one(entry: Entry) -> Decoded | str:
        try:
            found = decode(entry)
            pictures = [change(picture) for picture in found.pictures]
        except RefusedError as refused:
            return str(refused)
        except MemoryError:  # promised by a damaged header: the other files may well be read
            return "needs more memory than there is"
        except Exception as error:  # decoders fail in many ways, none of them ours
            text = str(error).replace(str(entry.file), entry.file.name)
            text = " ".join(text.split()) or type(error).__name__
            return f"can't be decoded ({text[:_REASON].rstrip('.')})"
        return dataclasses.replace(found, pictures=pictures)

    with (
        _quiet(),
        concurrent.futures.ThreadPoolExecutor() as pool,
        tqdm(total=len(entries), desc=kind, unit="file", disable=None) as bar,
    ):
        waiting: collections.deque[tuple[Entry, concurrent.futures.Future[Decoded | str]]]
        waiting, ahead = collections.deque(), iter(entries)
        while True:
            for entry in itertools.islice(ahead, _AHEAD - len(waiting)):
                waiting.append((entry, pool.submit(one, entry)))
            if not waiting:
                return
            entry, future = waiting.popleft()
            yield entry, future.result()
            bar.update()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Drop warnings and logs of decoders: they quote headers, which may tell who a patient is.

    What matters of them comes back as the reason of a file. Both switches hold for all threads.
    """
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _check_share(
    root: pathlib.Path, unreadable: Mapping[str, str], total: int, allowed: float
) -> None:
    count = len(unreadable)
    if count and (count == total or count > allowed * total):
        name, why = next(iter(unreadable.items()))
        flag = f"--config.data.max_unreadable={allowed}"
        limit = "" if count == total else f", more than {flag} allows"
        raise UnreadableError(
            f"{count} of {total} files below {root} can't be read{limit}, the first: "
            f"{name} {why.rstrip('.')}; mend or remove them.",
            unreadable,
        )


def _check_depths(whole: Sequence[tuple[Entry, Decoded]], mixed: bool) -> None:
    """Refuse several bit depths, unless they may be mixed."""
    first: dict[np.dtype, str] = {}
    for entry, found in whole:
        for picture in found.pictures:
            first.setdefault(picture.pixels.dtype, entry.name)
    if len(first) > 1 and not mixed:
        (one, here), (other, there) = list(first.items())[:2]
        raise UserError(
            f"{there} is {other} but {here} is {one}; convert the folder to one bit depth."
        )


def _raw(
    whole: Sequence[tuple[Entry, Decoded]], names: Sequence[str], salt: str
) -> tuple[Raw, dict[str, tuple[float, float]]]:
    """One split, and {image id: (low, high)}."""
    images, labels, ids, groups, intensity = [], [], [], [], {}
    for entry, found in whole:
        for picture in found.pictures:
            name = image_id(entry, picture.frame)
            images.append(picture.pixels)
            labels.append(entry.label)
            ids.append(name)
            groups.append(group(entry, found, salt))
            intensity[name] = (picture.low, picture.high)
    known = groups if any(groups) else None
    return Raw(images, np.array(labels, np.int64), ids, names, known), intensity


def image_id(entry: Entry, frame: int | None) -> str:
    """The id of an image: the path of its file, and its number in a file of several."""
    return entry.name if frame is None else f"{entry.name}#{frame}"


def group(entry: Entry, found: Decoded, salt: str) -> str:
    """16 hexadecimal digits that stay the same for one owner and salt; '' where nobody is known."""
    owner = f"patient\0{entry.patient}" if entry.patient else found.owner
    return hashlib.sha256(f"{salt}\0{owner}".encode()).hexdigest()[:16] if owner else ""


def _as_uint16(raw: Raw) -> Raw:
    """Images of 16 bits: 65535 = 255 * 257, so every 8-bit value keeps its place."""
    images = [
        x if x.dtype == np.uint16 else x.astype(np.uint16) * np.uint16(257) for x in raw.images
    ]
    return dataclasses.replace(raw, images=images)
