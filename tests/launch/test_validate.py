from types import SimpleNamespace

import pytest

from benchmarks.vrn_truth import setting
from configs import chest_xray, chest_xray_translate, digits, phantom, phantom_rare
from data.errors import UserError
from launch import mesh, stage, train_features, train_gan, train_target, train_vrn, validate
from tests import tiny


@pytest.mark.parametrize(
    "module", [chest_xray, chest_xray_translate, digits, phantom, phantom_rare, setting, tiny]
)
def test_shipped_configurations_pass(module):
    validate.check(module.get_config())


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("data.size", 48, "choose from 16, 32, 64, 128"),
        ("data.axis", "transverse", "choose from sagittal, coronal, axial"),
        ("data.max_unreadable", 1.0, "data.max_unreadable=1.0: give a share"),
        ("data.augment", ("shift", "sharpen"), "no 'sharpen'"),
        ("data.augment", ("shift", "colour"), "needs --config.data.channels=3, not 1"),
        ("gan.loss", "hinged", "choose from non_saturating, hinge, wasserstein"),
        ("gan.model", "biggan", "choose from dcgan, resnet"),
        ("gan.spectral", True, "the dcgan discriminator has no spectral normalisation"),
        ("gan.dtype", "float16", "choose from float32, bfloat16"),
        ("vrn.dtype", "bf16", "choose from float32, bfloat16"),
        ("gan.steps", 0, "gan.steps=0"),
        ("translator.decay", 1.5, "translator.decay=1.5: give a share from 0 to 1"),
        ("translator.match_heights", 2.0, "match_heights=2.0: give a share from 0 to 1"),
        ("translator.match_heights", -0.1, "match_heights=-0.1: give a share from 0 to 1"),
        (
            "translator.match_heights",
            0.5,
            "is for --config.translator.domains=healthy, not classes",
        ),
        ("translator.augment", ("flip", "mixup"), "there is no 'mixup'; choose from flip"),
        ("generate.generator", "vae", "choose from gan, translator"),
        ("generate.generator", "translator", "needs the name of the healthy class"),
        ("generate.repeats", 0, "generate.repeats=0 is too small"),
        ("vrn.depth", 19, "vrn.depth=19"),
        ("vrn.head", "max", "choose from average, top, bilinear"),
        ("vrn.blur", -1.0, "vrn.blur=-1.0 is negative"),
        ("vrn.batch", 31, "vrn.batch=31 is odd"),
        *((f"{name}.accumulate", 3, f"{name}.batch=") for name in validate.BATCHES),
        ("detector.batch", 1, "detector.batch=1 has no room for both healthy and diseased"),
        ("filter.keep", 1.5, "filter.keep=1.5"),
        ("filter.names", ("vrn",), "lacks 'random'"),
        ("filter.names", ("random",), "lacks 'vrn'"),
        ("target.arms", ("real", "vnr"), "no 'vnr'"),
        ("target.shares", (2.0,), "target.shares"),
        ("annotate.method", "sklearn:SVX", "SVC"),
        ("annotate.members", ("knm",), "no annotator 'knm'"),
    ],
)
def test_an_impossible_value_is_named(field, value, words):
    config = digits.get_config()
    section, name = field.split(".")
    with config.unlocked():
        config[section][name] = value
    with pytest.raises(UserError, match="(?s)" + words.replace(".", r"\.")):
        validate.check(config)


def test_a_batch_of_one_image_is_not_healthy_and_diseased():
    config = tiny.get_config()
    config.translator.batch = 1
    validate.check(config)  # of any class
    config.translator.domains = "healthy"
    with pytest.raises(UserError, match=r"translator\.batch=1 has no room for both"):
        validate.check(config)


def test_devices_of_several_processes_are_not_grouped():
    devices = [SimpleNamespace(process_index=index // 2) for index in range(8)]
    with pytest.raises(UserError, match="model_devices=4: a process holds 2 devices"):
        mesh.make_mesh(4, devices)


@pytest.mark.parametrize("program", [train_gan, train_features, train_vrn, train_target])
def test_devices_are_checked_before_a_stage_is_discarded(program, tmp_path, monkeypatch):
    begun = []
    monkeypatch.setattr(stage, "begin", lambda *_, **__: begun.append(program))
    config = digits.get_config()
    config.model_devices = 1000
    with pytest.raises(UserError, match="model_devices=1000"):
        program.run(config, tmp_path, True)
    assert not begun
