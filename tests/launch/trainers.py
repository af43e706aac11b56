"""Every trainer for 20 steps on meshes of several sizes, in one process or as one of several.

Command:   python -m tests.launch.trainers DATA OUT 1,2,8 [COORDINATOR PROCESSES INDEX]

DATA is a prepared work directory of the digits. OUT gets parameters, metrics and collectives of
every case and mesh. With a coordinator the one mesh is that of all processes.
"""

import json
import os
import pathlib
import sys

import jax
import numpy as np

from benchmarks.collectives import collectives
from configs import digits
from data.loader import Part
from launch import distributed, models, prepare, train_gan
from launch import mesh as mesh_lib

STEPS = 20
GANS = {
    "gan_r1": {"penalty": "r1"},
    "gan_gp": {"penalty": "gp", "penalty_weight": 10.0, "n_critic": 2, "loss": "wasserstein"},
}
CLASSIFIERS = ("vrn", "target")  # the feature network is trained as a target model is


def config_of(**gan):
    config = digits.get_config()
    config.tensorboard = False
    config.gan.width = 4
    config.gan.steps = STEPS
    config.gan.log_every = 1
    config.gan.update(gan)
    for name in CLASSIFIERS:
        config[name].width = 4
        config[name].log_every = 1
    config.vrn.depth = 10
    return config


def train_gan_of(name: str, data: pathlib.Path, folder: pathlib.Path):
    config = config_of(**GANS[name])
    if distributed.is_main():
        (folder / "data").symlink_to(data / "data")
    distributed.barrier(f"data {folder}")
    train_gan.run(config, folder, False)
    _, state = train_gan.restore(config, folder)
    return {"g": state.g_params, "d": state.d_params, "ema": state.ema_params}, folder / "gan"


def train_classifier_of(name: str, data: pathlib.Path, folder: pathlib.Path):
    config = config_of()
    real, other = prepare.open_split(data, "train"), prepare.open_split(data, "val")
    if name == "vrn":
        spec = models.vrn_spec(config)
        parts = [Part(real, 16, label=1), Part(other, 16, label=0)]
    else:
        spec = models.classifier_spec(config[name], 10, STEPS)
        parts = [Part(real, 24), Part(other, 8)]
    trainer = models.Trainer(spec, real.image_shape, config, name)
    params = trainer.train(
        parts, folder, name=name, seed=3, steps=STEPS, augment=("shift", "histogram", "mixup"),
        strength=1.0, checkpoints=False, show=False,
    )  # fmt: skip
    return params, folder


def main(data, out, meshes, coordinator="", processes="1", index="0"):
    if coordinator:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(coordinator, int(processes), int(index))
    data, out = pathlib.Path(data), pathlib.Path(out)
    make_mesh, jit_step = mesh_lib.make_mesh, mesh_lib.jit_step
    seen = []

    def recorded(step, mesh):
        jitted, compiled = jit_step(step, mesh), []

        def run(*args):
            if not compiled:
                compiled.append(jitted.lower(*args).compile())
                seen.append(collectives(compiled[0].as_text()))
            return compiled[0](*args)

        return run

    mesh_lib.jit_step = recorded
    for shape in meshes.split(","):
        count, _, model = shape.partition("x")
        devices = None if coordinator else jax.devices()[: int(count) * int(model or 1)]
        # A model axis copies; only the run of every trainer with it is of interest.
        mesh_lib.make_mesh = lambda _, m=int(model or 1), d=devices: make_mesh(m, d)
        for name in (*GANS, *CLASSIFIERS):
            folder = out / shape / name
            if distributed.is_main():
                folder.mkdir(parents=True)
            distributed.barrier(f"{shape} {name}")
            train = train_gan_of if name in GANS else train_classifier_of
            params, run = train(name, data, folder)
            if distributed.is_main():
                leaves = jax.tree_util.tree_leaves_with_path(params)
                arrays = {jax.tree_util.keystr(k): np.asarray(v) for k, v in leaves}
                np.savez(folder / "params.npz", **arrays)
                lines = (run / "metrics.jsonl").read_text().splitlines()
                report = {
                    "metrics": [json.loads(line) for line in lines],
                    "collectives": [c._asdict() for c in seen[-1]],
                }
                (folder / "report.json").write_text(json.dumps(report))
    distributed.barrier("end")


if __name__ == "__main__":
    os.environ["TQDM_DISABLE"] = "1"
    main(*sys.argv[1:])
