"""Any tfds data set for image classification."""

import os
from typing import Any

import numpy as np

from data import marks
from data.errors import UserError, reason
from data.sources.raw import FLAG, SPLITS, Raw


def open_tfds(name: str, data_dir: str | os.PathLike[str]) -> dict[str, Raw]:
    """Opens a tfds data set, prepared in ``data_dir`` if it isn't yet.

    Raises:
        UserError: no such data set, no image or label in it, or damaged files.
    """
    import tensorflow_datasets as tfds

    from data.builders import digits

    if name == digits.VrnDigits.name:
        builder = tfds.builder_from_directory(digits.prepare(data_dir))
    else:
        builder = _prepared_builder(name, data_dir)
    features = builder.info.features
    image_key = _feature_of(features, tfds.features.Image, name, "an image")
    label_key = _feature_of(features, tfds.features.ClassLabel, name, "a class label")
    id_key, group_key = (
        next((key for key in keys if key in features), None)
        for keys in (("id", "sample_id", "file_name"), ("group", "patient", "patient_id"))
    )
    splits = {}
    for split in builder.info.splits:
        if split not in SPLITS and len(builder.info.splits) > 1:
            continue  # such as an unlabelled or extra split
        try:
            rows = list(builder.as_data_source(split))
        except (RuntimeError, ValueError, OSError, NotImplementedError) as error:
            raise UserError(
                f"tfds:{name} in {data_dir} can't be read ({reason(error)}); delete its folder and "
                "prepare it again with file_format=array_record."
            ) from error
        splits[SPLITS.get(split, "all")] = Raw(
            images=[row[image_key] for row in rows],
            labels=np.array([row[label_key] for row in rows], np.int64),
            ids=[
                (marks.PREFIX if row.get("synthetic") else "")
                + (_text(row[id_key]) if id_key else f"{split}-{i}")
                for i, row in enumerate(rows)
            ],
            class_names=features[label_key].names,
            groups=[_text(row[group_key]) for row in rows] if group_key else None,
        )
    return splits


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


def _feature_of(features: Any, kind: type, name: str, what: str) -> str:
    """Name of the first feature of a kind."""
    for key, feature in features.items():
        if isinstance(feature, kind):
            return key
    raise UserError(
        f"{FLAG}=tfds:{name} has no feature that is {what} (it has {', '.join(features)}); "
        "use a data set for image classification."
    )


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
