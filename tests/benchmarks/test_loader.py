import json

import pytest

from benchmarks import loader


def test_waiting_is_averaged_over_time_and_without_the_first_step(tmp_path):
    lines = [
        {"step": 1, "first_step": 100.0},
        {"step": 10, "seconds": 110.0, "loader_wait": 0.5, "images_per_second": 10},
        {"step": 20, "seconds": 140.0, "loader_wait": 0.1, "images_per_second": 50},
    ]
    (tmp_path / "timing.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = loader.measured(tmp_path)
    assert found["loader_wait"] == pytest.approx((10 * 0.5 + 30 * 0.1) / 40)
    assert found["images_per_second"] == pytest.approx(40)
