"""Sample pictures: the same every time, true depth, figures that can be pasted."""

from __future__ import annotations

import functools
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
from fgbgpack.rendering.bvh import bounds, build_bvh
from fgbgpack.rendering.camera import camera_row
from fgbgpack.rendering.kernels import figures, light, noise, passes, solids
from fgbgpack.rendering.kernels.textures import MATERIAL

KINDS = ["mall", "lobby", "hall", "gallery", "office"]

#: Renders each picture that several tests look at once.
scene_of = functools.cache(functools.partial(render_scene, seed=3, height=90, width=120))
figure_of = functools.cache(functools.partial(render_figure, seed=2, height=120))


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


def solid(
    shape: int, centre: tuple, half: tuple, turn: float = 0.0, group: int = solids.OPAQUE
) -> list[float]:
    return [shape, *centre, *half, math.cos(turn), math.sin(turn), 0, group]


def world_of(rows: list[list[float]], camera: Camera, lights=(), height=24, width=32) -> light.World:
    """A hand-made room of one gray material."""
    material = np.zeros((1, MATERIAL))
    material[0, 1:9] = 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 1.0, 1.0
    return light.World(
        solids=np.array(rows, np.float64),
        nodes=build_bvh(*bounds(np.array(rows, np.float64))),
        materials=material,
        lights=np.array(lights, np.float64).reshape(-1, light.LIGHT),
        ambient=np.ones(3) if len(lights) == 0 else np.zeros(3),
        camera=camera_row(camera, height, width),
    )


def cast(rows: list[list[float]], camera: Camera, height: int = 24, width: int = 32) -> tuple:
    """Depth, solid and normal of each pixel, through the hierarchy and the kernel that the scenes use."""
    depth = np.empty((height, width), np.float32)
    seen = np.empty((height, width), np.int32)
    normals = np.zeros((height, width, 3), np.float32)
    lit = np.zeros((height, width, 6), np.float32)
    passes.light_pass(world_of(rows, camera, height=height, width=width), depth, seen, normals, lit)
    return depth, seen, normals


LEVEL = Camera((0.0, 1.6, 0.0), 0.0, 0.0, 20.0)
TILTED = Camera((0.3, 1.4, -0.5), 0.4, -0.2, 25.0)
FLOOR = solid(solids.BOX, (0.0, -0.5, 0.0), (90.0, 0.5, 90.0))


def test_floor_depth_follows_the_camera_model():
    depth, seen, normals = cast([FLOOR], LEVEL)
    assert (seen[:12] == -1).all(), "nothing is above the horizon"
    rows = np.arange(12, 24) + 0.5 - 12.0
    expected = 1.6 * LEVEL.focal / rows  # similar triangles: depth over camera height = focal over row
    assert np.allclose(depth[12:], expected[:, None], rtol=1e-6)
    assert np.allclose(normals[12:], (0.0, 1.0, 0.0))


def test_wall_across_the_view_has_one_depth():
    depth, seen, _ = cast([solid(solids.BOX, (0.0, 0.0, 7.0), (50.0, 50.0, 0.75))], LEVEL)
    assert (seen == 0).all()
    assert np.allclose(depth, 6.25, rtol=1e-6)


@pytest.mark.parametrize("camera", [LEVEL, TILTED])
def test_depth_of_planes_seen_from_any_angle(camera: Camera):
    back = solid(solids.BOX, (0.0, 0.0, 9.0), (60.0, 60.0, 1.0))
    depth, seen, _ = cast([FLOOR, back], camera)
    rays = naive_rays(camera, 24, 32)
    with np.errstate(divide="ignore"):
        floor = np.where(rays[..., 1] < 0, -camera.position[1] / rays[..., 1], np.inf)
        wall = np.where(rays[..., 2] > 0, (8.0 - camera.position[2]) / rays[..., 2], np.inf)
    assert np.allclose(depth, np.minimum(floor, wall), rtol=1e-5)
    assert ((seen == 0) == (floor < wall)).all()


def test_depth_of_ball_and_column():
    ball = solid(solids.ELLIPSOID, (0.0, 1.6, 6.0), (1.0, 1.0, 1.0))
    column = solid(solids.ROUND, (2.0, 1.0, 5.0), (0.5, 4.0, 0.5))
    depth, seen, _ = cast([FLOOR, ball, column], LEVEL)
    rays = naive_rays(LEVEL, 24, 32)
    square = (rays**2).sum(axis=-1)
    half = 6.0 * rays[..., 2]
    root = half**2 - square * (36.0 - 1.0)
    on_ball = seen == 1
    assert on_ball.sum() > 20
    assert np.allclose(depth[on_ball], ((half - np.sqrt(np.maximum(root, 0))) / square)[on_ball], rtol=1e-5)
    across = rays[..., 0] ** 2 + rays[..., 2] ** 2
    half = 2.0 * rays[..., 0] + 5.0 * rays[..., 2]
    root = half**2 - across * (29.0 - 0.25)
    on_column = seen == 2
    assert on_column.sum() > 20
    assert np.allclose(
        depth[on_column], ((half - np.sqrt(np.maximum(root, 0))) / across)[on_column], rtol=1e-5
    )


def test_turned_box_shows_the_face_of_its_turn():
    """A box turned by 45 degrees shows its edge: the middle is nearest, by half the diagonal."""
    camera = Camera((0.0, 0.0, 0.0), 0.0, 0.0, 64.0)
    depth, seen, normals = cast(
        [solid(solids.BOX, (0.0, 0.0, 5.0), (1.0, 3.0, 1.0), math.pi / 4)], camera, 25, 33
    )
    assert depth[12, 16] == pytest.approx(5.0 - math.sqrt(2.0), rel=1e-5)
    assert np.allclose(np.abs(normals[seen == 0][:, [0, 2]]), math.sqrt(0.5), atol=1e-6)
    assert normals[12, 15, 0] < 0 < normals[12, 18, 0]


def test_cone_narrows_to_its_top():
    cone = solid(solids.ROUND, (0.0, 1.0, 6.0), (1.5, 1.0, 0.25))
    _, seen, _ = cast([cone], Camera((0.0, 1.0, 0.0), 0.0, 0.0, 60.0), 24, 32)
    widths = (seen == 0).sum(axis=1)
    widths = widths[widths > 0]
    assert (np.diff(widths) >= 0).all()
    assert widths[-1] > 3 * widths[0]


def test_glass_is_looked_through():
    back = solid(solids.BOX, (0.0, 0.0, 9.0), (60.0, 60.0, 1.0))
    pane = solid(solids.BOX, (0.0, 0.0, 4.0), (60.0, 60.0, 0.01), group=solids.GLASS)
    depth, seen, _ = cast([back, pane], LEVEL)
    assert np.allclose(depth, 8.0, rtol=1e-6)
    assert (seen == 65536).all(), "the wall, one pane before it"


def test_light_falls_off_and_is_shut_out():
    lid = solid(solids.BOX, (0.0, 1.0, 6.0), (0.6, 0.05, 0.6))
    lamp = (0.0, 3.0, 6.0, 0.1, 0.1, 9.0, 9.0, 9.0, 1.0, 30.0)
    world = world_of([FLOOR, lid], LEVEL, [lamp])

    def falls(x: float) -> float:
        gathered = [
            light.irradiance(world, np.empty(1), (x, 0.0, 6.0), (0.0, 1.0, 0.0), turn)[0]
            for turn in range(25)
        ]
        return float(np.mean(gathered))

    assert falls(0.0) == 0.0, "under the lid"
    near, far = falls(2.0), falls(5.0)
    expected = [9.0 * 9.0 / square**2 for square in (3.0**2 + 2.0**2, 3.0**2 + 5.0**2)]  # h^2 / d^4
    assert near / far == pytest.approx(expected[0] / expected[1], rel=0.1)


def test_hierarchy_finds_what_looking_at_every_solid_finds():
    rng = np.random.default_rng(5)
    rows = []
    for _ in range(60):
        centre, half = rng.uniform((-5, 0, 2), (5, 4, 16)), rng.uniform(0.1, 0.8, 3)
        rows.append(solid(int(rng.integers(3)), tuple(centre), tuple(half), rng.uniform(0, 3)))
    depth, seen, _ = cast(rows, TILTED)
    table = np.array(rows)
    rays = naive_rays(TILTED, 24, 32)
    for row in range(0, 24, 3):
        for column in range(0, 32, 3):
            ray = tuple(rays[row, column])
            hits = [solids.enter(table, i, TILTED.position, ray, 70.0) for i in range(len(rows))]
            first = int(np.argmin(hits))
            assert depth[row, column] == pytest.approx(hits[first], rel=1e-5)
            assert seen[row, column] == (first if hits[first] < 70.0 else -1)


def test_light_is_smoothed_over_pixels_of_one_surface():
    rng = np.random.default_rng(0)
    seen = rng.integers(0, 2, (7, 9)).astype(np.int32)
    normals = np.eye(3, dtype=np.float32)[rng.integers(0, 2, (7, 9))]
    lit = rng.random((7, 9, 6)).astype(np.float32)
    smooth = np.empty_like(lit)
    passes.smooth_light(seen, normals, lit, smooth)
    rows, columns = np.indices(seen.shape)
    for row, column in np.ndindex(*seen.shape):
        near = (abs(rows - row) <= 2) & (abs(columns - column) <= 2)
        same = near & (seen == seen[row, column]) & (normals == normals[row, column]).all(axis=2)
        assert np.allclose(smooth[row, column], lit[same].mean(axis=0), rtol=1e-5)


def naive_hash(x: int, y: int, seed: int) -> float:
    word = (374761393 * x + 668265263 * y + 1274126177 * seed) % 2**32
    for shift, factor in ((15, 739982445), (12, 695872825)):
        word = (word ^ (word >> shift)) * factor % 2**32
    return (word ^ (word >> 15)) / 2**32


def test_noise_is_a_smooth_field_through_hashes():
    rng = np.random.default_rng(1)
    for x, y, seed in rng.integers(-1000, 1000, (50, 3)).tolist():
        corner = naive_hash(x, y, seed)
        assert noise.hash01(x, y, seed) == corner
        assert noise.noise(float(x), float(y), seed) == corner
        middle = np.mean([naive_hash(x + a, y + b, seed) for a in (0, 1) for b in (0, 1)])
        assert noise.noise(x + 0.5, y + 0.5, seed) == pytest.approx(middle)
        assert abs(noise.noise(x - 1e-9, y + 0.5, seed) - noise.noise(x + 1e-9, y + 0.5, seed)) < 1e-6
        assert noise.noise3(float(x), float(y), 0.0, seed) == corner
    values = [noise.turbulence(*point, 3) for point in rng.uniform(-50, 50, (500, 2)).tolist()]
    assert 0.0 <= min(values) < 0.3 < 0.7 < max(values) < 1.0
    assert noise.fraction(-2.25) == 0.75


def test_distance_to_a_part_is_that_to_the_nearest_of_all_its_balls():
    rng = np.random.default_rng(4)
    along = np.linspace(0.0, 1.0, 5001)[:, None]
    for _ in range(40):
        start, end, point = rng.uniform(-1, 1, (3, 3))
        radii = rng.uniform(0.05, 0.2, 2)
        parts = np.zeros((1, figures.PART))
        parts[0, :8], parts[0, 11] = [*start, *end, *radii], 1.0
        centres = start + along * (end - start)
        balls = np.linalg.norm(point - centres, axis=1) - (radii[0] + along[:, 0] * (radii[1] - radii[0]))
        assert figures.part_distance(parts, 0, tuple(point)) == pytest.approx(balls.min(), abs=1e-5)
        # Flat ends: at least as far as the planes through them.
        length = float(np.linalg.norm(end - start))
        up = float((point - start) @ (end - start)) / length
        parts[0, 14] = 2.0
        assert figures.part_distance(parts, 0, tuple(point)) >= max(up - length, -up) - 1e-6


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
    assert caught.value.code == "samples-out-of-range"
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


def test_written_pictures_have_the_size_that_is_promised(tmp_path: Path):
    root = tmp_path / "a b" / "Übung"
    write_samples(root, backgrounds=1, foregrounds=1, seed=9)
    for name, mode in (("backgrounds/mall-000.png", "RGB"), ("depth/mall-000.png", "I;16")):
        with Image.open(root / name) as picture:
            assert (picture.mode, picture.size) == (mode, (320, 240))
    with Image.open(root / "foregrounds" / "figure-000.png") as picture:
        assert (picture.mode, picture.height) == ("RGBA", 320)


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
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    write_samples(tmp_path / "fewer", backgrounds=2, foregrounds=1)
    fewer = contents(tmp_path / "fewer")
    assert len(fewer) == 5
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
    assert list(contents(tmp_path)) == ["backgrounds/mall-000.png", "depth/mall-000.png"]


#: Tiny pictures, every texture at some places, and every pattern of a figure's clothes.
SCRIPT = """
import sys, numpy as np
from fgbgpack.rendering import render_figure, render_scene
from fgbgpack.rendering.kernels import figures, textures

scene = render_scene(4, seed=5, height=6, width=8)
rng = np.random.default_rng(0)
kinds, seeds = np.arange(19).repeat(4), np.tile(np.arange(4), 19)
materials = rng.uniform(0.05, 0.9, (len(kinds), textures.MATERIAL))
materials[:, 0], materials[:, 13] = kinds, seeds
places = rng.uniform((-3, 0, 0, 0), (3, 3, 1, 1), (8, 4)).tolist()
colours = [
    textures.texture(materials, m, tuple(place), footprint)
    for m in range(len(kinds)) for place, footprint in zip(places, 4 * (0.001, 0.1))
]
cloths = rng.uniform(0.05, 0.9, (22, figures.MATERIAL))
cloths[:, 0], cloths[:, 7], cloths[:, 10] = np.tile(np.arange(11), 2), 20, np.arange(11).repeat(2)
head = np.array([0, 0, 0, 1, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0.5, 0.5, 2], float)
figure = figures.Figure(np.empty((0, figures.PART)), cloths, head)
clothes = [
    figures.cloth_colour(figure, m, tuple(point), 0.3 * point[0], point[1])
    for m in range(len(cloths)) for point in rng.uniform((-0.3, 0.1, 0.05), (0.3, 1.4, 0.3), (20, 3)).tolist()
]
picture = render_figure(1, seed=5, height=16)
np.savez(
    sys.argv[1], image=scene.image, depth=scene.depth, colours=colours, clothes=clothes, figure=picture
)
"""


def test_kernels_give_the_same_uncompiled(tmp_path: Path):
    """The same from plain Python: depth and colours of textures, pictures to the last place or one beside."""
    found = []
    for name, disabled in (("plain", "1"), ("compiled", "0")):
        path = tmp_path / f"{name}.npz"
        environment = os.environ | {"NUMBA_DISABLE_JIT": disabled}
        root = Path(__file__).parents[2]
        subprocess.run([sys.executable, "-c", SCRIPT, str(path)], check=True, env=environment, cwd=root)
        with np.load(path) as arrays:
            found.append(dict(arrays))
    plain, compiled = found
    for name in ("depth", "colours", "clothes"):
        assert np.allclose(plain[name], compiled[name], rtol=1e-6)
    for name in ("image", "figure"):
        assert np.abs(plain[name].astype(int) - compiled[name]).max() <= 1
    assert len(np.unique(compiled["colours"].round(9), axis=0)) > 500
