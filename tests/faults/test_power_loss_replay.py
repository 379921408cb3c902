"""Power losses in the middle of every command: its calls are recorded, and the files that a journalling file
system may hold after each of them are made and read.

Reading gives what was there before, what the command makes, or an error of ours, and the same command again
ends as if nothing had happened. Once a command has reported success, what it made is there.
"""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import zarr
from builders import tree
from command_line import run
from cutout_photos import figure, redness, write_photo
from power_loss import Loss, Replay
from recorded_calls import Files, Recording, can_record, read_lines, record, restore, snapshot
from stored import open_stored

from fgbgpack.cutout import cut_out
from fgbgpack.depth import Execution
from fgbgpack.errors import FgbgError
from fgbgpack.storage.store import DatasetStore

#: Power losses of each command: with ``--faults all``, and else.
_ALL, _SOME = 60, 6


@dataclass(frozen=True)
class Command:
    """A command line, run in a folder in which there is a ``start``; ``result`` is what it makes or changes.

    ``keeps``: what was there can be read at any time, until what is new can be. ``parts``: how the paths of
    files begin that appear one by one, each whole. ``is_exact``: the same command leaves the same bytes, and
    not only the same arrays and attributes.
    """

    words: Sequence[object]
    result: str
    start: Callable[[Path], object] = lambda folder: None
    keeps: bool = False
    parts: tuple[str, ...] = ()
    is_exact: bool = True


@pytest.fixture(scope="module")
def commands(pictures, depth_model, dataset, depth_dataset, kinds) -> dict[str, Command]:
    """Every command that writes."""
    folders = ("--backgrounds", pictures.backgrounds, "--foregrounds", pictures.foregrounds)
    # Shards of several pages.
    made = (
        *folders,
        "--depth-model",
        "none",
        "--size",
        "64x48",
        "--foreground-height",
        20,
        "--placements",
        2,
    )
    of_model = ("--depth-model", depth_model, "--depth-scale", 1)

    def copy(source: Path, name: str) -> Callable[[Path], object]:
        if source.is_dir():
            return lambda folder: shutil.copytree(source, folder / name)
        return lambda folder: shutil.copy(source, folder / name)

    def damaged(folder: Path) -> None:
        shutil.copytree(depth_dataset, folder / "it.zarr")
        (folder / "it.zarr/mask/c/0/0/0").unlink()
        (folder / "it.zarr/depth/c/1/0/0").write_bytes(b"")
        (folder / "it.zarr/y/c/0").write_bytes(b"")

    def changed(folder: Path) -> None:
        shutil.copytree(dataset, folder / "it.zarr")
        group = zarr.open_group(folder / "it.zarr")
        group["mask"][3] = 7

    def exported(folder: Path) -> None:
        shutil.copytree(dataset, folder / "it.zarr")
        assert (
            run("export", folder / "it.zarr", folder / "out", "--to", "npz", "--samples", "0:9").exit_code
            == 0
        )
        (folder / "out/mine").mkdir()
        (folder / "out/mine/notes.txt").write_text("of others")

    def with_file(folder: Path) -> None:
        shutil.copytree(dataset, folder / "it.zarr")
        shutil.copy(kinds.hdf5("depth"), folder / "it.h5")

    cutout = ("cutout", "photos", "out", "--model", "cutter.onnx", "--device", "cpu")

    def photographs(folder: Path) -> None:
        redness(folder / "cutter.onnx")
        for seed, name in enumerate(("ann", "bob")):
            write_photo(folder / f"photos/{name}.png", figure(40, 30 + seed), seed=seed)

    def decided(folder: Path) -> None:
        photographs(folder)
        done = cut_out(
            folder / "photos", folder / "out", model=folder / "cutter.onnx", execution=Execution(device="cpu")
        )
        Path(done.table).write_text("file,keep\nann.png,no\n", encoding="utf-8")
        (folder / "out/masks/bob.png").unlink()

    images = Path(kinds["imported"]).parent / "pictures of imported"
    return {
        "create": Command(("create", "it.zarr", *made), "it.zarr"),
        "create with depth": Command(("create", "it.zarr", *made[:4], *made[6:], *of_model), "it.zarr"),
        "create --overwrite": Command(
            ("create", "it.zarr", *made, "--overwrite"), "it.zarr", copy(depth_dataset, "it.zarr"), keeps=True
        ),
        "create to HDF5": Command(("create", "it.h5", *made), "it.h5"),
        "depth": Command(("depth", "it.zarr", *of_model), "it.zarr", copy(dataset, "it.zarr")),
        "split": Command(
            ("split", "it.zarr", "a", "train=0.5", "test=0.5"),
            "it.zarr",
            copy(dataset, "it.zarr"),
            keeps=True,
        ),
        "split in HDF5": Command(
            ("split", "it.h5", "a", "train=0.5", "test=0.5"),
            "it.h5",
            copy(kinds.hdf5("plain"), "it.h5"),
            keeps=True,
            is_exact=False,
        ),
        "export": Command(("export", "it.zarr", "out", "--to", "npz"), "out", copy(dataset, "it.zarr")),
        "export of files": Command(
            ("export", "it.zarr", "out", "--to", "folder", "--samples", "0:9"),
            "out",
            copy(dataset, "it.zarr"),
        ),
        "export --overwrite": Command(
            ("export", "it.zarr", "out", "--to", "webdataset", "--overwrite"),
            "out",
            exported,
            keeps=True,
            parts=("out/mine",),
        ),
        "convert to HDF5": Command(("convert", "it.zarr", "it.h5"), "it.h5", copy(depth_dataset, "it.zarr")),
        "convert to HDF5 --overwrite": Command(
            ("convert", "it.zarr", "it.h5", "--overwrite"), "it.h5", with_file, keeps=True
        ),
        "convert to Zarr": Command(
            ("convert", "it.h5", "it.zarr"), "it.zarr", copy(kinds.hdf5("depth"), "it.h5")
        ),
        "materialize": Command(
            ("materialize", "it.zarr"), "it.zarr", copy(kinds["depth-virtual"], "it.zarr")
        ),
        "virtualize": Command(("virtualize", "it.zarr", "v.zarr"), "v.zarr", copy(kinds["depth"], "it.zarr")),
        "repair": Command(("repair", "it.zarr"), "it.zarr", damaged),
        "verify --record": Command(
            ("verify", "it.zarr", "--record"), "it.zarr", copy(dataset, "it.zarr"), keeps=True
        ),
        "verify --accept": Command(("verify", "it.zarr", "--accept"), "it.zarr", changed, is_exact=False),
        "card": Command(
            ("card", "it.zarr", "--preview"),
            "it.zarr",
            copy(dataset, "it.zarr"),
            keeps=True,
            parts=("it.zarr/croissant.json", "it.zarr/DATACARD.md", "it.zarr/preview.png"),
        ),
        "import": Command(("import", images, "it.zarr"), "it.zarr"),
        "sample": Command(
            ("sample", "new", "--backgrounds", 1, "--foregrounds", 1),
            "new",
            parts=("new",),
        ),
        "cutout": Command(cutout, "out", photographs, parts=("out",)),
        "cutout after decisions": Command(cutout, "out", decided, parts=("out",)),
    }


#: The same tests in a few processes, and one recording for each.
GROUPS = (
    ("create", "create with depth", "convert to HDF5", "export", "verify --record", "sample"),
    ("create --overwrite", "create to HDF5", "depth", "export of files", "verify --accept"),
    ("export --overwrite", "split", "convert to HDF5 --overwrite", "repair", "card", "cutout"),
    ("split in HDF5", "convert to Zarr", "materialize", "virtualize", "import", "cutout after decisions"),
)


def read(path: Path) -> tuple[str, str]:
    """What is found at a path: ``("whole", digest)`` of all that it says, or ``("error", code)``.

    In a folder that is no dataset, what others put there and what has a hidden name is left out.
    """
    digest = hashlib.sha256()
    if path.suffix in (".zarr", ".h5"):
        try:
            arrays = open_stored(path).to_numpy()
            attributes = DatasetStore.open(path, read_only=True).root()["attributes"]
        except FgbgError as exc:
            return "error", exc.code
        for name, array in sorted(arrays.items()):
            digest.update(repr((name, array.dtype, array.shape)).encode() + array.tobytes())
        digest.update(repr(attributes).encode())
    elif not path.exists():
        return "error", "missing"
    else:
        for name, content in tree(path).items():
            if not name.startswith((".", "mine/")):
                digest.update(repr((name, content)).encode())
    return "whole", digest.hexdigest()


def is_part(command: Command, name: str) -> bool:
    """Whether a file or folder is one of a command's parts, and its name is not that of an unfinished one."""
    return name.startswith(command.parts) and "/." not in name and not name.endswith(".partial")


def endings(
    folder: Path, command: Command, before: Files, replay: Replay, losses: Iterable[tuple[Loss, Files]]
) -> Iterator[tuple[str, list[str]]]:
    """What each power loss leaves, and what is wrong with that or with the same command after it."""
    result, new = folder / command.result, replay.whole()
    restore(folder, new)
    after = read(result)
    restore(folder, before)
    at_first = read(result)
    for loss, files in losses:
        restore(folder, files)
        found, wrong = read(result), []
        outcome = "new" if found == after else "old" if found == at_first else "an error"
        for name, content in files.items():
            if is_part(command, name) and content not in (before.get(name), new.get(name)):
                wrong.append(f"{name} is not whole")
        if outcome == "an error" and found[0] == "whole" and command.result in command.parts:
            outcome = "whole files, not all"
        elif outcome == "an error" and (found[0] == "whole" or command.keeps):
            wrong.append(f"there is {found}")
        if loss.calls >= replay.said and outcome != "new":
            wrong.append(f"success was reported, and there is {outcome}")
        if loss.calls >= replay.said:
            lost = [name for name in new if is_part(command, name) and files.get(name, 0) != new[name]]
            wrong += [f"success was reported, and {name} is lost" for name in lost]
        ended = run(*command.words)
        if ended.exit_code:
            wrong.append(f"the same command ends with {ended.output or ended.exception}")
        elif command.is_exact:
            there = snapshot(folder)
            others = [name for name in there.keys() | new.keys() if there.get(name, 0) != new.get(name, 0)]
            if others:
                wrong.append(f"the same command leaves others: {sorted(others)}")
        elif read(result) != after:
            wrong.append("the same command leaves another one")
        yield outcome, [f"{loss}, {found}: {what}" for what in wrong]


@pytest.mark.slow
@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group[0])
def test_a_power_loss_leaves_the_old_the_new_or_an_error(
    tmp_path, monkeypatch, commands, all_faults, count_faults, group
):
    if not can_record(tmp_path):
        pytest.skip("needs strace, and that it may trace")
    folders = {name: tmp_path / name.replace(" ", "-") for name in group}
    for name, folder in folders.items():
        folder.mkdir()
        commands[name].start(folder)
    words = {folder: [str(word) for word in commands[name].words] for name, folder in folders.items()}
    recordings = record(words, tmp_path / "calls.log")
    outcomes: Counter[str] = Counter()
    wrong = []
    for name, folder in folders.items():
        command, recording = commands[name], recordings[folder]
        replay = Replay(recording)
        assert replay.whole() == snapshot(folder), f"{name}: the recording is not whole"
        monkeypatch.chdir(folder)
        losses = replay.losses(_ALL if all_faults else _SOME, seed=len(name))
        for outcome, found in endings(folder, command, recording.before, replay, losses):
            outcomes[outcome] += 1
            wrong += [f"{name}: {what}" for what in found]
    count_faults("power losses", outcomes)
    assert not wrong, "\n".join(wrong)


def test_folders_are_there_before_what_is_made_in_them_though_their_calls_end_later(tmp_path):
    def quoted(path):
        return "".join(f"\\x{byte:02x}" for byte in str(path).encode())

    outer, inner = tmp_path / "outer", tmp_path / "outer" / "inner"
    here = f"AT_FDCWD<{quoted(tmp_path)}>"
    lines = [
        f'1 mkdir("{quoted(outer)}", 0777 <unfinished ...>',
        f'2 mkdirat({here}, "{quoted(inner)}", 0777 <unfinished ...>',
        f'3 mkdir("{quoted(inner)}", 0777) = -1 EEXIST (File exists)',
        f'3 openat({here}, "{quoted(inner / "file")}", O_WRONLY|O_CREAT, 0666) = 3<{quoted(inner / "file")}>',
        "1 <... mkdir resumed>) = 0",
        "2 <... mkdirat resumed>) = 0",
        f'2 mkdir("{quoted(inner / "last")}", 0777) = 0',
    ]
    recording = Recording(tmp_path, {})
    read_lines(lines, {tmp_path: recording})
    made = [(call.kind, call.path) for call in recording.calls]
    expected = [("mkdir", "outer"), ("mkdir", "outer/inner"), ("create", "outer/inner/file")]
    assert made == [*expected, ("mkdir", "outer/inner/last")]

    with pytest.raises(AssertionError, match="in a folder that nobody made"):
        read_lines([f'1 mkdir("{quoted(tmp_path / "none" / "it")}", 0777) = 0'], {tmp_path: recording})


@pytest.mark.parametrize("synced", [(), ("file",), ("file", "folder"), ("file system",)])
def test_what_is_not_synced_may_be_lost_though_success_was_reported(tmp_path, synced):
    recording = Recording(tmp_path, {"it": b"before"})
    recording.note_open("new", "O_WRONLY|O_CREAT", 3)
    recording.note_write("new", 3, b"n" * 10_000, None)
    if "file" in synced:
        recording.note_sync("fsync", "new", len(recording.calls))
    recording.note_naming("rename", "new", "it")
    if "folder" in synced:
        recording.note_sync("fsync", "", len(recording.calls))
    if "file system" in synced:
        recording.note_sync("syncfs", "", len(recording.calls))
    recording.note_said()
    replay = Replay(recording)
    losses = [(loss, files) for loss, files in replay.losses(200, 0) if loss.calls >= replay.said]
    found = {files["it"] for _, files in losses}
    whole = b"n" * 10_000
    if synced in (("file", "folder"), ("file system",)):
        assert found == {whole}
    elif synced == ("file",):
        # The file and its name are on the disk, and the exchange of the names may not be.
        assert found == {whole, b"before"}
        assert all(files.get("new", whole) == whole for _, files in losses)
    else:
        assert {whole, b"", bytes(10_000), b"before"} <= found
