"""The trial of a network as a session opens: batches, chance, and constant answers."""

from __future__ import annotations

import numpy as np
import pytest
from depth_sessions import depth_of, open_session, pictures
from onnx import helper
from onnx_models import FLOAT, card, echo, gray, write_network
from refusals import refused

from fgbgpack.depth.trial import judge, trial_pictures
from fgbgpack.errors import DepthModelError

ONE = card(input={"batch": 1})


def normalising(path, **options):
    """A network that divides red by its largest value in the whole batch."""
    nodes = [
        helper.make_node("Gather", ["input", "channel"], ["red"], axis=1),
        helper.make_node("ReduceMax", ["red"], ["most"], keepdims=0),
        helper.make_node("Max", ["most", "one"], ["divisor"]),
        helper.make_node("Div", ["red", "divisor"], ["output"]),
    ]
    weights = {"channel": np.array([0]), "one": np.array(1, np.float32)}
    return write_network(path, nodes, weights=weights, **options)


def of_one_picture(path, **options):
    """A network whose graph declares a free batch, and reshapes to one picture."""
    nodes = [
        helper.make_node("Gather", ["input", "channel"], ["red"], axis=1),
        helper.make_node("Reshape", ["red", "shape"], ["output"]),
    ]
    return write_network(
        path, nodes, weights={"channel": np.array([0]), "shape": np.array([1, 1, 6, 8])}, **options
    )


def noisy(path):
    """A network left in training mode: it adds noise."""
    nodes = [
        helper.make_node("Gather", ["input", "channel"], ["red"], axis=1),
        helper.make_node("RandomNormalLike", ["red"], ["noise"], scale=20.0),
        helper.make_node("Add", ["red", "noise"], ["output"]),
    ]
    return write_network(path, nodes, weights={"channel": np.array([0])})


def constant(path):
    """A network that answers 3, whatever it sees."""
    nodes = [
        helper.make_node("Gather", ["input", "channel"], ["red"], axis=1),
        helper.make_node("Mul", ["red", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "three"], ["output"]),
    ]
    weights = {"zero": np.array(0, np.float32), "three": np.array(3, np.float32)}
    return write_network(path, nodes, weights=weights | {"channel": np.array([0])})


def alone(session, images):
    return np.concatenate([depth_of(session, images[i : i + 1]) for i in range(len(images))])


@pytest.mark.parametrize("batch", ["n", 4])
def test_a_network_that_mixes_a_batch_gets_one_picture_at_a_time(tmp_path, batch):
    path = normalising(tmp_path / "m.onnx", input=("input", FLOAT, [batch, 3, "h", "w"]))
    session = open_session(path)
    assert [line.split(":")[0] for line in session.notices] == [
        "tiny gets one picture at a time, as it mixes those of a batch"
    ]
    images = pictures(6) // np.arange(1, 7, dtype=np.uint8)[:, None, None, None]
    red = images[..., 0].astype(np.float32)
    expected = (red / red.max(axis=(1, 2), keepdims=True)).astype(np.float16)
    np.testing.assert_array_equal(depth_of(session, images), expected)
    np.testing.assert_array_equal(alone(session, images), expected)


def test_a_network_that_fails_on_batches_gets_one_picture_at_a_time(tmp_path):
    session = open_session(of_one_picture(tmp_path / "m.onnx"))
    assert "gets one picture at a time, as it fails on batches" in session.notices[0]
    images = pictures(5)
    np.testing.assert_array_equal(depth_of(session, images), images[..., 0])


@pytest.mark.parametrize("network", [normalising, of_one_picture])
def test_a_card_that_says_so_is_believed(tmp_path, network):
    session = open_session(network(tmp_path / "m.onnx", card=ONE))
    assert session.notices == []
    assert session.batch_size == 1
    images = pictures(3)
    np.testing.assert_array_equal(depth_of(session, images), alone(session, images))


def test_a_card_that_contradicts_the_graph_is_refused(tmp_path):
    path = gray(tmp_path / "m.onnx", input=("input", FLOAT, [4, 3, "h", "w"]), card=ONE)
    with refused(DepthModelError, "card-invalid", "input.batch: .* takes 4 at a time, the card says 1"):
        open_session(path)


def test_a_network_that_answers_by_chance_is_refused(tmp_path):
    with refused(DepthModelError, "network-random", "another depth each time.*model.eval"):
        open_session(noisy(tmp_path / "m.onnx"))


def test_a_network_that_answers_one_value_is_told_of(tmp_path):
    session = open_session(constant(tmp_path / "m.onnx"))
    assert session.notices == [
        "tiny gives one and the same depth for black, dark and bright pictures: does its card fit?"
    ]


def test_a_sound_network_is_left_alone(tmp_path):
    session = open_session(echo(tmp_path / "m.onnx"))
    assert session.notices == []
    assert session.batch_size > 1


def test_what_fails_alone_too_is_told_as_it_failed_first():
    asked = []

    def answers(numbers):
        asked.append(len(numbers))
        raise DepthModelError(f"failed on {len(numbers)}", code="network-failed")

    with refused(DepthModelError, "network-failed", "failed on 5"):
        judge(answers, 5, "it")
    assert asked == [5, 1]


@pytest.mark.parametrize(("error", "verdict"), [(0.004, "sound"), (0.02, "mixes pictures")])
def test_rounding_is_no_difference(error, verdict):
    """As batches of another size may be summed in another order."""

    def answers(numbers):
        depth = np.empty((len(numbers), 2, 2), np.float16)
        depth[:] = (numbers / 2 + (len(numbers) > 1) * error)[:, None, None]
        return depth

    assert judge(answers, 3, "it") == verdict


def test_the_pictures_differ():
    black, dark, bright = trial_pictures(8, 8)
    assert (black.max(), dark.max(), bright.min()) == (0, dark.max(), bright.min())
    assert 0 < dark.max() < bright.min()
