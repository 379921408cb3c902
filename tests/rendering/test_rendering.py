"""Sample pictures: the same every time, true depth, figures that can be pasted."""

from __future__ import annotations

import hashlib
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fgbgpack.errors import SpecError
from fgbgpack.rendering import Camera, render_figure, render_scene, samples, write_samples
from fgbgpack.rendering.camera import camera_row
from fgbgpack.rendering.kernels import raycast as rc
from fgbgpack.rendering.kernels.textures import MATERIAL
from fgbgpack.rendering.tree import bounding_tree

KINDS = ["mall", "lobby", "hall", "gallery", "office"]


def naive_rays(camera: Camera, height: int, width: int) -> np.ndarray:
    """Directions (h, w, 3) through pixel centres, of length 1 along the optical axis, from angles alone."""
    columns = (np.arange(width) + 0.5 - width / 2) / camera.focal
    rows = (height / 2 - np.arange(height) - 0.5) / camera.focal
    right, up = np.meshgrid(columns, rows)
    # Pitch about the camera's x axis, then yaw about the vertical.
    y = up * math.cos(camera.pitch) + math.sin(camera.pitch)
    forward = math.cos(camera.pitch) - up * math.sin(camera.pitch)
    x = right * math.cos(camera.yaw) + forward * math.sin(camera.yaw)
    z = forward * math.cos(camera.yaw) - right * math.sin(camera.yaw)
    return np.stack([x, y, z], axis=-1)


def solid(shape: int, centre: tuple, half: tuple, turn: float = 0.0, group: int = rc.OPAQUE) -> list[float]:
    return [shape, *centre, *half, math.cos(turn), math.sin(turn), 0, group]


def cast(solids: list[list[float]], camera: Camera, height: int = 24, width: int = 32) -> tuple:
    """Depth and owner of a hand-made room, through the tree and the kernel that the scenes use."""
    rows = np.array(solids, dtype=np.float64)
    reach = np.maximum(rows[:, 4:7].max(axis=1), np.hypot(rows[:, 4], rows[:, 6]))[:, None]
    nodes = bounding_tree(
        rows[:, 1:4] - np.maximum(reach, rows[:, 5:6]), rows[:, 1:4] + np.maximum(reach, rows[:, 5:6])
    )
    material = np.zeros((1, MATERIAL))
    material[0, 1:9] = 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 1.0, 1.0
    depth = np.empty((height, width), np.float32)
    owner = np.empty((height, width), np.int32)
    normal = np.zeros((height, width, 3), np.float32)
    light = np.zeros((height, width, 6), np.float32)
    view = camera_row(camera, height, width)
    rc.light_rooms(
        rows, material, np.empty((0, rc.LIGHT)), nodes, view, np.ones(3), depth, owner, normal, light
    )
    return depth, owner, normal, light


LEVEL = Camera((0.0, 1.6, 0.0), 0.0, 0.0, 20.0)
TILTED = Camera((0.3, 1.4, -0.5), 0.4, -0.2, 25.0)
FLOOR = solid(rc.BOX, (0.0, -0.5, 0.0), (90.0, 0.5, 90.0))


def test_floor_depth_follows_the_camera_model():
    depth, owner, normal, _ = cast([FLOOR], LEVEL)
    assert (owner[:12] == -1).all(), "nothing is above the horizon"
    rows = np.arange(12, 24) + 0.5 - 12.0
    expected = 1.6 * LEVEL.focal / rows  # similar triangles: depth over camera height = focal over row
    assert np.allclose(depth[12:], expected[:, None], rtol=1e-6)
    assert np.allclose(normal[12:], (0.0, 1.0, 0.0))


def test_wall_across_the_view_has_one_depth():
    depth, owner, *_ = cast([solid(rc.BOX, (0.0, 0.0, 7.0), (50.0, 50.0, 0.75))], LEVEL)
    assert (owner == 0).all()
    assert np.allclose(depth, 6.25, rtol=1e-6)


@pytest.mark.parametrize("camera", [LEVEL, TILTED])
def test_depth_of_planes_seen_from_any_angle(camera: Camera):
    back = solid(rc.BOX, (0.0, 0.0, 9.0), (60.0, 60.0, 1.0))
    depth, owner, *_ = cast([FLOOR, back], camera)
    rays = naive_rays(camera, 24, 32)
    with np.errstate(divide="ignore"):
        floor = np.where(rays[..., 1] < 0, -camera.position[1] / rays[..., 1], np.inf)
        wall = np.where(rays[..., 2] > 0, (8.0 - camera.position[2]) / rays[..., 2], np.inf)
    assert np.allclose(depth, np.minimum(floor, wall), rtol=1e-5)
    assert ((owner == 0) == (floor < wall)).all()


def test_depth_of_ball_and_column():
    ball = solid(rc.ELLIPSOID, (0.0, 1.6, 6.0), (1.0, 1.0, 1.0))
    column = solid(rc.ROUND, (2.0, 1.0, 5.0), (0.5, 4.0, 0.5))
    depth, owner, *_ = cast([FLOOR, ball, column], LEVEL)
    rays = naive_rays(LEVEL, 24, 32)
    square = (rays**2).sum(axis=-1)
    half = 6.0 * rays[..., 2]
    root = half**2 - square * (36.0 - 1.0)
    on_ball = owner == 1
    assert on_ball.sum() > 20
    assert np.allclose(depth[on_ball], ((half - np.sqrt(np.maximum(root, 0))) / square)[on_ball], rtol=1e-5)
    across = rays[..., 0] ** 2 + rays[..., 2] ** 2
    half = 2.0 * rays[..., 0] + 5.0 * rays[..., 2]
    root = half**2 - across * (29.0 - 0.25)
    on_column = owner == 2
    assert on_column.sum() > 20
    assert np.allclose(
        depth[on_column], ((half - np.sqrt(np.maximum(root, 0))) / across)[on_column], rtol=1e-5
    )


def test_turned_box_shows_the_face_of_its_turn():
    """A box turned by 45 degrees shows its edge: the middle is nearest, by half the diagonal."""
    camera = Camera((0.0, 0.0, 0.0), 0.0, 0.0, 64.0)
    depth, owner, normal, _ = cast(
        [solid(rc.BOX, (0.0, 0.0, 5.0), (1.0, 3.0, 1.0), math.pi / 4)], camera, 25, 33
    )
    assert depth[12, 16] == pytest.approx(5.0 - math.sqrt(2.0), rel=1e-5)
    assert np.allclose(np.abs(normal[owner == 0][:, [0, 2]]), math.sqrt(0.5), atol=1e-6)
    assert normal[12, 15, 0] < 0 < normal[12, 18, 0]


def test_cone_narrows_to_its_top():
    cone = solid(rc.ROUND, (0.0, 1.0, 6.0), (1.5, 1.0, 0.25))
    _, owner, *_ = cast([cone], Camera((0.0, 1.0, 0.0), 0.0, 0.0, 60.0), 24, 32)
    widths = (owner == 0).sum(axis=1)
    seen = widths[widths > 0]
    assert (np.diff(seen.astype(int)) >= 0).all()
    assert seen[-1] > 3 * seen[0]


def test_glass_is_looked_through():
    back = solid(rc.BOX, (0.0, 0.0, 9.0), (60.0, 60.0, 1.0))
    pane = solid(rc.BOX, (0.0, 0.0, 4.0), (60.0, 60.0, 0.01), group=rc.GLASS)
    depth, owner, *_ = cast([back, pane], LEVEL)
    assert np.allclose(depth, 8.0, rtol=1e-6)
    assert (owner == 65536).all(), "the wall, one pane before it"


def test_light_falls_off_and_is_shut_out():
    floor, lid = FLOOR, solid(rc.BOX, (0.0, 1.0, 6.0), (0.6, 0.05, 0.6))
    lights = np.array([[0.0, 3.0, 6.0, 0.1, 0.1, 9.0, 9.0, 9.0, 1.0, 30.0]])
    material = np.zeros((1, MATERIAL))
    rows = np.array([floor, lid])
    reach = np.array([[90.0, 0.5, 90.0], [0.6, 0.05, 0.6]])
    nodes = bounding_tree(rows[:, 1:4] - reach, rows[:, 1:4] + reach)

    def falls(x: float) -> float:
        point = (x, 0.0, 6.0, 0.0, 1.0, 0.0)
        shares, dark = np.empty(1), np.zeros(3)
        samples = [
            rc.incoming(rows, material, lights, nodes, dark, shares, *point, turn)[0] for turn in range(25)
        ]
        return float(np.mean(samples))

    assert falls(0.0) == 0.0, "under the lid"
    near, far = falls(2.0), falls(5.0)
    expected = [9.0 * 9.0 / square**2 for square in (3.0**2 + 2.0**2, 3.0**2 + 5.0**2)]  # h^2 / d^4
    assert near / far == pytest.approx(expected[0] / expected[1], rel=0.1)


def test_tree_finds_what_looking_at_every_solid_finds():
    rng = np.random.default_rng(5)
    solids = []
    for _ in range(60):
        centre = rng.uniform((-5, 0, 2), (5, 4, 16))
        solids.append(
            solid(int(rng.integers(3)), tuple(centre), tuple(rng.uniform(0.1, 0.8, 3)), rng.uniform(0, 3))
        )
    depth, owner, *_ = cast(solids, TILTED)
    rows = np.array(solids)
    rays = naive_rays(TILTED, 24, 32)
    for row in range(0, 24, 3):
        for column in range(0, 32, 3):
            ray = rays[row, column]
            hits = [rc.meets(rows, i, *TILTED.position, *ray, 70.0) for i in range(len(rows))]
            first = int(np.argmin(hits))
            assert depth[row, column] == pytest.approx(hits[first], rel=1e-5)
            assert owner[row, column] == (first if hits[first] < 70.0 else -1)


@pytest.mark.parametrize("index", range(10))
def test_scene_is_plausible(index: int):
    scene = render_scene(index, seed=3, height=90, width=120)
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
    scene = render_scene(index, seed=1, height=90, width=120)
    rays = naive_rays(scene.camera, 90, 120)
    height_seen = scene.camera.position[1] + scene.depth * rays[..., 1]
    low = height_seen[-12:]
    assert low.min() > -1e-3, "nothing is below the floor"
    assert (np.abs(low) < 0.03).mean() > 0.3


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
    large, small = (render_scene(3, seed=4, height=96 // k, width=128 // k) for k in (1, 2))
    assert small.camera.focal == large.camera.focal / 2
    blocks = large.depth.reshape(48, 2, 64, 2)
    smooth = blocks.max(axis=(1, 3)) - blocks.min(axis=(1, 3)) < 0.02 * small.depth
    assert smooth.mean() > 0.3
    assert np.allclose(blocks.mean(axis=(1, 3))[smooth], small.depth[smooth], rtol=0.02)


@pytest.mark.parametrize("index", range(12))
def test_figure_can_be_pasted(index: int):
    figure = render_figure(index, seed=2, height=120)
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
    figure = render_figure(index, seed=6, height=160).astype(float)
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
    figures = [render_figure(i, seed=0, height=64) for i in range(4)]
    assert len({hashlib.sha256(f.tobytes()).hexdigest() for f in figures}) == 4
    assert render_figure(2, seed=0, height=64).tobytes() == figures[2].tobytes()
    assert render_figure(2, seed=1, height=64).tobytes() != figures[2].tobytes()


@pytest.mark.parametrize(
    ("call", "names"),
    [
        (lambda: render_scene(-1), ["index"]),
        (lambda: render_scene(0, seed=2**64, height=0), ["seed", "height"]),
        (lambda: render_scene(0, width=True), ["width"]),
        (lambda: render_figure(0, seed=-1), ["seed"]),
        (lambda: render_figure(0, height=1.5), ["height"]),
    ],
)
def test_bad_numbers_are_all_named(call, names):
    with pytest.raises(SpecError) as caught:
        call()
    assert [problem.split(":")[0] for problem in caught.value.problems] == names


@pytest.fixture
def small_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """``write_samples`` with smaller pictures, still rendered for real."""
    scene, figure = render_scene, render_figure
    monkeypatch.setattr(samples, "render_scene", lambda i, *, seed: scene(i, seed=seed, height=60, width=80))
    monkeypatch.setattr(samples, "render_figure", lambda i, *, seed: figure(i, seed=seed, height=64))


def contents(directory: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(directory)): p.read_bytes() for p in sorted(directory.rglob("*")) if p.is_file()
    }


def test_written_pictures_are_what_is_rendered(tmp_path: Path):
    progress: list[tuple[int, int]] = []
    root = tmp_path / "a b" / "Übung"
    write_samples(root, backgrounds=2, foregrounds=1, seed=9, on_picture=lambda *x: progress.append(x))
    names = [
        "backgrounds/lobby-001.png",
        "backgrounds/mall-000.png",
        "depth/lobby-001.png",
        "depth/mall-000.png",
    ]
    assert list(contents(root)) == [*names, "foregrounds/figure-000.png"]
    assert progress == [(1, 3), (2, 3), (3, 3)]
    scene = render_scene(1, seed=9)
    with Image.open(root / "backgrounds" / "lobby-001.png") as picture:
        assert picture.mode == "RGB"
        assert (np.asarray(picture) == scene.image).all()
    with Image.open(root / "depth" / "lobby-001.png") as picture:
        assert picture.mode == "I;16"
        assert (np.asarray(picture) == np.rint(scene.depth.astype(np.float64) * 1000)).all()
    with Image.open(root / "foregrounds" / "figure-000.png") as picture:
        assert picture.mode == "RGBA"
        assert picture.height == 320
        assert (np.asarray(picture) == render_figure(0, seed=9)).all()


@pytest.mark.usefixtures("small_pictures")
def test_files_do_not_depend_on_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for cores in (1, 4):
        monkeypatch.setattr(os, "cpu_count", lambda cores=cores: cores)
        write_samples(tmp_path / str(cores), backgrounds=5, foregrounds=3, seed=1)
    assert contents(tmp_path / "1") == contents(tmp_path / "4")


@pytest.mark.usefixtures("small_pictures")
def test_fewer_pictures_are_the_first_of_more(tmp_path: Path):
    write_samples(tmp_path / "few", backgrounds=1, foregrounds=1)
    write_samples(tmp_path / "more", backgrounds=3, foregrounds=2)
    assert contents(tmp_path / "few").items() <= contents(tmp_path / "more").items()


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
    assert [problem.split(":")[0] for problem in caught.value.problems] == names
    assert not (tmp_path / "out").exists()


def test_a_file_in_the_way(tmp_path: Path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(SpecError, match=r"cannot be written to .*out.*Give a folder"):
        write_samples(tmp_path / "out", backgrounds=1, foregrounds=1)
    assert (tmp_path / "out").read_text() == "mine"


def test_a_folder_in_use_is_left_alone(tmp_path: Path):
    (tmp_path / "backgrounds").mkdir()
    (tmp_path / "backgrounds" / "holiday.jpg").write_bytes(b"mine")
    with pytest.raises(SpecError, match="not mixed") as caught:
        write_samples(tmp_path, backgrounds=1, foregrounds=1)
    assert "backgrounds" in caught.value.problems[0]
    assert list(contents(tmp_path)) == ["backgrounds/holiday.jpg"]


@pytest.mark.usefixtures("small_pictures")
def test_a_disk_that_fills_up_leaves_no_half_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    save = Image.Image.save

    def full(self, path, **options):
        if "figure" in str(path):
            Path(path).write_bytes(b"half")
            raise OSError(28, "No space left on device", str(path))
        save(self, path, **options)

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(SpecError, match="No space left"):
        write_samples(tmp_path, backgrounds=1, foregrounds=1)
    assert list(contents(tmp_path)) == ["backgrounds/mall-000.png", "depth/mall-000.png"]


def test_kernels_give_the_same_uncompiled(tmp_path: Path):
    """The same tiny pictures from plain Python: the same depth, colours to the last place or one beside."""
    script = (
        "import sys, numpy as np\n"
        "from fgbgpack.rendering import render_figure, render_scene\n"
        "scene = render_scene(4, seed=5, height=6, width=8)\n"
        "figure = render_figure(1, seed=5, height=16)\n"
        "np.savez(sys.argv[1], image=scene.image, depth=scene.depth, figure=figure)\n"
    )
    path = tmp_path / "plain.npz"
    environment = os.environ | {"NUMBA_DISABLE_JIT": "1"}
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", script, str(path)], check=True, env=environment, cwd=root)
    scene = render_scene(4, seed=5, height=6, width=8)
    figure = render_figure(1, seed=5, height=16)
    with np.load(path) as plain:
        assert np.allclose(plain["depth"], scene.depth, rtol=1e-6)
        assert np.abs(plain["image"].astype(int) - scene.image).max() <= 1
        assert np.abs(plain["figure"].astype(int) - figure).max() <= 1
