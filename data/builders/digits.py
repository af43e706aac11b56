"""tfds data set `vrn_digits`: scikit-learn's 1,797 handwritten digits at 16x16.

The images are real scans that ship with scikit-learn, so the whole project runs on them without a
download. Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine
Learning Repository, 1998, https://doi.org/10.24432/C50P49 (its test part).
"""

import io
import os
import pathlib
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from data.builders import offline

SIZE = 16
_LEVELS = 16  # grey levels 0..16 in the original


class VrnDigits(tfds.core.GeneratorBasedBuilder):
    """Handwritten digits, 8x8 with 17 grey levels, upsampled to 16x16 uint8."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "First release."}
    # Nothing is downloaded, so there are no checksums; looking for them would make tfds import
    # importlib_resources, which it does not require on current Pythons.
    url_infos = None

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=__doc__,
            homepage="https://doi.org/10.24432/C50P49",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(SIZE, SIZE, 1), encoding_format="png"),
                    "label": tfds.features.ClassLabel(names=[str(digit) for digit in range(10)]),
                    "id": tfds.features.Text(),
                }
            ),
            supervised_keys=("image", "label"),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        return {"train": self._generate_examples()}

    def _generate_examples(self) -> Iterator[tuple[str, dict[str, Any]]]:
        from sklearn.datasets import load_digits  # slow to import, needed only once

        digits = load_digits()
        for index, (image, label) in enumerate(zip(digits.images, digits.target, strict=True)):
            name = f"digit-{index:04d}"
            yield name, {"image": _png(image), "label": int(label), "id": name}


def _png(image: np.ndarray) -> io.BytesIO:
    """Encode levels [8, 8] in [0, 16] as a 16x16 grey PNG."""
    large = Image.fromarray(image.astype(np.float32)).resize(
        (SIZE, SIZE), Image.Resampling.BILINEAR
    )
    return offline.png(np.rint(np.asarray(large) * (255 / _LEVELS)).astype(np.uint8))


def prepare(data_dir: str | os.PathLike[str]) -> pathlib.Path:
    """Make the data set under ``data_dir`` unless it is there; return its folder.

    The folder opens with `tfds.builder_from_directory`; it takes well under a second to make.
    """
    return offline.prepare(VrnDigits(data_dir=os.fspath(data_dir), file_format="array_record"))
