"""What builders share that make their images themselves, without a download."""

import contextlib
import io
import os
import pathlib
from typing import Any

import numpy as np
from PIL import Image


def png(grey: np.ndarray) -> io.BytesIO:
    """An image uint8 [H, W] as a PNG file.

    Pillow encodes it, because tfds would import TensorFlow to encode an array.
    """
    file = io.BytesIO()
    Image.fromarray(grey).save(file, format="PNG")
    file.seek(0)
    return file


def prepare(builder: Any) -> pathlib.Path:
    """Makes the data set of a tfds builder unless it is there; returns its folder."""
    import tensorflow_datasets as tfds

    # tfds announces every preparation on stdout, which belongs to the program's own messages.
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(try_download_gcs=False)
        )
    return pathlib.Path(os.fspath(builder.data_dir))
