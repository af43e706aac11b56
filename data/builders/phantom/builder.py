"""tfds data set `vrn_phantom`: chest phantoms whose truth is known (docs/phantom.md)."""

import dataclasses
import os
import pathlib
import re
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from data.builders import offline
from data.builders.phantom.anatomy import LABELS, SITES, draw
from data.builders.phantom.render import render
from data.errors import UserError
from data.records import from_unit

_BATCH = 50  # images that are made at once
_SMALLEST, _LARGEST = 16, 1024  # voxels of a side
_FEWEST, _MOST = 4, 99_999  # patients: one of each label, and five digits of a name


@dataclasses.dataclass
class PhantomConfig(tfds.core.BuilderConfig):
    """A population of phantoms.

    Attributes:
        shape: (H, W) for radiographs or (D, H, W) for volumes.
        patients: how many; patient i has the label i modulo 4.
        visits: images of each.
        seed: of the population.
    """

    shape: tuple[int, ...] = (64, 64)
    patients: int = 400
    visits: int = 3
    seed: int = 0


class VrnPhantom(tfds.core.GeneratorBasedBuilder):
    """Schematic chest radiographs or volumes with masks and healthy twins, uint8."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar = {"1.0.0": "First release."}
    BUILDER_CONFIGS: ClassVar = [
        PhantomConfig(name=str(side), shape=(side, side)) for side in (64, 32, 128)
    ]
    url_infos = None  # nothing is downloaded

    def _info(self) -> tfds.core.DatasetInfo:
        shape = (*self.builder_config.shape, 1)
        if len(shape) == 3:
            image = tfds.features.Image(shape=shape, encoding_format="png")
        else:
            image = tfds.features.Tensor(shape=shape, dtype=np.uint8, encoding="zlib")
        return tfds.core.DatasetInfo(
            builder=self,
            description=__doc__,
            features=tfds.features.FeaturesDict(
                {
                    "image": image,
                    "label": tfds.features.ClassLabel(names=LABELS),
                    "id": tfds.features.Text(),
                    "patient": tfds.features.Text(),
                    "mask": image,  # 255 in the lesion
                    "twin": image,  # the same image without the lesion
                    "sex": tfds.features.ClassLabel(num_classes=2),
                    "age": tfds.features.Scalar(np.float32),
                    "site": tfds.features.ClassLabel(num_classes=SITES),
                }
            ),
            supervised_keys=("image", "label"),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        return {"train": self._generate_examples()}

    def _generate_examples(self) -> Iterator[tuple[str, dict[str, Any]]]:
        config = self.builder_config
        encode = (lambda x: offline.png(x[..., 0])) if len(config.shape) == 2 else np.asarray
        patients, visits = np.divmod(np.arange(config.patients * config.visits), config.visits)
        for start in range(0, len(patients), _BATCH):
            rows = slice(start, start + _BATCH)
            a = draw(config.seed, patients[rows], visits[rows])
            made = render(a, config.shape)
            image, twin = (from_unit(x, np.uint8) for x in (made.image, made.twin))
            mask = made.mask * np.uint8(255)
            for i in range(len(a)):
                patient = f"phantom-{a.patient[i]:05d}"
                name = f"{patient}-{a.visit[i]:02d}"
                yield (
                    name,
                    {
                        "image": encode(image[i]),
                        "label": int(a.label[i]),
                        "id": name,
                        "patient": patient,
                        "mask": encode(mask[i]),
                        "twin": encode(twin[i]),
                        "sex": int(a.sex[i]),
                        "age": a.age[i],
                        "site": int(a.site[i]),
                    },
                )


def prepare(name: str, data_dir: str | os.PathLike[str]) -> pathlib.Path:
    """Makes `vrn_phantom` or `vrn_phantom/SHAPE[-PATIENTS]` under ``data_dir`` unless it is there.

    SHAPE is `96` for 96 x 96 pixels, `96x64` for height and width, `32x64x64` for volumes;
    `64-3000` has 3,000 patients, of whom the first 400 are those of `64`.

    Raises:
        UserError: another shape, or another number of patients.
    """
    given = name.partition("/")[2] or "64"
    shape, _, count = given.partition("-")
    numbers = re.fullmatch(r"\d+(x\d+){0,2}(-\d+)?", given)
    sides = [int(side) for side in shape.split("x")] if numbers else []
    patients = int(count or PhantomConfig.patients) if numbers else 0
    if (
        not sides
        or min(sides) < _SMALLEST
        or max(sides) > _LARGEST
        or not _FEWEST <= patients <= _MOST
    ):
        raise UserError(
            f"--config.data.source=tfds:{name} is no phantom: write tfds:vrn_phantom/96, /96x64 or "
            f"/32x64x64, with sides from {_SMALLEST} to {_LARGEST}; /96-3000 has 3,000 patients, "
            f"and there may be {_FEWEST} to {_MOST:,}."
        )
    key = "x".join(map(str, sides)) + (f"-{patients}" if count else "")
    sides = tuple(sides * 2 if len(sides) == 1 else sides)
    # tfds takes no second configuration of a name that it knows.
    config = VrnPhantom.builder_configs.get(key) or PhantomConfig(
        name=key, shape=sides, patients=patients
    )
    builder = VrnPhantom(data_dir=os.fspath(data_dir), file_format="array_record", config=config)
    return offline.prepare(builder)
