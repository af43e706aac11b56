"""Trains the small network on real training images that annotators and filters see with.

python -m launch.train_features --config=configs/digits.py --workdir=runs/digits
"""

import pathlib

import ml_collections

from data import shards, tables
from data.loader import Part
from launch import cli, distributed, models, prepare, rng, stage
from launch import mesh as mesh_lib
from vrn.features import FeatureSpace


def run(config: ml_collections.ConfigDict, workdir: pathlib.Path, overwrite: bool) -> pathlib.Path:
    """Trains the feature network with classical augmentation, on the training split only."""
    settings = {
        "features": config.features.to_dict(),
        "seed": config.seed,
        "augment": config.data.augment,
    }
    mesh_lib.arranged(config, "features")  # refuses before anything is discarded
    begun = stage.begin(workdir, "features", settings, needs=("data",), overwrite=overwrite)
    if begun is None:
        return workdir / "features"
    real = prepare.open_split(workdir, "train")
    trainer = _trainer(config, workdir)
    params = trainer.train(
        [Part(real, config.features.batch)],
        begun.folder,
        name="features",
        seed=rng.fold(config.seed, "features"),
        steps=config.features.steps,
        augment=tuple(config.data.augment),
        strength=1.0,
        tensorboard=config.tensorboard,
    )
    space = FeatureSpace(trainer.spec, params)
    distributed.on_main(lambda: _embed(config, workdir, begun.folder, space))
    begun.finish(digest=models.tree_digest(params))
    return begun.folder


def _embed(
    config: ml_collections.ConfigDict,
    workdir: pathlib.Path,
    folder: pathlib.Path,
    space: FeatureSpace,
) -> None:
    # The report measures copying and fidelity against these; no weight learns from val or test.
    real = ("train", "unlabelled", "val", "test")
    there = [name for name in real if shards.has_split(workdir / "data", name)]
    splits = {name: prepare.open_split(workdir, name) for name in there}
    embedded = {name: space.embed(split) for name, split in splits.items()}
    tables.write_npz(folder / "embeddings.npz", **embedded)


def open_features(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> FeatureSpace:
    """Opens the trained feature network of a work directory."""
    stage.require(workdir, "features")
    trainer = _trainer(config, workdir)
    return FeatureSpace(trainer.spec, trainer.restore(workdir / "features"))


def _trainer(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> models.Trainer:
    real = prepare.open_split(workdir, "train")
    settings = config.features
    spec = models.classifier_spec(settings, len(real.class_names), settings.steps)
    return models.Trainer(spec, real.image_shape, config, "features")


if __name__ == "__main__":
    cli.start(run)
