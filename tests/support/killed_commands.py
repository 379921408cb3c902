"""Every command that writes, small enough to be killed a hundred times, and what a reader sees of its work.

Each works in a folder of its own, on what lies there before.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from builders import SMALL_SHARDS, Pictures, Stop, depth_of
from cutout_photos import figure, redness, write_photo
from kinds import write_samples
from stored import open_stored
from zarr.storage import LocalStore

from fgbgpack import begin_create, create, create_part, fill_depth, finish_create, open_dataset
from fgbgpack.cards import About, write_cards
from fgbgpack.cutout import cut_out
from fgbgpack.cutout.table import TABLE
from fgbgpack.depth import Execution
from fgbgpack.document import PLACEMENTS
from fgbgpack.errors import FgbgError
from fgbgpack.export import export, verify_export
from fgbgpack.export.output_folder import files_of
from fgbgpack.pipeline import (
    ImportSpec,
    convert,
    import_folder,
    materialize,
    merge,
    repair,
    verify,
    virtualize,
)
from fgbgpack.rendering.samples import write_samples as write_sample_pictures
from fgbgpack.sources.exported import DOCUMENT
from fgbgpack.spec import DatasetSpec

#: Two shards of each array that has any.
SHARDS = replace(SMALL_SHARDS, pixel_shard_bytes=20_000)
PARTS = {"train": 0.5, "test": 0.5}
#: What verifying records is the day, and that may be another one by the time it is done again.
_DAY = re.compile(rb'"date": "\d{4}-\d\d-\d\d"')


@dataclass(frozen=True)
class Inputs:
    """What commands read that do not lie where they write."""

    pictures: Pictures
    model: Path
    other_model: Path
    guide: Path
    source: Path
    virtual: Path
    file: Path
    samples: Path
    photos: Path
    cutter: Path

    @classmethod
    def make(cls, folder: Path, model: Path, other_model: Path, guide: Path) -> Inputs:
        """Make all of them in a folder."""
        pictures = Pictures(folder, 2, 2)
        paths = [folder / name for name in ("source.zarr", "virtual.zarr", "source.h5", "samples")]
        for i, name in enumerate(("ann", "bob", "cy")):
            write_photo(folder / f"photos/{name}.png", figure(70, 50 + i), seed=i)
        cutter = redness(folder / "models" / "cutter.onnx")
        inputs = cls(pictures, model, other_model, guide, *paths, folder / "photos", cutter)
        make(inputs, inputs.source, seed=5)
        open_dataset(inputs.source).save_split("mine", PARTS)
        make(inputs, inputs.virtual, virtual=True, seed=5)
        convert(inputs.source, inputs.file)
        write_samples(inputs.samples, inputs.source, depth=True)
        return inputs

    def spec(self, *, depth: bool = True, guided: bool = False, **fields: Any) -> DatasetSpec:
        """A spec of 16 samples."""
        guide = {"guide": str(self.guide), "scale": 2} if guided else {}
        model = depth_of(self.model, **guide) if depth else None
        return self.pictures.spec(placements=2, chunk=3, depth=model, **fields)


def make(inputs: Inputs, path: Path, *, overwrite=False, virtual=False, **fields: Any) -> None:
    create(
        path,
        inputs.spec(**fields),
        workers=1,
        layout=SHARDS,
        overwrite=overwrite,
        virtual=virtual,
    )


# --- what a reader sees ----------------------------------------------------------------------------


def digest(*arrays: np.ndarray) -> str:
    found = hashlib.sha256()
    for array in arrays:
        found.update(f"{array.dtype} {array.shape}".encode() + array.tobytes())
    return found.hexdigest()


def everything(path: Path) -> object:
    """All that a dataset holds."""
    ds = open_stored(path)
    arrays = ds.to_numpy()
    return sorted(arrays), digest(*(arrays[name] for name in sorted(arrays))), json.dumps(ds.splits)


def pixels(path: Path) -> object:
    """Images, masks and placements of a dataset, be its depth complete or not."""
    ds = open_dataset(path, allow_incomplete=True)
    placements = [getattr(ds.placements, name)[:] for name in PLACEMENTS]
    return digest(ds.image[:], ds.mask[:], *placements)


def exported(path: Path) -> object:
    """The files of an export, which are those of its list."""
    verify_export(path, workers=1).check()
    return {name: (path / name).read_bytes() for name in (*(files_of(path) or ()), DOCUMENT)}


def content(path: Path) -> object:
    """A file's content; ``None`` if there is none."""
    return path.read_bytes() if path.exists() else None


def contents(folder: Path) -> dict[str, bytes | None]:
    """All files and folders below one, with the files' contents."""
    return {
        path.relative_to(folder).as_posix(): None if path.is_dir() else _DAY.sub(b"", path.read_bytes())
        for path in sorted(folder.rglob("*"))
    }


def sound_file(root: Path) -> dict[str, object]:
    """A folder of one HDF5 file, whose two places for a document may be used in any order."""
    verify(root / "it.h5", workers=1).check()
    return {**dict.fromkeys(contents(root)), "it.h5": everything(root / "it.h5")}


# --- the commands ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Command:
    """A command, what is there ``before`` it, and what readers see.

    ``whole`` things are the old or the new after any kill, and ``readers`` of others may get an error, too.
    Each file in ``folders`` is the old or the new. ``result`` is in the end what it is without a kill.
    ``lacks`` is what the system lacks: see ``kill_points.lacking``.
    """

    run: Callable[[Inputs, Path], object]
    before: Callable[[Inputs, Path], object] = lambda inputs, root: None
    whole: Mapping[str, Callable[[Path], object]] = field(default_factory=dict)
    readers: Mapping[str, Callable[[Path], object]] = field(default_factory=dict)
    folders: tuple[str, ...] = ()
    result: Callable[[Path], Mapping[str, object]] = contents
    lacks: tuple[str, ...] = ()


def see(read: Callable[[Path], object], path: Path) -> object:
    """What a reader sees, or the error that it gets."""
    try:
        return read(path)
    except FgbgError as exc:
        return exc


ZARR = {"it.zarr": everything}
HDF5 = {"it.h5": everything}
OUT = {"out": exported}


def _made(name="it.zarr", **fields: Any) -> Callable[[Inputs, Path], object]:
    return lambda inputs, root: make(inputs, root / name, **fields)


def _with_others(before: Callable[[Inputs, Path], object], name: str) -> Callable[[Inputs, Path], object]:
    """And files of others in the folder of that name."""

    def prepare(inputs: Inputs, root: Path) -> None:
        before(inputs, root)
        (root / name / "notes").mkdir()
        (root / name / "notes/mine.txt").write_text("mine")
        (root / name / "mine.txt").write_text("mine")

    return prepare


def _with_own_array(before: Callable[[Inputs, Path], object]) -> Callable[[Inputs, Path], object]:
    def prepare(inputs: Inputs, root: Path) -> None:
        before(inputs, root)
        group = zarr.open_group(root / "it.zarr", mode="r+")
        group.create_array("mine", data=np.arange(4), chunks=(4,), overwrite=False)
        group.attrs["mine"] = 1

    return prepare


def _in_parts(inputs: Inputs, root: Path) -> None:
    """Begin a dataset, write its parts, and finish it."""
    begin_create(root / "it.zarr", inputs.spec(guided=True), workers=1, layout=SHARDS)
    for part in (1, 0):
        create_part(root / "it.zarr", part, 2, workers=1)
    finish_create(root / "it.zarr", workers=1)


def _depth(name: str, **options: Any) -> Callable[[Inputs, Path], object]:
    def run(inputs: Inputs, root: Path) -> None:
        model = inputs.other_model if options.get("overwrite") else inputs.model
        fill_depth(root / name, depth_of(model), workers=1, layout=SHARDS, **options)

    return run


def _split(name: str) -> Callable[[Inputs, Path], object]:
    return lambda inputs, root: open_dataset(root / name).save_split("halves", PARTS, seed=3)


def _export(to: str, samples: slice = slice(0, 5), **options: Any) -> Callable[[Inputs, Path], object]:
    return lambda inputs, root: export(
        inputs.source, root / "out", to=to, samples=samples, workers=1, **options
    )


def _exports(to: str, **options: Any) -> Command:
    return Command(_export(to, **options), readers=OUT)


def _convert(source: str, name: str, **options: Any) -> Callable[[Inputs, Path], object]:
    return lambda inputs, root: convert(getattr(inputs, source), root / name, workers=1, **options)


def _materialize(name: str, out: str | None = None) -> Callable[[Inputs, Path], object]:
    def run(inputs: Inputs, root: Path) -> None:
        target = None if out is None else root / out
        materialize(root / name, target, workers=1, layout=SHARDS)

    return run


def _lost(inputs: Inputs, root: Path) -> None:
    """A dataset that has lost pixels, sources and metadata, and half of a shard of masks."""
    shutil.copytree(inputs.source, path := root / "it.zarr")
    (path / "image/c/0/0/0/0").unlink()
    (path / "sources/background/c/0/0/0/0").unlink()
    (path / "x/zarr.json").unlink()
    masks = path / "mask/c/1/0/0"
    masks.write_bytes(masks.read_bytes()[: masks.stat().st_size // 2])


def _damaged(inputs: Inputs, root: Path) -> None:
    """The same with a damaged byte in its depth, which only reading it all finds."""
    _lost(inputs, root)
    path = root / "it.zarr/depth/c/1/0/0"
    content = bytearray(path.read_bytes())
    content[5] ^= 255
    path.write_bytes(content)


def _changed(inputs: Inputs, root: Path) -> None:
    """A dataset whose pixels another tool has changed."""
    shutil.copytree(inputs.source, path := root / "it.zarr")
    array = zarr.open_group(LocalStore(path), mode="r+", use_consolidated=False)["mask"]
    array[2] = 7


def _cards_of_others(inputs: Inputs, root: Path) -> None:
    """A dataset with cards, which has got a split since then."""
    make(inputs, path := root / "it.zarr")
    write_cards(path, About(license="CC-BY-4.0"), preview=True)
    open_dataset(path).save_split("mine", PARTS)


def _import(**options: Any) -> Callable[[Inputs, Path], object]:
    return lambda inputs, root: import_folder(
        root / "it.zarr", ImportSpec(str(inputs.samples)), workers=1, layout=SHARDS, **options
    )


def _virtualize(inputs: Inputs, root: Path) -> None:
    virtualize(inputs.source, root / "it.zarr", workers=1)


def _unfinished(inputs: Inputs, root: Path) -> None:
    """A dataset that its command has not finished."""
    with suppress(KeyboardInterrupt):
        create(root / "it.zarr", inputs.spec(), workers=1, layout=SHARDS, on_event=Stop("depth", 1))


def _copied(source: str, name: str) -> Callable[[Inputs, Path], object]:
    def prepare(inputs: Inputs, root: Path) -> None:
        found = getattr(inputs, source)
        (shutil.copytree if found.is_dir() else shutil.copy)(found, root / name)

    return prepare


def _merge(inputs: Inputs, root: Path) -> None:
    merge([inputs.source, inputs.virtual], root / "it.zarr", workers=1, layout=SHARDS)


def _sample(inputs: Inputs, root: Path) -> None:
    write_sample_pictures(root / "pictures", backgrounds=1, foregrounds=2)


def _cutout(inputs: Inputs, root: Path) -> None:
    cut_out(inputs.photos, root / "out", model=inputs.cutter, execution=Execution(device="cpu"))


def _decided(inputs: Inputs, root: Path) -> None:
    """Cut-outs, of which one is not to be used, and another is to be made again."""
    _cutout(inputs, root)
    table = root / "out" / TABLE
    table.write_text("file,keep\nann.png,no\n", encoding="utf-8")
    (root / "out/masks/bob.png").unlink()


_CARDS = {f"it.zarr/{name}": content for name in ("croissant.json", "DATACARD.md", "preview.png")}
_OVERWRITE = Command(
    _made(seed=1, overwrite=True), _with_own_array(_with_others(_made(), "it.zarr")), whole=ZARR
)
_OVERWRITE_EXPORT = Command(
    _export("folder", slice(3, 8), overwrite=True), _with_others(_export("npz"), "out"), whole=OUT
)

COMMANDS: Mapping[str, Command] = {
    "create": Command(_made(), readers=ZARR),
    "create guided": Command(_made(guided=True), readers=ZARR),
    "create in parts": Command(_in_parts, readers=ZARR),
    "create in parts without flock": Command(_in_parts, readers=ZARR, lacks=("flock",)),
    "create virtual": Command(_made(virtual=True), readers=ZARR),
    "create without syncfs": Command(_made(depth=False), readers=ZARR, lacks=("syncfs",)),
    "create without flock": Command(_made(depth=False), readers=ZARR, lacks=("flock",)),
    "create --overwrite": _OVERWRITE,
    "create --overwrite without exchange": Command(
        _OVERWRITE.run, _OVERWRITE.before, readers=ZARR, lacks=("exchange",)
    ),
    "create of an unfinished one": Command(_made(), _unfinished, readers=ZARR),
    "create --overwrite of an unfinished one": Command(
        _made(seed=1, depth=False, overwrite=True), _unfinished, readers=ZARR
    ),
    "create of a damaged one": Command(_made(seed=5), _lost, readers=ZARR),
    "create HDF5": Command(_made("it.h5"), readers=HDF5),
    "create --overwrite HDF5": Command(_made("it.h5", seed=1, overwrite=True), _made("it.h5"), whole=HDF5),
    "depth": Command(_depth("it.zarr"), _made(depth=False), {"it.zarr": pixels}, ZARR),
    "depth HDF5": Command(_depth("it.h5"), _made("it.h5", depth=False), HDF5),
    "depth --overwrite": Command(_depth("it.zarr", overwrite=True), _made(), ZARR),
    "depth --overwrite without exchange": Command(
        _depth("it.zarr", overwrite=True), _made(), readers=ZARR, lacks=("exchange",)
    ),
    "split": Command(_split("it.zarr"), _made(), ZARR),
    "split HDF5": Command(_split("it.h5"), _made("it.h5"), HDF5, result=sound_file),
    "export folder": _exports("folder"),
    "export webdataset": _exports("webdataset", shard_samples=2),
    "export mds": _exports("mds", shard_bytes=4000),
    "export coco": _exports("coco"),
    "export npz": _exports("npz", shard_samples=2),
    "export --overwrite": _OVERWRITE_EXPORT,
    "export --overwrite without exchange": Command(
        _OVERWRITE_EXPORT.run, _OVERWRITE_EXPORT.before, readers=OUT, lacks=("exchange",)
    ),
    "convert to HDF5": Command(_convert("source", "it.h5"), readers=HDF5),
    "convert --overwrite to HDF5": Command(
        _convert("source", "it.h5", overwrite=True), _made("it.h5"), whole=HDF5
    ),
    "convert to Zarr": Command(_convert("file", "it.zarr"), readers=ZARR),
    "convert --overwrite to Zarr": Command(_convert("file", "it.zarr", overwrite=True), _made(), whole=ZARR),
    "materialize": Command(_materialize("it.zarr"), _copied("virtual", "it.zarr"), ZARR),
    "materialize HDF5": Command(_materialize("it.h5"), _made("it.h5", virtual=True), HDF5),
    "materialize to another": Command(
        _materialize("virtual.zarr", "it.zarr"),
        _copied("virtual", "virtual.zarr"),
        {"virtual.zarr": everything},
        ZARR,
    ),
    "merge": Command(_merge, readers=ZARR),
    "virtualize": Command(_virtualize, readers=ZARR),
    "repair": Command(lambda inputs, root: repair(root / "it.zarr", workers=1), _damaged, readers=ZARR),
    "verify --record": Command(
        lambda inputs, root: verify(root / "it.zarr", workers=1, record=True).check(), _made(), ZARR
    ),
    "verify --accept": Command(
        lambda inputs, root: verify(root / "it.zarr", workers=1, accept=True).check(), _changed, readers=ZARR
    ),
    "card": Command(
        lambda inputs, root: write_cards(root / "it.zarr", preview=True), _made(), {**ZARR, **_CARDS}
    ),
    "card again": Command(
        lambda inputs, root: write_cards(root / "it.zarr"), _cards_of_others, {**ZARR, **_CARDS}
    ),
    "sample": Command(
        _sample, folders=tuple(f"pictures/{name}" for name in ("backgrounds", "foregrounds", "depth"))
    ),
    "cutout": Command(_cutout),
    "cutout after decisions": Command(_cutout, _decided),
    "import": Command(_import(), readers=ZARR),
    "import --overwrite": Command(_import(overwrite=True), _made(), ZARR),
}
