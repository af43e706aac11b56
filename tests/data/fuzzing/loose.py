"""Damaged npz files and tables, each of which is a source of its own."""

import io
import zipfile

import numpy as np

from tests.data.fuzzing.arrays import NUMBERS
from tests.data.fuzzing.bytewise import ANY


def damaged_npz(seed: int) -> tuple[str, bytes]:
    """The damaged npz file of a number."""
    rng = np.random.default_rng((9, seed))
    images = rng.integers(0, 255, (6, 9, 9), dtype=np.uint8)
    arrays = {"images": images, "labels": np.arange(6) % 2, "class_names": np.array(["a", "b"])}
    draw, file = rng.random(), io.BytesIO()
    if draw < 0.3:
        key = ("images", "labels", "class_names")[rng.integers(3)]
        strange = (
            np.array([None, 1], object), np.zeros(0), np.zeros((6, 9)), np.full((6, 9, 9), np.nan),
            np.array(["x"] * 6), np.zeros((2,) * 9), np.array(7), np.arange(6) - 9,
            np.full(6, 2**62), np.zeros((6, 9, 9, 7), np.uint8), np.zeros((6, 0, 9), np.uint8),
        )  # fmt: skip
        arrays[key] = strange[rng.integers(len(strange))]
        np.savez(file, allow_pickle=True, **arrays)
        return "strange", file.getvalue()
    if draw < 0.4:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, array in arrays.items():
                member = io.BytesIO()
                np.save(member, array)
                content = member.getvalue()
                if name == "images":
                    shape = tuple(int(rng.choice(NUMBERS)) for _ in range(3))
                    member = io.BytesIO()
                    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
                    np.lib.format.write_array_header_1_0(member, header)
                    content = member.getvalue() + content[128:]
                archive.writestr(("../" if rng.random() < 0.2 else "") + f"{name}.npy", content)
        return "absurd", file.getvalue()
    if draw < 0.405:
        arrays["images"] = np.zeros((3000, 1000, 1000), np.uint8)
        np.savez_compressed(file, **arrays)
        return "bomb", file.getvalue()
    (np.savez if rng.random() < 0.5 else np.savez_compressed)(file, **arrays)
    change = ANY[rng.integers(len(ANY))]
    return change.__name__, change(rng, file.getvalue())


def damaged_table(seed: int) -> tuple[str, bytes]:
    """The damaged table of a number: paths that lead elsewhere, strange labels, damaged bytes."""
    rng = np.random.default_rng((10, seed))
    rows = [["file", "label", "patient", "split"]]
    rows += [[f"class/{i}.png", "ab"[i % 2], f"p{i}", ""] for i in range(6)]
    strange = (
        "../set/class/0.png", "/etc/passwd", "class/../class/1.png", "\0", "x" * 5000, "", ".",
        "class", "~", "class/\udcff.png", "-1", "nan", "=1+1", "train", "\u202e", "class\\2.png",
    )  # fmt: skip
    for _ in range(rng.integers(1, 4)):
        row, column = rng.integers(len(rows)), rng.integers(4)
        rows[row][column] = strange[rng.integers(len(strange))]
    text = "\n".join(",".join(row) for row in rows).encode("utf-8", "surrogateescape")
    if rng.random() < 0.4:
        change = ANY[rng.integers(len(ANY))]
        return change.__name__, change(rng, text)
    return "strange", text
