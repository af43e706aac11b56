"""Any tfds data set for image classification."""

import dataclasses
import functools
import os
from typing import Any

import numpy as np

from data import marks
from data.errors import RefusedError, UserError, reason
from data.sources import masks
from data.sources.entries import Rows
from data.sources.raw import FLAG, SPLITS, Decoded, Entry, Listing, Picture


@dataclasses.dataclass(frozen=True)
class _Set:
    """A prepared tfds data set: where it lies, and which of its features and splits are read."""

    name: str
    folder: str
    image: str
    label: str
    id: str | None
    group: str | None
    mask: str | None
    splits: tuple[tuple[str, str], ...]  # ours, theirs


def list_tfds(name: str, data_dir: str | os.PathLike[str]) -> Listing:
    """Lists a tfds data set, prepared in ``data_dir`` if it isn't yet.

    Raises:
        UserError: no such data set, no image or label in it, or damaged files.
    """
    import tensorflow_datasets as tfds

    from data.builders import digits
    from data.builders.phantom import builder as phantom

    if name == digits.VrnDigits.name:
        builder = tfds.builder_from_directory(digits.prepare(data_dir))
    elif name.split("/")[0] == phantom.VrnPhantom.name:
        builder = tfds.builder_from_directory(phantom.prepare(name, data_dir))
    else:
        builder = _prepared_builder(name, data_dir)
    features, theirs = builder.info.features, list(builder.info.splits)
    images = [key for key in features if features[key].np_dtype == np.uint8]
    id_key, group_key, mask_key = (
        next((key for key in keys if key in among), None)
        for keys, among in (
            (("id", "sample_id", "file_name"), features),
            (("group", "patient", "patient_id"), features),
            (("mask", "segmentation_mask"), images),
        )
    )
    # An only split is all there is; of several, some may be unlabelled or extra ones.
    splits = tuple(
        (SPLITS.get(split, "all"), split) for split in theirs if split in SPLITS or len(theirs) == 1
    )
    found = _Set(
        name=name,
        folder=str(builder.data_dir),
        image=_feature_of(builder.info, tfds.features.Image, name, "an image"),
        label=_feature_of(builder.info, tfds.features.ClassLabel, name, "a class label"),
        id=id_key,
        group=group_key,
        mask=mask_key,
        splits=splits,
    )
    parts = [
        (builder.info.splits[theirs].num_examples, functools.partial(_entry, found, ours, theirs))
        for ours, theirs in splits
    ]
    names = features[found.label].names
    return Listing(Rows(parts), names, functools.partial(decode, found), "tfds", name)


def _entry(found: _Set, ours: str, theirs: str, row: int) -> Entry:
    """What is known of a row before it is read."""
    return Entry(found.folder, f"{theirs}-{row}", -1, ours, row=row)


def decode(found: _Set, entry: Entry) -> Decoded:
    """One row: its image, and the mask, label, id and group that come with it.

    Raises:
        UserError: the data set is damaged, or has masks that are none of its images.
    """
    try:
        row = _rows(found, entry.split)[entry.row]
    except (RuntimeError, ValueError, OSError, NotImplementedError) as error:
        raise UserError(
            f"tfds:{found.name} in {found.folder} can't be read ({reason(error)}); delete its "
            "folder and prepare it again with file_format=array_record."
        ) from error
    prefix = marks.PREFIX if row.get("synthetic") else ""
    known = dataclasses.replace(
        entry,
        label=int(row[found.label]),
        name=prefix + (_text(row[found.id]) if found.id else entry.name),
        group=_text(row[found.group]) if found.group else "",
    )
    if found.mask is None:
        return Decoded([Picture(row[found.image])], entry=known)
    picture, mask = Picture(row[found.image]), np.asarray(row[found.mask])
    try:
        masks.check(mask, picture.pixels.shape[:-1], found.mask)
    except RefusedError as error:
        raise UserError(f"tfds:{found.name}: row {entry.name} {error}.") from None
    return Decoded([dataclasses.replace(picture, mask=mask[..., 0])], entry=known)


@functools.lru_cache(maxsize=4)
def _rows(found: _Set, split: str) -> Any:
    """Random access to the rows of a split."""
    import tensorflow_datasets as tfds

    return tfds.builder_from_directory(found.folder).as_data_source(dict(found.splits)[split])


def _prepared_builder(name: str, data_dir: str | os.PathLike[str]) -> Any:
    """A tfds builder whose data are on disk in array_record form, downloaded if need be."""
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(
            name, data_dir=os.fspath(data_dir), file_format="array_record", try_gcs=False
        )
        # Google's prepared copies are tfrecord files, which have no random access.
        own_copy = tfds.download.DownloadConfig(try_download_gcs=False)
        builder.download_and_prepare(download_config=own_copy)
    except tfds.core.registered.DatasetNotFoundError:
        raise UserError(
            f"{FLAG}=tfds:{name}: tfds knows no data set of this name; see "
            "https://www.tensorflow.org/datasets/catalog or use npz:PATH or folder:PATH."
        ) from None
    except Exception as error:  # downloads fail in many ways, none of them ours
        raise UserError(
            f"{FLAG}=tfds:{name} could not be prepared in {data_dir} ({reason(error)})."
        ) from error
    return builder


def _feature_of(info: Any, kind: type, name: str, what: str) -> str:
    """Name of the first feature of a kind; those that the set was made to be trained on lead."""
    features = info.features
    # A set with masks or attributes has several, and tfds does not keep their order on disk.
    for key in (*(info.supervised_keys or ()), *features):
        if key in features and isinstance(features[key], kind):
            return key
    raise UserError(
        f"{FLAG}=tfds:{name} has no feature that is {what} (it has {', '.join(features)}); "
        "use a data set for image classification."
    )


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
