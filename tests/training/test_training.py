"""The training of the embedded networks: small, but all of it."""

from __future__ import annotations

import json
import os
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
from fgbgpack.training.__main__ import main
from fgbgpack.training.export import export
from fgbgpack.training.fit import Fit
from fgbgpack.training.losses import foreground_loss, gradient_loss, normalised, scene_loss
from fgbgpack.training.networks import DepthNetwork, GuidedNetwork, SceneNetwork
from fgbgpack.training.trainer import Schedule, Trainer
from fgbgpack.training.views import LABEL, Counts, Folders, Views

# PyTorch's exporter uses parts of itself that it has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

CPU = torch.device("cpu")
COUNTS = Counts(photographs=2, backgrounds=2, rooms=3, figures=1, composites=8)
FEW = Counts(photographs=2, backgrounds=1, rooms=1, figures=0, composites=3)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Networks this small gain nothing from threads, and tests run in one process per core."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


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


@pytest.mark.slow
def test_views_have_the_teachers_or_true_depth_as_labels(views):
    label = views.label.astype(np.float32)
    np.testing.assert_allclose(np.median(label, axis=(1, 2)), 0, atol=2e-3)
    np.testing.assert_allclose(np.abs(label).mean(axis=(1, 2)), 1, atol=2e-3)
    # The teacher answers how light a pixel is: the label is that, at half the size, up to scale and shift.
    small = views.image[:4].reshape(4, LABEL, 2, LABEL, 2, 3).mean((2, 4)) @ (0.25, 0.5, 0.25)
    for light, answer in zip(small, label[:4], strict=True):
        assert np.corrcoef(light.ravel(), answer.ravel())[0, 1] > 0.97
    # Rooms: the label is inverse depth in 1/m, and what lies low in the picture is near.
    assert not views.camera[:4].any()
    for camera, answer in zip(views.camera[4:], label[4:], strict=True):
        inverse = camera[4] * answer + camera[5]
        assert 0 < inverse.min() < inverse.max() < 10
        assert inverse[-20:].mean() > inverse[LABEL // 2 - 10 : LABEL // 2 + 10].mean()


@pytest.mark.slow
def test_composites_are_pasted_on_their_view(views):
    for item in range(COUNTS.composites):
        view = views.image[views.view[item]].reshape(LABEL, 2, LABEL, 2, 3).mean((1, 3))
        untouched = views.mask[item] == 0
        assert untouched.any()
        assert (views.mask[item] > 229).sum() >= 100
        assert np.abs(views.composite[item][untouched] - view[untouched]).max() <= 1.5


def test_foregrounds_that_stand_in_a_room_are_where_their_feet_are(views):
    standing = [item for item in range(COUNTS.composites) if views.view[item] >= 4]
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


@pytest.mark.slow
def test_interrupted_work_resumes_to_the_same_views(tmp_path, folders, teacher):
    class StopError(Exception):
        pass

    def stop_at(wanted):
        def on_item(*event):
            if event[:2] == wanted:
                raise StopError

        return on_item

    whole = make_views(tmp_path / "whole", folders, teacher, FEW)
    for wanted in (("views", 1), ("views", 3), ("composites", 2)):
        with pytest.raises(StopError):
            make_views(tmp_path / "stopped", folders, teacher, FEW, stop_at(wanted))
    resumed = make_views(tmp_path / "stopped", folders, teacher, FEW)
    for name in ("image", "label", "camera", "composite", "mask", "foreground", "view"):
        np.testing.assert_array_equal(getattr(resumed, name), getattr(whole, name))


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


def fit_line(folder: Path, stop_at: int | None = None) -> Line:
    def loss(network, step):
        if step == stop_at:
            raise KeyboardInterrupt
        x = torch.from_numpy(np.random.default_rng(step).random(64).astype(np.float32))
        return (network(x) - (2 * x - 1)).square().mean()

    checkpoint = folder / "line.pt"
    fit = Fit(Line(), loss, steps=60, rate=0.05, checkpoint=checkpoint, device=CPU, checkpoint_steps=5)
    return fit.run(lambda step, total, mean: None)


@pytest.mark.slow
def test_interrupted_training_resumes_to_the_same_weights(tmp_path):
    (tmp_path / "whole").mkdir()
    whole = fit_line(tmp_path / "whole")
    (tmp_path / "stopped").mkdir()
    for stop in (7, 42, 53):
        with pytest.raises(KeyboardInterrupt):
            fit_line(tmp_path / "stopped", stop_at=stop)
    resumed = fit_line(tmp_path / "stopped")
    assert torch.equal(whole.weight, resumed.weight)
    assert [path.name for path in (tmp_path / "stopped").iterdir()] == ["line.pt"]


@pytest.mark.slow
def test_a_trainer_trains_both_networks(views, tmp_path):
    events = []
    # The last of three steps of the scene network is at full size.
    schedule = Schedule(scene_steps=3, guided_steps=2, coarse_batch=1, scene_batch=1, guided_batch=2)
    trainer = Trainer(views, tmp_path, seed=1, schedule=schedule, device=CPU)
    torch.manual_seed(1)
    before = [p.clone() for p in SceneNetwork().parameters()]
    scene = trainer.train_scene(lambda *event: events.append(event))
    assert any(not torch.equal(a, b) for a, b in zip(before, scene.parameters(), strict=True))
    guided = trainer.train_guided(lambda *event: events.append(event))
    assert [event[:3] for event in events] == [("scene", 3, 3), ("guided", 2, 2)]
    assert all(np.isfinite(event[3]) for event in events)
    assert isinstance(guided, GuidedNetwork)


class TinyNetwork(DepthNetwork):
    """Of the parts of the real ones, with running statistics of some noise, as a trained network has."""

    INPUTS = {"image": 3, "mask": 1}  # noqa: RUF012

    def __init__(self) -> None:
        torch.manual_seed(0)
        super().__init__((8, 8, 12), (1, 0), (10, 10))
        self.head = nn.Conv2d(10, 1, 3, padding=1)
        with torch.no_grad():
            for _ in range(3):
                self.train()(torch.randn(4, 3, 64, 64), torch.randn(4, 1, 64, 64))
        self.eval()

    def forward(self, image, mask):
        return self.head(self.decode(torch.cat([image, mask], 1)))


def check_export(path: Path, network: DepthNetwork) -> None:
    """The file answers like PyTorch at a size that the export did not see, and holds what runs only."""
    assert path.stat().st_size < 2.1 * sum(p.numel() for p in network.parameters()) + 100_000
    graph = onnx.load(path).graph
    assert not any(node.op_type == "BatchNormalization" for node in graph.node)
    assert [value.name for value in graph.input] == list(network.INPUTS)
    rng = np.random.default_rng(0)
    inputs = {
        name: rng.normal(size=(3, channels, 96, 160)).astype(np.float32)
        for name, channels in network.INPUTS.items()
    }
    (answer,) = onnxruntime.InferenceSession(path).run(None, inputs)
    with torch.no_grad():
        expected = network(*map(torch.from_numpy, inputs.values())).numpy()
    assert answer.shape == expected.shape
    assert answer.shape[:2] == (3, 1)
    assert np.abs(answer - expected).max() < 0.03 * expected.std()


@pytest.mark.slow
def test_an_exported_network_answers_like_pytorch_at_any_size(tmp_path):
    network = TinyNetwork()
    assert export(network, tmp_path / "network.onnx") < 0.02
    check_export(tmp_path / "network.onnx", network)
    with pytest.raises(DepthModelError) as caught:
        export(network, tmp_path / "refused.onnx", tolerance=1e-9)
    assert caught.value.code == "export-differs"
    assert [path.name for path in tmp_path.iterdir()] == ["network.onnx"]


@pytest.mark.slow
def test_the_command_writes_networks_that_fgbgpack_loads(folders, teacher, tmp_path):
    output = tmp_path / "out"
    command = [
        *(sys.executable, "-m", "fgbgpack.training"),
        *("--photographs", folders.photographs, "--backgrounds", folders.backgrounds),
        *("--foregrounds", folders.foregrounds, "--teacher", teacher, "-o", output),
        *("--hold-out", "b0.*", "--fraction", "0.001", "--scene-steps", "1", "--guided-steps", "1"),
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, check=False, env=environment
    )
    assert run.returncode == 0, run.stderr
    for kind, network in (("scene", SceneNetwork()), ("guided", GuidedNetwork())):
        model = load_model(output / f"fgbgpack-{kind}.onnx")
        assert model.card.document["x-training"]["hold_out"] == ["b0.*"]
        assert model.card.sha256 == model.sha256
        network.load_state_dict(torch.load(output / f"{kind}.pt", weights_only=True)["averaged"])
        check_export(model.path, network.eval())


def test_a_folder_that_is_not_there_is_named(teacher, folders, tmp_path, monkeypatch, capsys):
    command = [
        *("python -m fgbgpack.training", "--photographs", tmp_path / "none"),
        *("--backgrounds", folders.backgrounds, "--foregrounds", folders.foregrounds),
        *("--teacher", teacher, "-o", tmp_path / "out"),
    ]
    monkeypatch.setattr(sys, "argv", list(map(str, command)))
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 3
    assert str(tmp_path / "none") in capsys.readouterr().err.replace("\n", "")
