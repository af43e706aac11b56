"""Translates images to a domain: one file or a folder of PNG, DICOM or NIfTI files.

python -m launch.translate --config=configs/phantom_translate.py --workdir=runs/phantom \
    --input=scan.dcm --translations_to=out

Each image becomes three files: in `translated`, the image in that domain; in `difference`, the map
of what changed, at 16 bits (0 is no change, 65535 is the whole range) or, in NIfTI, as floats; and
in `overlay`, a PNG of the image with the map in red, which volumes have none of. All say that they
are synthetic.
"""

import pathlib
import re
import tempfile
from typing import Any

import ml_collections
import numpy as np
from absl import flags

from data import records
from data.errors import UserError
from data.export import About, depth, write
from data.sources import files, loose
from data.sources.raw import Options, Report
from gan.translation import apply
from launch import cli, distributed, models, originals, prepare, train_translator, version

INPUT = flags.DEFINE_string("input", "", "A file, or a folder of files of one kind.")
DOMAIN = flags.DEFINE_string(
    "domain", "", "To which images are translated; by default --config.translator.healthy."
)
TO = flags.DEFINE_string(
    "translations_to", "", "Folder to make; by default WORKDIR/translations/INPUT-DOMAIN."
)
FORMAT = flags.DEFINE_enum(
    "translations_format", "", ["", "png", "nifti", "dicom"],
    "Of translated images and maps; by default nifti of nifti, else png.",
)  # fmt: skip
_ENDS = {"low": 0.0, "high": 2.0}  # what the ends of a stored map stand for
_RED = np.array([1.0, -1.0, -1.0], np.float32)


@distributed.main_only
def run(config: ml_collections.ConfigDict, workdir: pathlib.Path, overwrite: bool) -> pathlib.Path:
    """Writes the three folders; images become as large as those the translator was trained on."""
    if not INPUT.value:
        raise UserError("--input is missing; give a file or a folder of images")
    source = pathlib.Path(INPUT.value).expanduser()
    if not source.exists():
        raise UserError(f"--input={source} does not exist; give a file or a folder of images")
    spec, state = train_translator.restore(config, workdir)
    domain = _domain(config, spec.domains.names)
    to, code = spec.domains.names[domain], np.asarray(spec.domains.codes[domain], np.float32)
    options = prepare.source_options(config.data)
    listing = loose.list_loose(source, options)
    kind = FORMAT.value or ("nifti" if listing.kind == "nifti" else "png")
    folder = pathlib.Path(TO.value or workdir / "translations" / _folder_name(source, to))
    with tempfile.TemporaryDirectory() as spool:
        read, report = files.read(
            listing, pathlib.Path(spool), size=config.data.size, channels=config.data.channels,
            options=options, processes=config.data.workers,
        )  # fmt: skip
        for line in _left_out(report, options):
            cli.say(f"translate: {line}")
        read.write_originals(pathlib.Path(spool) / "originals.parquet")
        known = originals.read(pathlib.Path(spool) / "originals.parquet")
        if not known:
            raise UserError(
                f"--input={source} has no image that is not blank; give another one, or leave "
                "drop_blank out of --config.data.preprocess"
            )
        found = read.records(["all"])["all"]
        expected = prepare.open_split(workdir, "train").image_shape
        if found.image_shape != expected:
            raise UserError(
                f"--config.data makes images {found.image_shape} and the translator takes "
                f"{expected}; give the --config that it was trained with"
            )
        images = found.read(np.arange(len(found)))
        digest = found.digest()
    made = apply.translate(
        spec.translator, state.ema_params, images, np.repeat(code[None], len(images), 0)
    )
    facts = {
        "synthetic": True,
        "domain": to,
        "digest": digest,
        "translator": models.tree_digest(state.ema_params),
        "software": f"VRN {version.VERSION}",
    }
    ids = [str(id_) for id_ in found.ids]
    maps = apply.difference(images, made)[..., None]
    # Records hold [-1, 1]; NIfTI has floats and a scale to read them by.
    stored = records.from_unit(maps - 1, np.float32 if kind == "nifti" else np.uint16)
    written = {
        "translated": (records.from_unit(made, found.dtype), kind, known, depth(found.dtype)),
        "difference": (stored, kind, {id_: known[id_] | _ENDS for id_ in ids}, 16),
    }
    if images.ndim == 4:
        picture = records.from_unit(overlay(images, maps), np.uint8)
        written["overlay"] = (picture, "png", known, 8)
    for what, (pixels, how, about, bits) in written.items():
        _write(folder / what, pixels, ids, about, how, bits, facts | {"what": what}, overwrite)
    cli.say(f"translate: {len(ids)} images to {facts['domain']}")
    return folder


def overlay(images: np.ndarray, maps: np.ndarray) -> np.ndarray:
    """Images with what changed in red: [N, H, W, C] and [N, H, W, 1] to [N, H, W, 3].

    A place that changed by half the range, 1, or more is all red.
    """
    grey = images if images.shape[-1] == 3 else np.repeat(images[..., :1], 3, -1)
    share = np.clip(maps, 0, 1)
    return (1 - share) * grey + share * _RED


def _folder_name(source: pathlib.Path, domain: str) -> str:
    name = source.resolve().name if source.is_dir() else _names([source.name])[0]
    return name + "-" + re.sub(r"\W+", "-", domain)


def _left_out(report: Report, options: Options) -> list[str]:
    """What there is to say of images that are not translated."""
    lines = [f"{name} can't be read: {why}" for name, why in report.unreadable.items()]
    if report.blank:
        steps = [f"'{step}'" for step in options.preprocess if step.startswith("drop_blank")]
        by = "".join(f", or too few others by {step} of --config.data.preprocess" for step in steps)
        lines.append(f"{report.blank} blank images left out: their pixels are all alike{by}")
    return lines


def _domain(config: ml_collections.ConfigDict, names: tuple[str, ...]) -> int:
    wanted = DOMAIN.value or config.translator.healthy
    if wanted not in names:
        raise UserError(f"--domain={wanted!r} is no domain; choose from {', '.join(names)}")
    return names.index(wanted)


def _names(ids: list[str]) -> list[str]:
    """Paths of files that are made of images: as short as they can be and all differ.

    'a/scan.dcm#0' becomes 'a/scan', or with other frames of its file 'a/scan-0', or with other
    kinds of file of its name 'a/scan.dcm-0'.
    """
    parts = [re.fullmatch(r"(.*?)(\.nii\.gz|\.\w+)?(?:#(\d+))?", id_).groups("") for id_ in ids]
    plain = [name for name, _, _ in parts]
    framed = [f"{name}-{frame}" if frame else name for name, _, frame in parts]
    whole = [id_.replace("#", "-") for id_ in ids]
    return next((names for names in (plain, framed) if len(set(names)) == len(names)), whole)


def _write(
    folder: pathlib.Path,
    pixels: np.ndarray,
    ids: list[str],
    known: dict[str, dict[str, Any]],
    kind: str,
    bits: int,
    facts: dict[str, Any],
    overwrite: bool,
) -> None:
    """One folder of files, each of which says what it is and of which image it was made."""
    part = records.ArrayRecords(pixels, np.full(len(ids), -1), ids, ("unlabelled",), synthetic=True)

    names = _names(ids)

    def place(row: int) -> tuple[pathlib.PurePath, About]:
        name = names[row]
        about = About(
            name=pathlib.PurePath(name).name, class_name="", synthetic=True,
            facts={
                "Source": ids[row], "TargetDomain": facts["domain"], "What": facts["what"],
                "TranslatorDigest": facts["translator"],
            },
            owner="", group=facts["translator"], software=facts["software"],
            **originals.place(known[ids[row]]),
        )  # fmt: skip
        return pathlib.PurePath(name), about

    write(folder, [(part, np.arange(len(ids)), place)], kind=kind, bits=bits, facts=facts,
          overwrite=overwrite, flag="--translations_to")  # fmt: skip


if __name__ == "__main__":
    cli.start(run)
