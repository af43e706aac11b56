import numpy as np
from PIL import Image

from benchmarks import loader
from data.augment import NAMES
from launch import pictures
from tests.launch import programs


def test_every_augmentation_is_shown_beside_the_images_as_they_are(tmp_path):
    loader.write_images(tmp_path, 40, 16)
    done = programs.run("check_data", programs.TINY, f"--workdir={tmp_path}", "--augment")
    assert done.returncode == 0, done.stderr
    path = tmp_path / "data_check" / "augment.png"
    assert done.stdout.splitlines()[-1] == str(path)
    picture = np.asarray(Image.open(path))
    names = [name for name in NAMES if name != "colour"]
    assert picture.shape == ((len(names) + 1) * 65 - 1, 80 + 8 * 65 - 1)
    rows = [picture[top : top + 64, 80:] for top in range(0, len(picture), 65)]
    for name, row in zip(names, rows[1:], strict=True):
        assert (row != rows[0]).any(), name
    labels = [picture[top : top + 64, :80] for top in range(0, len(picture), 65)]
    assert all(label.max() > 128 for label in labels)


def test_rows_of_tiles_are_whole_and_in_order():
    first, second = np.random.default_rng(0).uniform(-1, 1, (2, 3, 32, 40, 3))
    picture = pictures.named_rows({"first": first, "second": second})
    assert picture.shape == (2 * 65 - 1, 80 + 3 * 81 - 1, 3)
    for top, row in ((0, first), (65, second)):
        for column, image in enumerate(row):
            left = 80 + column * 81
            shown = picture[top : top + 64, left : left + 80][::2, ::2]
            np.testing.assert_array_equal(shown, pictures.to_uint8(image))
