"""Goes through the images of a source as they are, one after another, and keeps none of them."""

import collections
import concurrent.futures
import dataclasses
import itertools
import os
import pathlib
import tempfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from tqdm import tqdm

from data.errors import UserError
from data.sources import labels, list_source, parts
from data.sources.raw import FLAG, Damaged, Decoded, Entry, Listing, Options

# Files that are read before they are asked for.
_AHEAD = 64


@dataclasses.dataclass(frozen=True)
class Item:
    """One image, of which only what `look` made of it is left.

    Attributes:
        id: unique in its split; a path for files.
        split: 'train', 'val', 'test' or 'all'.
        label: number of its class; -1 = none given.
        group: digest or name of what must not be split (a patient), '' where unknown.
        seen: what `look` returned.
        site: as a table of labels gives it.
        columns: its further columns.
    """

    id: str
    split: str
    label: int
    group: str
    seen: Any
    site: str = ""
    columns: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Unreadable:
    """A file, or an image of one, that is not read: its relative path or id, and why."""

    name: str
    why: str


@dataclasses.dataclass(frozen=True)
class Walk:
    """A source that is about to be gone through.

    Attributes:
        class_names: names in label order.
        files: how many there are to read; None where images lie in one file.
        items: the images, in the order of the source.
    """

    class_names: tuple[str, ...]
    files: int | None
    items: Iterator[Item | Unreadable]


def walk(
    spec: str,
    look: Callable[[np.ndarray], Any],
    *,
    data_dir: str | os.PathLike[str],
    options: Options,
) -> Walk:
    """Open a source to go through its images at their own size and depth.

    Args:
        spec: as for `data.sources.open_source`.
        look: gets the pixels [H, W, C] of every image; called in several threads.
        data_dir: where tfds keeps data sets.
        options: how folders of files are read.

    Raises:
        UserError: a source that is missing, or a table of labels that does not fit it.
    """
    kind, _, where = spec.partition(":")
    folder = tempfile.TemporaryDirectory(prefix="vrn-walk-")  # of arrays that are read by rows
    try:
        listing = list_source(kind, where, data_dir, pathlib.Path(folder.name), options)
        if not listing.entries:
            raise UserError(f"{where} holds no {kind} files; mend {FLAG}.")
    except BaseException:
        folder.cleanup()
        raise
    files = len(listing.entries) if listing.of_files else None
    return Walk(tuple(listing.class_names), files, _items(listing, look, options.salt, folder))


def _items(
    listing: Listing,
    look: Callable[[np.ndarray], Any],
    salt: str,
    folder: "tempfile.TemporaryDirectory[str]",
) -> Iterator[Item | Unreadable]:
    """Decode in threads, in order, a few ahead of the reader; the folder goes when all is read."""
    root = pathlib.Path(listing.where)

    def one(entry: Entry) -> tuple[Entry, Decoded | str]:
        entry = labels.marked(entry, root) if listing.of_files else entry
        try:
            found = listing.decode(entry)
            seen = [
                picture if isinstance(picture, Damaged) else (picture.frame, look(picture.pixels))
                for picture in found.pictures
            ]
        except UserError:
            raise
        except Exception as error:  # decoders fail in many ways, none of them ours
            if not listing.of_files:
                raise
            return entry, parts.why(error, entry)
        return found.entry or entry, dataclasses.replace(found, pictures=seen)

    unit = "file" if listing.of_files else "image"
    with (
        folder,
        parts.quiet(),
        concurrent.futures.ThreadPoolExecutor() as pool,
        tqdm(total=len(listing.entries), desc=listing.kind, unit=unit, disable=None) as bar,
    ):
        waiting: collections.deque[concurrent.futures.Future[Any]] = collections.deque()
        ahead = iter(listing.entries)
        while True:
            todo = itertools.islice(ahead, _AHEAD - len(waiting))
            waiting.extend(pool.submit(one, entry) for entry in todo)
            if not waiting:
                return
            entry, found = waiting.popleft().result()
            bar.update()
            if isinstance(found, str):
                yield Unreadable(entry.name, found)
                continue
            for one_seen in found.pictures:
                if isinstance(one_seen, Damaged):
                    yield Unreadable(parts.image_id(entry, one_seen.frame), one_seen.why)
                    continue
                frame, seen = one_seen
                yield Item(
                    parts.image_id(entry, frame), entry.split, entry.label,
                    parts.group(entry, found, salt), seen, entry.site, entry.columns,
                )  # fmt: skip
