"""Sample pictures: the same every time, true depth, figures that can be pasted."""

from __future__ import annotations

import errno
import functools
import hashlib
import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from durability import recorded
from naive_camera import naive_rays
from PIL import Image

from fgbgpack.errors import DatasetError, SpecError
from fgbgpack.files import locked
from fgbgpack.rendering import render_figure, render_portrait, render_scene, samples, write_samples

KINDS = ["mall", "lobby", "hall", "gallery", "office"]

#: Renders each picture that several tests look at once.
scene_of = functools.cache(functools.partial(render_scene, seed=3, height=90, width=120))
figure_of = functools.cache(functools.partial(render_figure, seed=2, height=120))


@pytest.mark.slow
@pytest.mark.parametrize("index", range(10))
def test_scene_is_plausible(index: int):
    scene = scene_of(index)
    assert scene.kind == KINDS[index % 5]
    assert scene.image.shape == (90, 120, 3)
    assert scene.image.dtype == np.uint8
    assert scene.depth.shape == (90, 120)
    assert scene.depth.dtype == np.float32
    assert np.isfinite(scene.depth).all()
    assert scene.depth.min() > 0.3
    assert scene.depth.max() < 65.0
    assert scene.depth.max() > 1.5 * scene.depth.min(), "seen in depth"
    grey = scene.image.astype(float).mean(axis=2)
    assert 60 < grey.mean() < 200
    assert grey.std() > 20, "light and dark"
    # Grain and texture: even the calmest quarter of 10x10 blocks is not flat.
    blocks = grey.reshape(9, 10, 12, 10).std(axis=(1, 3))
    assert np.quantile(blocks, 0.25) > 1.0
    assert len(np.unique(scene.image.reshape(-1, 3), axis=0)) > 1500


@pytest.mark.parametrize("index", [1, 2, 4])
def test_floor_of_a_scene_has_the_depth_of_the_floor(index: int):
    """Most of the lowest rows is floor at y = 0: depth is camera height over the fall of the ray."""
    scene = scene_of(index)
    rays = naive_rays(scene.camera, 90, 120)
    height_seen = scene.camera.position[1] + scene.depth * rays[..., 1]
    low = height_seen[-12:]
    assert low.min() > -1e-3, "nothing is below the floor"
    assert (np.abs(low) < 0.03).mean() > 0.3


@pytest.mark.slow
def test_scene_is_a_function_of_seed_and_index():
    one, again = (render_scene(7, seed=11, height=48, width=64) for _ in range(2))
    assert one.image.tobytes() == again.image.tobytes()
    assert one.depth.tobytes() == again.depth.tobytes()
    assert one.camera == again.camera
    others = [render_scene(12, seed=11, height=48, width=64), render_scene(7, seed=12, height=48, width=64)]
    for other in others:
        assert other.kind == one.kind
        assert np.abs(other.depth - one.depth).mean() > 0.1
        assert np.abs(other.image.astype(int) - one.image).mean() > 5
    assert render_scene(0, seed=2**64 - 1, height=8, width=8).image.shape == (8, 8, 3)


def test_size_changes_sampling_only():
    """The same view at half the size sees the same room: depth agrees away from edges."""
    large, small = scene_of(3), render_scene(3, seed=3, height=45, width=60)
    assert small.camera.focal == large.camera.focal / 2
    blocks = large.depth.reshape(45, 2, 60, 2)
    smooth = blocks.max(axis=(1, 3)) - blocks.min(axis=(1, 3)) < 0.02 * small.depth
    assert smooth.mean() > 0.3
    assert np.allclose(blocks.mean(axis=(1, 3))[smooth], small.depth[smooth], rtol=0.02)


@pytest.mark.parametrize("index", range(12))
def test_figure_can_be_pasted(index: int):
    figure = figure_of(index)
    assert figure.dtype == np.uint8
    height, width, channels = figure.shape
    assert (height, channels) == (120, 4)
    assert 0.15 * height < width < 0.9 * height
    alpha = figure[..., 3]
    for border in (alpha[0], alpha[-1], alpha[:, 0], alpha[:, -1]):
        assert border.any(), "cropped to the figure"
    solid_share = (alpha == 255).mean()
    assert 0.15 < solid_share < 0.85, "an opaque body in a clear ground"
    soft = (alpha > 0) & (alpha < 255)
    opaque = alpha == 255
    grown = opaque.copy()
    for _ in range(3):
        ringed = np.pad(grown, 1)
        grown = ringed[:-2, 1:-1] | ringed[2:, 1:-1] | ringed[1:-1, :-2] | ringed[1:-1, 2:] | grown
    assert soft.sum() > height, "a soft edge all round"
    assert grown[alpha > 30].mean() > 0.97, "and no halo: what is partly covered lies at the body"
    # The person stands in one piece from head to foot.
    assert (alpha > 128).any(axis=1)[1:-1].all()


@pytest.mark.parametrize("index", range(4))
def test_colour_under_soft_alpha_is_the_body_s_own(index: int):
    """Straight colour: the edge is not darkened, nor is what lies beyond it."""
    figure = figure_of(index).astype(float)
    colour, alpha = figure[..., :3], figure[..., 3]
    inside = np.pad((alpha == 255).astype(float), 2)
    total = np.zeros_like(colour)
    weight = np.zeros_like(alpha)
    padded = np.pad(colour, ((2, 2), (2, 2), (0, 0))) * inside[..., None]
    for a in range(5):
        for b in range(5):
            total += padded[a : a + alpha.shape[0], b : b + alpha.shape[1]]
            weight += inside[a : a + alpha.shape[0], b : b + alpha.shape[1]]
    edge = (alpha > 0) & (alpha < 128) & (weight > 0)
    nearby = total[edge] / weight[edge][:, None]
    assert edge.sum() > 100
    # Bodies round off and so darken a little towards their edge; premultiplied colour would be half as light.
    assert colour[edge].mean() > 0.8 * nearby.mean()
    clear = alpha == 0
    assert (colour[clear].max(axis=1) > 0).all()


def test_figures_differ_and_repeat():
    assert len({hashlib.sha256(figure_of(i).tobytes()).hexdigest() for i in range(12)}) == 12
    assert render_figure(2, seed=2, height=120).tobytes() == figure_of(2).tobytes()
    assert render_figure(2, seed=1, height=120).tobytes() != figure_of(2).tobytes()


@pytest.mark.parametrize("index", range(3))
def test_a_portrait_is_the_upper_part_of_a_figure(index: int):
    portrait = render_portrait(index, seed=2, height=48)
    assert len(portrait) == 48
    lowest = portrait[-1, :, 3]
    assert lowest.mean() > 0.4 * 255, "cut off below, in a straight edge"
    whole = render_figure(index, seed=2, height=120)[:48]
    columns = np.flatnonzero((whole[..., 3] > 0).any(axis=0))
    np.testing.assert_array_equal(portrait[..., 3], whole[:, columns[0] : columns[-1] + 1, 3])


@pytest.mark.parametrize(
    ("call", "names"),
    [
        (lambda: render_scene(-1), ["index"]),
        (lambda: render_scene(0, seed=2**64, height=0), ["seed", "height"]),
        (lambda: render_scene(0, width=True), ["width"]),
        (lambda: render_figure(0, seed=-1), ["seed"]),
        (lambda: render_figure(0, height=1.5), ["height"]),
        (lambda: render_portrait(0, height=1), ["height"]),
    ],
)
def test_bad_numbers_are_all_named(call, names):
    with pytest.raises(SpecError) as caught:
        call()
    assert caught.value.code == "samples-out-of-range"
    assert [problem.split(":")[0] for problem in caught.value.problems] == names


@pytest.fixture
def small_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """``write_samples`` with smaller pictures, still rendered for real."""
    scene, figure = render_scene, render_figure
    monkeypatch.setattr(samples, "render_scene", lambda i, *, seed: scene(i, seed=seed, height=60, width=80))
    monkeypatch.setattr(samples, "render_figure", lambda i, *, seed: figure(i, seed=seed, height=64))
    portrait = render_portrait
    monkeypatch.setattr(samples, "render_portrait", lambda i, *, seed: portrait(i, seed=seed, height=64))


def contents(directory: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(directory)): p.read_bytes() for p in sorted(directory.rglob("*")) if p.is_file()
    }


@pytest.mark.slow
def test_written_pictures_have_the_size_that_is_promised(tmp_path: Path):
    root = tmp_path / "a b" / "Übung"
    write_samples(root, backgrounds=1, foregrounds=1, seed=9)
    for name, mode in (("backgrounds/mall-000.png", "RGB"), ("depth/mall-000.png", "I;16")):
        with Image.open(root / name) as picture:
            assert (picture.mode, picture.size) == (mode, (320, 240))
    with Image.open(root / "foregrounds" / "figure-000.png") as picture:
        assert (picture.mode, picture.height) == ("RGBA", 320)


@pytest.mark.slow
@pytest.mark.usefixtures("small_pictures")
def test_files_hold_what_is_rendered_whatever_their_number_and_that_of_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    progress: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    write_samples(tmp_path / "more", backgrounds=2, foregrounds=2, on_picture=lambda *x: progress.append(x))
    assert progress == [(1, 4), (2, 4), (3, 4), (4, 4)]
    more = contents(tmp_path / "more")
    assert list(more) == [
        *(
            "backgrounds/lobby-001.png",
            "backgrounds/mall-000.png",
            "backgrounds/sources.csv",
            "depth/lobby-001.png",
            "depth/mall-000.png",
        ),
        *("foregrounds/figure-000.png", "foregrounds/figure-001.png"),
    ]
    scene = render_scene(1, height=60, width=80)
    expected = {
        "backgrounds/lobby-001.png": scene.image,
        "depth/lobby-001.png": np.rint(scene.depth.astype(np.float64) * 1000),
        "foregrounds/figure-001.png": render_figure(1, height=64),
    }
    for name, array in expected.items():
        with Image.open(tmp_path / "more" / name) as picture:
            assert (np.asarray(picture) == array).all()
    write_samples(tmp_path / "three", backgrounds=1, foregrounds=3)
    with Image.open(tmp_path / "three/foregrounds/portrait-002.png") as picture:
        assert (np.asarray(picture) == render_portrait(2, height=64)).all()
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    write_samples(tmp_path / "fewer", backgrounds=2, foregrounds=1)
    fewer = contents(tmp_path / "fewer")
    assert len(fewer) == 6
    assert more["backgrounds/sources.csv"].decode().splitlines() == [
        "file,focal_length",
        f"mall-000.png,{render_scene(0, height=60, width=80).camera.focal:.2f}",
        f"lobby-001.png,{scene.camera.focal:.2f}",
    ]
    assert fewer.items() <= more.items()


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"backgrounds": 0}, ["backgrounds"]),
        ({"backgrounds": 10_001, "foregrounds": -3}, ["backgrounds", "foregrounds"]),
        ({"seed": -1}, ["seed"]),
        ({"seed": 2**64}, ["seed"]),
    ],
)
def test_bad_counts_write_nothing(tmp_path: Path, options, names):
    with pytest.raises(SpecError) as caught:
        write_samples(tmp_path / "out", **options)
    assert caught.value.code == "samples-out-of-range"
    assert [problem.split(":")[0] for problem in caught.value.problems] == names
    assert not (tmp_path / "out").exists()


def test_a_file_in_the_way(tmp_path: Path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(SpecError) as caught:
        write_samples(tmp_path / "out", backgrounds=1, foregrounds=1)
    assert caught.value.code == "samples-not-writable"
    assert (tmp_path / "out").read_text() == "mine"


def test_a_folder_in_use_is_left_alone(tmp_path: Path):
    (tmp_path / "backgrounds").mkdir()
    (tmp_path / "backgrounds" / "holiday.jpg").write_bytes(b"mine")
    with pytest.raises(SpecError) as caught:
        write_samples(tmp_path, backgrounds=1, foregrounds=1)
    assert caught.value.code == "samples-folder-in-use"
    assert "backgrounds" in caught.value.problems[0]
    assert list(contents(tmp_path)) == ["backgrounds/holiday.jpg"]


@pytest.mark.usefixtures("small_pictures")
def test_pictures_that_are_there_already_stay_and_others_are_not_replaced(tmp_path: Path):
    write_samples(tmp_path, backgrounds=1, foregrounds=2)
    before = contents(tmp_path)
    write_samples(tmp_path, backgrounds=1, foregrounds=2)
    assert contents(tmp_path) == before
    assert len(list(tmp_path.iterdir())) == 3
    (tmp_path / "foregrounds/figure-001.png").write_bytes(before["foregrounds/figure-000.png"])
    for options in ({"foregrounds": 2}, {"foregrounds": 2, "seed": 1}, {"foregrounds": 3}):
        edited = contents(tmp_path)
        with pytest.raises(SpecError) as caught:
            write_samples(tmp_path, backgrounds=1, **options)
        assert caught.value.code == "samples-folder-in-use"
        assert contents(tmp_path) == edited
        assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.usefixtures("small_pictures")
def test_pictures_move_to_another_disk_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_samples(tmp_path / "whole", backgrounds=1, foregrounds=1)
    replace, copied = os.replace, []

    def as_on_another_disk(source, target):
        if ".fgbgpack-sample" in str(source) and ".fgbgpack-sample" not in str(target):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        if str(source).endswith(".partial"):
            copied.append(Path(target).name)
        replace(source, target)

    monkeypatch.setattr(os, "replace", as_on_another_disk)
    write_samples(tmp_path / "linked", backgrounds=1, foregrounds=1)
    assert contents(tmp_path / "linked") == contents(tmp_path / "whole")
    pictures = ["figure-000.png", "mall-000.png", "mall-000.png"]
    assert sorted(copied) == sorted([*pictures, "finished.json", "sources.csv"])


@pytest.mark.usefixtures("small_pictures")
def test_a_disk_that_fills_up_leaves_no_half_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    save = Image.Image.save

    def full(self, path, **options):
        if "figure" in str(path):
            Path(path).write_bytes(b"half")
            raise OSError(28, "No space left on device", str(path))
        save(self, path, **options)

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(SpecError) as caught:
        write_samples(tmp_path, backgrounds=1, foregrounds=1)
    assert caught.value.code == "samples-not-writable"
    assert list(tmp_path.iterdir()) == []


def killed(directory: Path, kill_when: Callable[[str], bool]) -> None:
    """Writes samples in a process that is killed when a picture is done, or a file is going to be moved."""
    pid = os.fork()
    if pid == 0:
        move = os.replace

        def look(what: str) -> None:
            if kill_when(what):
                os.kill(os.getpid(), signal.SIGKILL)

        def moving(source, target):
            look(Path(target).relative_to(directory).as_posix())
            return move(source, target)

        os.replace = moving
        try:
            write_samples(directory, backgrounds=2, foregrounds=1, on_picture=lambda *_: look("picture"))
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="processes are forked and killed")
@pytest.mark.usefixtures("small_pictures")
def test_what_a_killed_run_left_is_replaced_or_finished(tmp_path: Path):
    write_samples(tmp_path / "whole", backgrounds=2, foregrounds=1)
    whole = contents(tmp_path / "whole")
    for what in ("picture", "backgrounds/mall-000.png", "foregrounds/figure-000.png", "depth/mall-000.png"):
        place = tmp_path / what.replace("/", " ")
        killed(place, lambda found, what=what: found == what)
        assert contents(place) != whole
        write_samples(place, backgrounds=2, foregrounds=1)
        assert contents(place) == whole
        assert len(list(place.iterdir())) == 3
    # What was finished for other numbers is somebody's: it stays.
    place = tmp_path / "others"
    killed(place, lambda found: found == "backgrounds/mall-000.png")
    with pytest.raises(SpecError) as caught:
        write_samples(place, backgrounds=1, foregrounds=1)
    assert caught.value.code == "samples-folder-in-use"
    assert contents(place) == whole


@pytest.mark.usefixtures("small_pictures")
def test_pictures_are_on_disk_before_they_are_in_their_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    calls = recorded(monkeypatch, tmp_path)
    write_samples(tmp_path, backgrounds=1, foregrounds=1)
    first = next(i for i, (kind, _) in enumerate(calls) if kind == "rename")
    assert ("syncfs", ".fgbgpack-sample") in calls[:first]
    assert {"syncfs"} <= {kind for kind, _ in calls[first:]}


def test_two_processes_do_not_write_samples_to_one_folder(tmp_path: Path):
    (tmp_path / ".fgbgpack-sample").mkdir()
    with locked(tmp_path / ".fgbgpack-sample", "busy"), pytest.raises(DatasetError) as caught:
        write_samples(tmp_path, backgrounds=1, foregrounds=1)
    assert caught.value.code == "dataset-locked"
