"""The training of the embedded networks: small, but all of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx_models
import onnxruntime
import pytest
import torch
from builders import Pictures
from torch import nn

from fgbgpack.depth import load_model
from fgbgpack.errors import DepthModelError
from fgbgpack.training import fit as fit_module
from fgbgpack.training.export import export
from fgbgpack.training.fit import Fit
from fgbgpack.training.losses import foreground_loss, gradient_loss, normalised, scene_loss
from fgbgpack.training.networks import GuidedNetwork, SceneNetwork
from fgbgpack.training.trainer import Course
from fgbgpack.training.views import LABEL, Counts, Folders, Views

# PyTorch's exporter uses parts of itself that it has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

CPU = torch.device("cpu")
COUNTS = Counts(photographs=4, backgrounds=3, rooms=5, figures=1, composites=10)


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> Folders:
    pictures = Pictures(
        tmp_path_factory.mktemp("pictures"), backgrounds=3, foregrounds=3, size=(90, 120), patch=(64, 40)
    )
    return Folders(pictures.backgrounds, pictures.backgrounds, pictures.foregrounds, ("b0.*", "f2.*"))


@pytest.fixture(scope="module")
def teacher(tmp_path_factory) -> Path:
    return onnx_models.gray(tmp_path_factory.mktemp("teacher") / "teacher.onnx")


def make_views(folder: Path, folders: Folders, teacher: Path, counts=COUNTS, on_item=None) -> Views:
    return Views(
        folder,
        folders,
        counts,
        load_model(teacher),
        seed=3,
        on_item=on_item or (lambda what, done, total: None),
    )


@pytest.fixture(scope="module")
def views(tmp_path_factory, folders, teacher) -> Views:
    return make_views(tmp_path_factory.mktemp("views"), folders, teacher)


def test_views_have_the_teachers_or_true_depth_as_labels(views):
    label = views.label.astype(np.float32)
    np.testing.assert_allclose(np.median(label, axis=(1, 2)), 0, atol=2e-3)
    np.testing.assert_allclose(np.abs(label).mean(axis=(1, 2)), 1, atol=2e-3)
    # The teacher answers how light a pixel is: the label is that, at half the size, up to scale and shift.
    small = views.image[:7].reshape(7, LABEL, 2, LABEL, 2, 3).mean((2, 4)) @ (0.25, 0.5, 0.25)
    for light, answer in zip(small, label[:7], strict=True):
        assert np.corrcoef(light.ravel(), answer.ravel())[0, 1] > 0.97
    # Rooms: the label is inverse depth in 1/m, and what lies low in the picture is near.
    assert not views.camera[:7].any()
    for camera, answer in zip(views.camera[7:], label[7:], strict=True):
        inverse = camera[4] * answer + camera[5]
        assert 0 < inverse.min() < inverse.max() < 10
        assert inverse[-20:].mean() > inverse[LABEL // 2 - 10 : LABEL // 2 + 10].mean()


def test_composites_are_pasted_on_their_view(views):
    for item in range(COUNTS.composites):
        view = views.image[views.view[item]].reshape(LABEL, 2, LABEL, 2, 3).mean((1, 3))
        untouched = views.mask[item] == 0
        assert untouched.any()
        assert (views.mask[item] > 229).sum() >= 100
        assert np.abs(views.composite[item][untouched] - view[untouched]).max() <= 1.5


def test_foregrounds_that_stand_in_a_room_are_where_their_feet_are(views):
    standing = [item for item in range(COUNTS.composites) if views.view[item] >= 7]
    assert standing
    for item in standing:
        camera, label = views.camera[views.view[item]], views.label[views.view[item]].astype(np.float32)
        depth = views.foreground[item].astype(np.float32)
        assert np.ptp(depth) == 0
        # Just below its lowest row the floor is as near as the foreground, where that is in the picture.
        rows, columns = np.nonzero(views.mask[item] > 100)
        lowest = rows.max()
        if lowest < LABEL - 4:
            below = label[lowest + 2, columns[rows == lowest]]
            floor = camera[4] * below + camera[5]
            np.testing.assert_allclose(floor.max(), camera[4] * depth[0, 0] + camera[5], rtol=0.15)


def test_views_are_the_same_however_often_the_work_was_stopped(views, tmp_path, folders, teacher):
    class StopError(Exception):
        pass

    def stop_at(number):
        def on_item(what, done, total):
            if what == "views" and done == number:
                raise StopError

        return on_item

    for number in (2, 5):
        with pytest.raises(StopError):
            make_views(tmp_path, folders, teacher, on_item=stop_at(number))
    again = make_views(tmp_path, folders, teacher)
    for name in ("image", "label", "camera", "composite", "mask", "foreground", "view"):
        np.testing.assert_array_equal(getattr(again, name), getattr(views, name))


def test_what_is_held_out_is_not_used(views, folders, tmp_path, teacher):
    made_of = json.loads(next(tmp_path.parent.glob("views*/views-*/made-of.json")).read_text())
    assert made_of["backgrounds"] == ["b1.png", "b2.png"]
    assert made_of["foregrounds"] == ["f0.png", "f1.png"]


def test_losses_do_not_see_scale_and_shift_and_do_see_what_is_wrong():
    made = torch.Generator().manual_seed(0)
    label = torch.rand((2, 1, 32, 48), generator=made)
    assert float(scene_loss(3 * label + 7, label)) < 1e-4
    assert float(scene_loss(-label, label)) > 1
    assert float(gradient_loss(torch.full((1, 1, 16, 16), 5.0))) == 0
    flat = normalised(torch.ones((1, 1, 8, 8)))
    assert torch.equal(flat, torch.zeros_like(flat))
    mask = torch.zeros((2, 1, 32, 48))
    mask[:, :, 8:20, 10:30] = 1
    elsewhere = label.clone()
    elsewhere[:, :, 25:] += 9
    assert float(foreground_loss(elsewhere, label, mask)) == 0
    # A sample's error counts the same whether its foreground is small or large.
    small = mask.clone()
    small[1, :, 12:] = 0
    a, b = (float(foreground_loss(label + 1, label, m)) for m in (mask, small))
    assert a == pytest.approx(b, rel=0.1)


class Line(nn.Module):
    """y = a x + b."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([0.0, 0.0]))

    def forward(self, x):
        return self.weight[0] * x + self.weight[1]


def fit_line(folder: Path, steps: int, stop_at: int | None = None) -> Line:
    def loss(network, step):
        if step == stop_at:
            raise KeyboardInterrupt
        x = torch.from_numpy(np.random.default_rng(step).random(64).astype(np.float32))
        return (network(x) - (2 * x - 1)).square().mean()

    made = Fit(Line(), loss, steps=steps, rate=0.05, checkpoint=folder / "line.pt", device=CPU)
    return made.run(lambda step, total, mean: None)


def test_training_that_was_stopped_goes_on_to_the_same_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(fit_module, "_CHECKPOINT_STEPS", 5)
    (tmp_path / "a").mkdir()
    whole = fit_line(tmp_path / "a", 300)
    (tmp_path / "b").mkdir()
    for stop in (7, 42, 283):
        with pytest.raises(KeyboardInterrupt):
            fit_line(tmp_path / "b", 300, stop_at=stop)
    again = fit_line(tmp_path / "b", 300)
    assert torch.equal(whole.weight, again.weight)


def test_a_course_trains_both_networks(views, tmp_path):
    heard = []
    course = Course(views, COUNTS, tmp_path, seed=1, scene_steps=2, guided_steps=2, device=CPU)
    before = [p.clone() for p in SceneNetwork().parameters()]
    scene = course.train_scene(lambda *event: heard.append(event))
    assert any(not torch.equal(a, b) for a, b in zip(before, scene.parameters(), strict=True))
    guided = course.train_guided(lambda *event: heard.append(event))
    assert [event[:3] for event in heard] == [("scene", 2, 2), ("guided", 2, 2)]
    assert all(np.isfinite(event[3]) for event in heard)
    assert isinstance(guided, GuidedNetwork)


def settled(network: nn.Module, *shapes: int) -> nn.Module:
    """With running statistics of some noise, as a trained network has."""
    torch.manual_seed(0)
    with torch.no_grad():
        for _ in range(3):
            network.train()(*(torch.randn(4, channels, 64, 64) for channels in shapes))
    return network.eval()


@pytest.mark.parametrize(
    ("network", "inputs", "per_side"),
    [
        (SceneNetwork, {"image": 3}, 2),
        (GuidedNetwork, {"image": 3, "mask": 1, "background_depth": 1}, 1),
    ],
)
def test_exported_networks_answer_like_pytorch_at_any_size(network, inputs, per_side, tmp_path):
    trained = settled(network(), *inputs.values())
    path = tmp_path / "network.onnx"
    assert export(trained, path, inputs=inputs, multiple=network.MULTIPLE) < 0.02
    parameters = sum(p.numel() for p in trained.parameters())
    assert path.stat().st_size < 2.1 * parameters + 100_000
    graph = onnx.load(path).graph
    assert not any(node.op_type == "BatchNormalization" for node in graph.node)
    assert [value.name for value in graph.input] == list(inputs)
    rng = np.random.default_rng(0)
    given = [rng.normal(size=(3, channels, 96, 160)).astype(np.float32) for channels in inputs.values()]
    (answer,) = onnxruntime.InferenceSession(path).run(None, dict(zip(inputs, given, strict=True)))
    with torch.no_grad():
        expected = trained(*map(torch.from_numpy, given)).numpy()
    assert answer.shape == expected.shape == (3, 1, 96 // per_side, 160 // per_side)
    assert np.abs(answer - expected).max() < 0.03 * expected.std()


def test_an_export_that_differs_is_refused(tmp_path, monkeypatch):
    from fgbgpack.training import export as export_module

    monkeypatch.setattr(export_module, "_TOLERANCE", 1e-9)
    with pytest.raises(DepthModelError, match="differs from PyTorch"):
        export(settled(SceneNetwork(), 3), tmp_path / "network.onnx", inputs={"image": 3}, multiple=32)


def test_the_command_writes_networks_that_fgbgpack_loads(folders, teacher, tmp_path):
    command = [
        *(sys.executable, "-m", "fgbgpack.training"),
        *("--photographs", folders.photographs, "--backgrounds", folders.backgrounds),
        *("--foregrounds", folders.foregrounds, "--teacher", teacher, "-o", tmp_path / "out"),
        *("--hold-out", "b0.*", "--fraction", "0.001", "--scene-steps", "1", "--guided-steps", "1"),
    ]
    run = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    for kind in ("scene", "guided"):
        model = load_model(tmp_path / "out" / f"fgbgpack-{kind}.onnx")
        assert model.card.document["x-training"]["hold_out"] == ["b0.*"]
        assert model.card.sha256 == model.sha256


def test_a_folder_that_is_not_there_is_named(teacher, folders, tmp_path):
    command = [
        *(sys.executable, "-m", "fgbgpack.training", "--photographs", tmp_path / "none"),
        *("--backgrounds", folders.backgrounds, "--foregrounds", folders.foregrounds),
        *("--teacher", teacher, "-o", tmp_path / "out"),
    ]
    run = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert run.returncode == 3
    assert str(tmp_path / "none") in run.stderr
    assert "Traceback" not in run.stderr
