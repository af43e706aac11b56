"""The benchmark's rows, filters, file, counts and imports, without PyTorch."""

import json
import subprocess
import sys

import jax
import pytest
from absl import app

from benchmarks.train_step import flops, main, measure, ours
from benchmarks.train_step.rows import CLASSIFIERS, GANS, SIZES, TRANSLATORS, Row, Translator, rows
from nn.native import build
from tests.launch.programs import ROOT

SMALL = Row("dcgan", 16, 4, 8)
BLOCKED = """
import sys
absent = {"tensorflow", "clu", "grain", "tensorflow_datasets", "array_record", "pyarrow", "PIL",
          "sklearn", "ml_collections", "orbax", "tqdm", "data", "launch", "torch"}
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in absent:
            raise ImportError(f"{name} is blocked")
sys.meta_path.insert(0, Blocker())
import benchmarks.train_step
from benchmarks.train_step import main
from benchmarks.train_step import rows
assert main.torch is None
assert "vrn.classifier" in sys.modules
assert not absent & {name.split(".")[0] for name in sys.modules}
"""


@pytest.fixture(autouse=True)
def _parsed_flags():
    main.FLAGS.mark_as_parsed()


@pytest.mark.parametrize("platform", ["cpu", "gpu"])
def test_every_network_has_a_row_at_every_size(platform):
    found = rows(platform)
    assert {(row.kind, row.size) for row in found} == {
        (kind, size) for kind in GANS | CLASSIFIERS for size in SIZES
    } | {(kind, size) for kind in TRANSLATORS for size in (64, 128)}
    assert len({row.name for row in found}) == len(found)
    assert {row.size for row in rows(platform, [64])} == {64}


def test_it_imports_where_only_jax_and_numpy_are():
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_without_pytorch_its_columns_are_empty(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        main, "rows", lambda platform, sizes: [SMALL, Row("vrn_resnet18", 32, 4, 2)]
    )
    monkeypatch.setattr(main.host, "prepare", lambda: None)
    monkeypatch.setattr(measure, "matmul_rate", lambda dtype: 1e9)
    path = tmp_path / "rows.json"
    chosen = {"json": str(path), "rows": "dcgan", "torch": False, "repeats": 2, "steps": 1}
    for name, value in chosen.items():
        monkeypatch.setattr(main.FLAGS[name], "value", value)
    assert main.main(["train_step"]) == 0
    (row,) = json.loads(path.read_text())["rows"]
    assert (row["name"], row["width"], row["batch"]) == ("dcgan_16px_width4_batch8", 4, 8)
    assert len(row["times_ms"]["ours"]) == 2
    seconds = row["ours_ms"] / 1e3
    assert row["images_per_second"] == pytest.approx(8 / seconds)
    assert row["share_of_matmul_rate"] == pytest.approx(row["flops"] / seconds / 1e9)
    empty = {key for key, value in row.items() if value is None}
    assert empty == {
        *("torch_eager_ms", "torch_compile_ms"),
        *("ratio_eager", "ratio_compile", "ratio_limit"),
    }
    assert row["products_ms"] > 0
    assert row["name"] in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": "volume"}, "--rows=volume matches none of dcgan_32px_width32_batch64,"),
        ({"sizes": ["48"]}, "--sizes=48: give some of 32, 64, 128"),
    ],
)
def test_a_filter_that_matches_nothing_is_refused(changes, message, monkeypatch):
    for name, value in changes.items():
        monkeypatch.setattr(main.FLAGS[name], "value", value)
    with pytest.raises(app.UsageError, match=message):
        main.main(["train_step"])


def test_operations_of_a_known_network():
    # One image of 16 px through convolutions 4x4 stride 2 to 8 px with 4 and to 4 px with 8
    # channels, and a dense layer of their 128 values.
    spec = ours.build(Row("dcgan", 16, 4, 1)).spec
    image = jax.ShapeDtypeStruct((1, 16, 16, 1), "float32")
    label = jax.ShapeDtypeStruct((1,), "int32")
    found = flops.products(spec.discriminator, image, label)
    assert found == (8 * 8 * 16 * 4 + 4 * 4 * 16 * 4 * 8 + 128, 8 * 8 * 16 * 4)
    # The generator: 128 to 4x4x8, then each of 16 and of 64 places spreads a 4x4 patch.
    z = jax.ShapeDtypeStruct((1, 128), "float32")
    found = flops.products(spec.generator, z, label)
    assert found == (128 * 128 + 16 * 16 * 8 * 4 + 64 * 16 * 4 * 1, 128 * 128)


# Not of the classifiers: the forms that their convolutions take on CPU multiply more.
@pytest.mark.parametrize("kind", ["dcgan", "wgan_gp", "translator"])
def test_operations_are_about_those_that_the_compiler_counts(kind, monkeypatch):
    # The compiler does not see what the compiled library multiplies.
    monkeypatch.setattr(build, "computes", lambda dtype: False)
    monkeypatch.setitem(TRANSLATORS, "translator", Translator(blocks=1, n_critic=2))
    work = ours.build(Row(kind, 32, 16, 4))
    lowered = ours.train_step(work).lower(work.state, work.batch, work.key)
    # The compiler leaves products with padding out and counts everything else too.
    assert flops.needed(work) == pytest.approx(lowered.cost_analysis()["flops"], rel=0.2)
