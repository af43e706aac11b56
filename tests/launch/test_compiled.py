import pathlib

import jax
import pytest

from launch import compiled

OPTIONS = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")


@pytest.fixture(autouse=True)
def unchanged(monkeypatch):
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    before = [getattr(jax.config, name) for name in OPTIONS]
    yield
    for name, value in zip(OPTIONS, before, strict=True):
        jax.config.update(name, value)


def test_a_folder_for_this_kind_of_machine(tmp_path):
    assert compiled.keep(str(tmp_path / "a")) is None
    folder = pathlib.Path(jax.config.jax_compilation_cache_dir)
    assert folder.parent == tmp_path / "a"
    assert folder.is_dir()


def test_none_wanted(tmp_path):
    assert compiled.keep("") is None
    assert jax.config.jax_compilation_cache_dir is None


def test_the_environment_goes_before(tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "other"))
    assert compiled.keep(str(tmp_path / "a")) is None
    assert not (tmp_path / "a").exists()


def test_a_folder_that_cannot_be_made_is_no_reason_to_stop(tmp_path):
    (tmp_path / "file").touch()
    assert "file" in compiled.keep(str(tmp_path / "file"))
    assert jax.config.jax_compilation_cache_dir is None
