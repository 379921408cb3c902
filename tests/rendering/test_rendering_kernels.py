"""The kernels of rendered pictures against closed forms, naive twins and plain Python."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from naive_camera import naive_rays

from fgbgpack.rendering import Camera
from fgbgpack.rendering.bvh import bounds, build_bvh
from fgbgpack.rendering.camera import camera_row
from fgbgpack.rendering.kernels import figures, light, noise, passes, solids
from fgbgpack.rendering.kernels.textures import MATERIAL


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


@pytest.mark.slow
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
