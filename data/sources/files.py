"""Reads all files of a source in parallel, and keeps account of those that can't be read."""

import pathlib
from collections.abc import Mapping

from tqdm import tqdm

from data import preprocess, workers
from data.errors import UserError
from data.sources import parts
from data.sources.raw import FLAG, Listing, Options, Report
from data.sources.spool import Spool

# Files are read in about this many parts, of no more files than that: parts are what processes
# share and what a killed run loses, and opening one takes a millisecond.
_PARTS, _PART_FILES = 64, 128


class UnreadableError(UserError):
    """Too many files can't be read; `unreadable` is {relative path: why}."""

    def __init__(self, message: str, unreadable: Mapping[str, str]) -> None:
        super().__init__(message)
        self.unreadable = unreadable


def read(
    listing: Listing,
    folder: pathlib.Path,
    *,
    size: int,
    channels: int,
    options: Options,
    processes: int,
) -> tuple[Spool, Report]:
    """Decode what is listed, preprocess it to one shape, and put it into a folder.

    Parts that a killed run left in the folder are not read again. Image ids are '<relative
    path>#<frame>', or the relative path for files of one image. Groups are salted digests: of the
    patient in the table, otherwise of what `decode` says the owner is. Where 8-bit and 16-bit DICOM
    files come together, 8-bit values v become v * 257, which is exact.

    Raises:
        UserError: no files, images of several bit depths, or (`UnreadableError`) too many
            unreadable files.
    """
    entries = listing.entries
    if not entries:
        raise UserError(f"{listing.where} holds no {listing.kind} files; mend {FLAG}.")
    folder.mkdir(parents=True, exist_ok=True)
    spatial = options.spatial(size)
    steps = preprocess.parse(options.preprocess, spatial)
    work = parts.Work(
        folder=folder,
        decode=listing.decode,
        where=listing.where,
        of_files=listing.of_files,
        spatial=spatial,
        steps=steps,
        channels=channels,
        salt=options.salt,
    )
    step = min(max(1, len(entries) // _PARTS), _PART_FILES)
    starts = range(0, len(entries), step)
    lengths = [min(step, len(entries) - start) for start in starts]
    todo = [i for i in range(len(starts)) if not parts.facts_path(folder, i).exists()]
    jobs = (parts.Part(work, i, entries[starts[i] : starts[i] + step]) for i in todo)
    with tqdm(
        total=len(entries),
        initial=len(entries) - sum(lengths[i] for i in todo),
        desc=listing.kind,
        unit="file" if listing.of_files else "image",
        disable=None,
    ) as bar:
        for count in workers.ordered(parts.read_part, jobs, processes):
            bar.update(count)
    ranged = preprocess.of_dataset(steps)
    spool = Spool(folder, len(starts), (*spatial, channels), listing, ranged=ranged)
    report = spool.report()
    _check_share(listing.where, report.unreadable, report.files, options.max_unreadable)
    return spool, report


def _check_share(where: str, unreadable: Mapping[str, str], total: int, allowed: float) -> None:
    count = len(unreadable)
    if count and (count == total or count > allowed * total):
        name, why = next(iter(unreadable.items()))
        flag = f"--config.data.max_unreadable={allowed}"
        limit = "" if count == total else f", more than {flag} allows"
        raise UnreadableError(
            f"{count} of {total} files below {where} can't be read{limit}, the first: "
            f"{name} {why.rstrip('.')}; mend or remove them.",
            unreadable,
        )
