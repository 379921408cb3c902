"""Guided networks: their inputs, their answer, and the session that runs them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnxruntime
import pytest
from compiled_graphs import pillow
from onnx import TensorProto, helper
from onnx_models import (
    FLOAT16,
    constant_guided,
    gray,
    guided,
    guided_card,
    write_guided,
)
from refusals import refused

from fgbgpack.depth import BackgroundDepth, DepthSession, Execution, load_model
from fgbgpack.depth.card import Quantity
from fgbgpack.depth.graph import compile_graph
from fgbgpack.depth.providers import (
    PROVIDERS,
    engine_folder,
    input_shapes,
    picture_bytes,
    provider_options,
)
from fgbgpack.errors import DepthModelError

RNG = np.random.default_rng(19)
CPU = Execution(device="cpu")
QUANTITIES = [("inverse_depth", None), ("depth", None), ("depth", "m")]


def some_backgrounds(count, height, width, quantity, unit):
    """Slopes of several steepness with things on them: 1 to 9, as metres or as anything else."""
    y, x = np.mgrid[:height, :width]
    slopes = [1 + (4 + i) * (y / height) + np.sin(x / (3 + i)) ** 2 for i in range(count)]
    depth = np.stack(slopes) + RNG.uniform(0, 0.2, (count, height, width))
    return BackgroundDepth.of(depth.astype(np.float32), Quantity(quantity, unit))


def some_masks(n, height, width):
    """Blobs with soft edges, in clear surroundings."""
    y, x = np.mgrid[:height, :width]
    rows, columns = RNG.uniform(0.3, 0.7, (2, n, 1, 1))
    distance = np.hypot((y / height - rows) * 3, (x / width - columns) * 4)
    return np.clip((1 - distance) * 400, 0, 255).astype(np.uint8)


def some_pictures(n, height, width):
    y, x, channel = np.mgrid[:height, :width, :3]
    waves = [np.sin(x / (3 + i % 5) + channel) + np.cos(y / 4 + i) for i in range(n)]
    return np.clip(np.stack(waves) * 60 + 128 + RNG.normal(0, 8, (n, height, width, 3)), 0, 255).astype(
        np.uint8
    )


def open_session(path, backgrounds, **options):
    execution = Execution(options.pop("precision", "fp32"), "cpu")
    size = backgrounds.depth.shape[1:]
    return DepthSession(load_model(path), size, execution=execution, backgrounds=backgrounds, **options)


def depth_of(session, images, mask, background, step=0.0):
    out = np.full(images.shape[:3], np.nan, np.float16)
    minimum, maximum = session.run(images, out, step=step, mask=mask, background=background)
    np.testing.assert_array_equal(minimum, out.min(axis=(1, 2)))
    np.testing.assert_array_equal(maximum, out.max(axis=(1, 2)))
    return out


def by_hand(path, document, images, mask, depth, quantity, unit, size):
    """The same with Pillow, NumPy and a bare session. ``depth`` is each picture's own background's."""
    given, guides, result = document["input"], document.get("guides", {}), document["output"]
    sample, filter_name = images.shape[1:3], given.get("filter", "bilinear")
    depth = depth.astype(np.float64)
    if quantity == "inverse_depth":
        inverse = depth
    elif unit == "m":
        inverse = 1 / np.where(depth < 0.1, 0.1, depth)
    else:
        inverse = -depth
    centre = np.array([np.median(one) for one in inverse])[:, None, None]
    spread = np.abs(inverse - centre).mean(axis=(1, 2), keepdims=True)

    low, high = given["range"]
    planes = np.stack([[pillow(one[..., c], size, filter_name) for c in range(3)] for one in images])
    planes = planes / 255 * (high - low) + low
    planes = (planes - np.reshape(given.get("mean", [0, 0, 0]), (3, 1, 1))) / np.reshape(
        given.get("std", [1, 1, 1]), (3, 1, 1)
    )
    if given["channels"] == "BGR":
        planes = planes[:, ::-1]
    fed = {given["name"]: planes}
    if "mask" in guides:
        low, high = guides["mask"]["range"]
        small = np.stack([[pillow(one, size, filter_name)] for one in mask])
        fed[guides["mask"]["name"]] = small / 255 * (high - low) + low
    if "background_depth" in guides:
        normalised = [[pillow(one, size, filter_name)] for one in (inverse - centre) / spread]
        fed[guides["background_depth"]["name"]] = np.stack(normalised)
    if given["layout"] == "NHWC":
        fed = {name: planes.transpose(0, 2, 3, 1) for name, planes in fed.items()}
    dtype = np.float16 if given.get("dtype") == "float16" else np.float32
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # threads of its own only wait for each other, on a busy machine
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    answer = session.run(None, {name: np.ascontiguousarray(a, dtype) for name, a in fed.items()})[0]
    answer = answer.reshape(len(images), *answer.shape[2:]).astype(np.float64)
    for step in result.get("transform", []):
        answer = answer * step["multiply"]
    if answer.shape[1] % sample[0] or answer.shape[2] % sample[1]:
        answer = np.stack([pillow(one, sample, "bilinear") for one in answer])
    down, right = answer.shape[1] // sample[0], answer.shape[2] // sample[1]
    answer = answer.reshape(len(answer), sample[0], down, sample[1], right).mean(axis=(2, 4))

    if "background_depth" not in guides:
        return answer
    found = np.maximum(answer * spread + centre, inverse.min(axis=(1, 2), keepdims=True))
    if result.get("of") == "foreground":
        for one, behind, hides in zip(found, inverse, mask > 127, strict=True):
            one += max(0.0, (behind - one)[hides].max(initial=0.0))
        alpha = mask / 255
        found = alpha * found + (1 - alpha) * inverse
    if unit == "m":
        found = 1 / found
    elif quantity == "depth":
        found = -found
    return np.where(mask == 0, depth, found) if "mask" in guides else found


#: A size rule, the sample's size, and the size at which the network then sees it.
SIZES = {
    "as it is": ({"multiple_of": 4}, (24, 32), (24, 32)),
    "enlarging": ({"multiple_of": 16}, (27, 37), (32, 32)),
    "fixed, shrinking": ({"fixed": [15, 18]}, (30, 44), (15, 18)),
    "a target": ({"multiple_of": 8, "target": {"short_side": 40}}, (20, 31), (40, 64)),
    "twice as large": ({"fixed": [40, 48]}, (20, 24), (40, 48)),
}

WAYS = {
    "as usual": ({}, {}),
    "bytes moved": (
        {"channels": "BGR", "range": [-1, 1], "filter": "bicubic"},
        {"mask": {"name": "mask", "range": [1, 0]}},
    ),
    "channels last": (
        {"layout": "NHWC", "mean": [120, 121, 122], "std": [64, 65, 66], "filter": "nearest"},
        {"mask": {"name": "mask", "range": [0, 255]}},
    ),
}


@pytest.mark.parametrize("of", ["picture", "foreground"])
@pytest.mark.parametrize(("quantity", "unit"), QUANTITIES)
@pytest.mark.parametrize("rule", SIZES)
@pytest.mark.parametrize("way", WAYS)
def test_equals_doing_it_by_hand(tmp_path, way, rule, quantity, unit, of):
    size_rule, sample, size = SIZES[rule]
    given, guides = WAYS[way]
    layout = given.get("layout", "NCHW")
    document = guided_card(input={"size": size_rule, **given}, guides=guides, output={"of": of})
    path = guided(tmp_path / "m.onnx", layout=layout, card=document)
    backgrounds = some_backgrounds(3, *sample, quantity, unit)
    images, mask = some_pictures(7, *sample), some_masks(7, *sample)
    which = np.array([0, 2, 1, 1, 0, 2, 2], np.int32)
    assert (mask == 0).any()
    assert (mask == 255).any()
    expected = by_hand(path, document, images, mask, backgrounds.depth[which], quantity, unit, size)
    depth = depth_of(open_session(path, backgrounds), images, mask, which)
    np.testing.assert_allclose(depth, expected, rtol=2**-11, atol=1e-3)
    assert np.abs(depth - backgrounds.depth[which]).max() > 0.1
    # Not nearly, but to the last bit: what is not covered does not change.
    np.testing.assert_array_equal(depth[mask == 0], backgrounds.depth[which].astype(np.float16)[mask == 0])


@pytest.mark.parametrize(("quantity", "unit"), QUANTITIES)
def test_values_are_rounded_last_of_all(tmp_path, quantity, unit):
    path, step = guided(tmp_path / "m.onnx"), 2.0**-6
    backgrounds = some_backgrounds(2, 16, 20, quantity, unit)
    images, mask, which = some_pictures(2, 16, 20), some_masks(2, 16, 20), np.arange(2, dtype=np.int32)
    session = open_session(path, backgrounds)
    exact, depth = (depth_of(session, images, mask, which, step=s) for s in (0.0, step))
    np.testing.assert_array_equal(depth % step, 0)
    np.testing.assert_allclose(depth, exact, atol=step / 2 + 2.0**-9)
    np.testing.assert_array_equal(depth[mask == 0], (np.round(backgrounds.depth / step) * step)[mask == 0])


@pytest.mark.parametrize(("quantity", "unit"), QUANTITIES)
def test_nothing_is_farther_than_the_farthest_background(tmp_path, quantity, unit):
    path = constant_guided(tmp_path / "m.onnx", -1000.0, card=guided_card(output={"of": "picture"}))
    backgrounds = some_backgrounds(2, 12, 16, quantity, unit)
    mask = np.full((2, 12, 16), 255, np.uint8)
    depth = depth_of(
        open_session(path, backgrounds), some_pictures(2, 12, 16), mask, np.arange(2, dtype=np.int32)
    )
    farthest = np.max if quantity == "depth" else np.min
    for found, background in zip(depth, backgrounds.depth, strict=True):
        np.testing.assert_allclose(found, farthest(background), rtol=2**-10)


@pytest.mark.parametrize(("quantity", "unit"), QUANTITIES)
def test_a_foreground_is_no_farther_than_what_it_hides(tmp_path, quantity, unit):
    # The network puts it behind everything; only what it hides counts, not what is nearer elsewhere.
    path = constant_guided(tmp_path / "m.onnx", -1000.0, card=guided_card(output={"of": "foreground"}))
    backgrounds = some_backgrounds(2, 12, 16, quantity, unit)
    mask = np.zeros((2, 12, 16), np.uint8)
    mask[:, 3:9, 2:7] = 255
    mask[:, 9, 2:7] = 100
    depth = depth_of(
        open_session(path, backgrounds), some_pictures(2, 12, 16), mask, np.arange(2, dtype=np.int32)
    )
    nearest = np.min if quantity == "depth" else np.max
    for found, background in zip(depth, backgrounds.depth, strict=True):
        np.testing.assert_allclose(found[3:9, 2:7], nearest(background[3:9, 2:7]), rtol=2**-10)


def test_metres_too_near_to_be_true(tmp_path):
    # Their inverse would be infinite. What is not covered is given back as it came all the same.
    depth = np.full((1, 8, 8), 2, np.float32)
    depth[0, :, :2] = 0
    backgrounds = BackgroundDepth.of(depth, Quantity("depth", "m"))
    mask = np.zeros((1, 8, 8), np.uint8)
    mask[0, :, 4:] = 255
    session = open_session(constant_guided(tmp_path / "m.onnx", 0.0), backgrounds)
    found = depth_of(session, some_pictures(1, 8, 8), mask, np.zeros(1, np.int32))
    np.testing.assert_array_equal(found, depth)


@pytest.mark.parametrize(
    "guides", [{"mask": ...}, {"background_depth": ...}], ids=["no mask", "no background"]
)
def test_one_guide_alone(tmp_path, guides):
    document = guided_card(guides=guides, input={"size": {"fixed": [20, 20]}}, output={"of": ...})
    left = "background" if "mask" in guides else "mask"
    path = guided(tmp_path / "m.onnx", inputs=("input", left), card=document)
    model = load_model(path)
    assert (model.card.is_guided, model.card.takes_mask) == (left == "background", left == "mask")
    backgrounds = some_backgrounds(3, 18, 22, "depth", "m")
    images, mask, which = some_pictures(3, 18, 22), some_masks(3, 18, 22), np.array([2, 0, 1], np.int32)
    expected = by_hand(path, document, images, mask, backgrounds.depth[which], "depth", "m", (20, 20))
    if left == "mask":
        session = DepthSession(model, (18, 22), execution=CPU)
        depth = depth_of(session, images, mask, None)
    else:
        depth = depth_of(open_session(path, backgrounds), images, None, which)
    np.testing.assert_allclose(depth, expected, rtol=2**-11, atol=1e-3)


def test_a_mask_beside_a_larger_rendering(tmp_path):
    nodes = [
        helper.make_node("ReduceMean", ["input"], ["gray"], axes=[1], keepdims=1),
        helper.make_node("Add", ["gray", "mask"], ["output"]),
    ]
    document = guided_card(
        guides={"background_depth": ..., "mask": {"name": "mask", "range": [0, 1000]}}, output={"of": ...}
    )
    path = write_guided(tmp_path / "m.onnx", nodes, inputs=("input", "mask"), card=document)
    session = DepthSession(load_model(path), (6, 8), scale=2, execution=CPU)
    images, mask = np.full((2, 12, 16, 3), 7, np.uint8), np.zeros((2, 6, 8), np.uint8)
    mask[1] = 255
    out = np.empty((2, 6, 8), np.float16)
    session.run(images, out, mask=mask)
    np.testing.assert_array_equal(out, np.where(mask, 1007, 7))


def test_half_precision_inputs(tmp_path):
    nodes = [
        helper.make_node("ReduceMean", ["input"], ["gray"], axes=[1], keepdims=1),
        helper.make_node("Sum", ["gray", "mask", "background"], ["output"]),
    ]
    document = guided_card(input={"dtype": "float16", "range": [0, 1]})
    path = write_guided(tmp_path / "m.onnx", nodes, element=FLOAT16, card=document)
    backgrounds = some_backgrounds(2, 8, 12, "inverse_depth", None)
    images, mask, which = some_pictures(2, 8, 12), some_masks(2, 8, 12), np.arange(2, dtype=np.int32)
    expected = by_hand(path, document, images, mask, backgrounds.depth, "inverse_depth", None, (8, 12))
    np.testing.assert_allclose(
        depth_of(open_session(path, backgrounds), images, mask, which), expected, rtol=1e-2
    )


@pytest.mark.parametrize(("quantity", "unit"), QUANTITIES)
def test_products_in_half_precision(tmp_path, quantity, unit):
    path = guided(tmp_path / "m.onnx")
    backgrounds = some_backgrounds(2, 16, 24, quantity, unit)
    images, mask, which = some_pictures(4, 16, 24), some_masks(4, 16, 24), np.array([0, 1, 1, 0], np.int32)
    whole, half = (
        depth_of(open_session(path, backgrounds, precision=p), images, mask, which) for p in ("fp32", "fp16")
    )
    np.testing.assert_array_equal(whole[mask == 0], half[mask == 0])
    assert (whole != half).any()
    np.testing.assert_allclose(whole, half, rtol=0.02, atol=0.02 * np.ptp(whole))


@pytest.mark.parametrize("opset", [11, 13, 17, 18, 21])
def test_opsets(tmp_path, opset):
    ir_version = 10 if opset > 20 else 7
    nodes = [
        helper.make_node("Concat", ["input", "mask", "background"], ["all"], axis=1),
        helper.make_node("Conv", ["all", "weights"], ["output"]),
    ]
    weights = {"weights": np.array([0, 0, 0, 0, 1], np.float32).reshape(1, 5, 1, 1)}
    path = write_guided(tmp_path / "m.onnx", nodes, weights=weights, opset=opset, ir_version=ir_version)
    backgrounds = some_backgrounds(1, 8, 8, "depth", "m")
    mask, which = some_masks(1, 8, 8), np.zeros(1, np.int32)
    # A network that answers with the background's depth leaves everything where it is.
    depth = depth_of(open_session(path, backgrounds), some_pictures(1, 8, 8), mask, which)
    np.testing.assert_allclose(depth, backgrounds.depth, rtol=2**-10)


class TestSession:
    @pytest.fixture
    def backgrounds(self):
        return some_backgrounds(4, 14, 18, "inverse_depth", None)

    @pytest.fixture
    def session(self, tmp_path, backgrounds):
        return open_session(guided(tmp_path / "m.onnx"), backgrounds)

    def given(self, n):
        which = RNG.integers(0, 4, n).astype(np.int32)
        return some_pictures(max(n, 1), 14, 18)[:n], some_masks(n, 14, 18), which

    def test_does_not_depend_on_batches(self, session):
        session.batch_size = 7
        images, mask, which = self.given(40)
        together = depth_of(session, images, mask, which)
        for i in range(40):
            alone = depth_of(session, images[i : i + 1], mask[i : i + 1], which[i : i + 1])
            np.testing.assert_array_equal(alone[0].view(np.uint16), together[i].view(np.uint16))

    def test_no_pictures(self, session):
        out = np.empty((0, 14, 18), np.float16)
        nothing = np.empty((0, 14, 18), np.uint8)
        session.run(np.empty((0, 14, 18, 3), np.uint8), out, mask=nothing, background=np.empty(0, np.int32))

    @pytest.mark.parametrize("bound", [1, 3])
    def test_a_network_that_is_bound_to_a_batch_size(self, tmp_path, backgrounds, session, bound):
        bound_session = open_session(guided(tmp_path / "b.onnx", batch=bound), backgrounds)
        assert bound_session.batch_size == bound
        for n in (1, 2, 3, 7):
            given = self.given(n)
            np.testing.assert_allclose(
                depth_of(bound_session, *given), depth_of(session, *given), rtol=2**-10
            )

    def test_arrays_that_are_not_contiguous(self, session):
        images, mask, which = self.given(6)
        expected = depth_of(session, images, mask, which)
        wide = np.zeros((6, 14, 36), np.uint8)
        wide[:, :, ::2] = mask
        often = np.repeat(which, 2)
        found = depth_of(session, images, wide[:, :, ::2], often[::2])
        np.testing.assert_array_equal(found, expected)

    def test_many_threads(self, session):
        batches = [self.given(n) for n in (1, 9, 40, 3, 17)]
        expected = [depth_of(session, *batch) for batch in batches]
        with ThreadPoolExecutor(4) as pool:
            for got, reference in zip(
                pool.map(lambda b: depth_of(session, *b), batches), expected, strict=True
            ):
                np.testing.assert_array_equal(got, reference)

    def test_arrays_of_another_shape_or_type_are_refused(self, session):
        images, mask, which = self.given(2)
        out = np.zeros((2, 14, 18), np.float16)
        for wrong, words in [
            ({"mask": None}, "mask: found None"),
            ({"background": None}, "background: found None"),
            ({"mask": mask[:1]}, "mask: found uint8"),
            ({"mask": mask.astype(np.float32)}, "mask: found float32"),
            ({"background": which.astype(np.int64)}, "background: found int64"),
            ({"background": which[:1]}, "background: found int32"),
            ({"background": np.array([0, 4], np.int32)}, "found 0 to 4, expected 0 to 3"),
            ({"background": np.array([-1, 0], np.int32)}, "found -1 to 0, expected 0 to 3"),
        ]:
            with pytest.raises(ValueError, match=words):
                session.run(images, out, **({"mask": mask, "background": which} | wrong))
        assert not out.any()

    def test_a_network_that_is_not_guided_takes_no_guides(self, tmp_path, backgrounds):
        session = DepthSession(load_model(gray(tmp_path / "g.onnx")), (14, 18), execution=CPU)
        images, mask, which = self.given(2)
        out = np.zeros((2, 14, 18), np.float16)
        for guide in ({"mask": mask}, {"background": which}):
            with pytest.raises(ValueError, match=r"found an array, but tiny takes none"):
                session.run(images, out, **guide)
        with pytest.raises(ValueError, match="not a guided network"):
            open_session(tmp_path / "g.onnx", backgrounds)

    def test_needs_backgrounds(self, tmp_path, backgrounds):
        model = load_model(guided(tmp_path / "m.onnx"))
        with refused(DepthModelError, "model-kind-mismatch"):
            DepthSession(model, (14, 18), execution=CPU)
        with pytest.raises(ValueError, match=r"found depth of shape \(4, 14, 18\)"):
            DepthSession(model, (18, 14), execution=CPU, backgrounds=backgrounds)

    def test_sees_pictures_at_the_samples_size(self, tmp_path, backgrounds):
        with refused(DepthModelError, "model-kind-mismatch", "found scale 2, expected 1"):
            open_session(guided(tmp_path / "m.onnx"), backgrounds, scale=2)

    def test_a_network_that_gives_nan_fails_at_once(self, tmp_path, backgrounds):
        for of in ("picture", "foreground"):
            path = constant_guided(tmp_path / "m.onnx", float("nan"), card=guided_card(output={"of": of}))
            with refused(DepthModelError, "network-output-not-finite"):
                open_session(path, backgrounds)

    def test_a_network_that_cannot_run_at_this_size(self, tmp_path, backgrounds):
        nodes = [
            helper.make_node("Add", ["mask", "background"], ["sum"]),
            helper.make_node("Reshape", ["sum", "shape"], ["output"]),
        ]
        path = write_guided(tmp_path / "m.onnx", nodes, weights={"shape": np.array([-1, 1, 99, 1])})
        with refused(DepthModelError, "model-not-runnable", r"\[1, 3, 14, 18\]"):
            open_session(path, backgrounds)

    def test_names_of_the_network_cannot_collide_with_ours(self, tmp_path, backgrounds):
        document = guided_card(
            input={"name": "step"},
            guides={
                "mask": {"name": "images", "range": [0, 1]},
                "background_depth": {"name": "spread", "normalise": "median"},
            },
            output={"name": "centre"},
        )
        nodes = [helper.make_node("Identity", ["spread"], ["centre"])]
        path = write_guided(
            tmp_path / "m.onnx",
            nodes,
            inputs=("step", "images", "spread"),
            output=("centre", TensorProto.FLOAT, None),
            card=document,
        )
        images, mask, which = self.given(3)
        found = depth_of(open_session(path, backgrounds), images, mask, which)
        np.testing.assert_allclose(found, backgrounds.depth[which], rtol=2**-10)

    @pytest.mark.parametrize("is_resident", [True, False])
    def test_a_device_gives_what_the_host_gives(self, session, is_resident):
        # The way that a GPU is fed, in the CPU's memory: with the depth of all backgrounds, or of those seen.
        batches = [self.given(n) for n in (5, 40, 5)]
        expected = [depth_of(session, *batch) for batch in batches]
        session._on_host = False
        session.batch_size = 16
        if not is_resident:
            session._tables = {}
        for batch, reference in zip(batches, expected, strict=True):
            np.testing.assert_array_equal(depth_of(session, *batch), reference)

    def test_backgrounds_that_would_fill_a_device_stay_on_the_host(self, session, backgrounds):
        class Small:
            free_bytes = backgrounds.depth.nbytes * 4 - 1

        class Large:
            free_bytes = backgrounds.depth.nbytes * 4

        assert session._resident_rows(Small()) == 0
        assert session._resident_rows(Large()) == session._resident_rows(None) == 4

    def test_tensorrt_is_told_the_shape_of_every_free_input(self, tmp_path):
        compiled = compile_graph(
            load_model(guided(tmp_path / "m.onnx")), (14, 18), background=Quantity(*QUANTITIES[0])
        )
        shapes = input_shapes(compiled, {"n": 16, "b": 4})
        options = provider_options("tensorrt", "fp32", shapes, None)[0]
        assert options[0] == PROVIDERS["tensorrt"]
        assert options[1]["trt_profile_min_shapes"] == (
            "images:1x14x18x3,mask:1x14x18,background:1x14x18,centre:1,spread:1,which:1"
        )
        assert options[1]["trt_profile_max_shapes"] == (
            "images:16x14x18x3,mask:16x14x18,background:4x14x18,centre:4,spread:4,which:16"
        )

    def test_engines_are_kept_apart_by_the_quantity_of_backgrounds(self, tmp_path, monkeypatch):
        monkeypatch.setenv("FGBGPACK_MODELS", str(tmp_path / "models"))
        model = load_model(guided(tmp_path / "m.onnx"))
        folders = {engine_folder(model, "fp32", {"background": Quantity(*q)}, "A") for q in QUANTITIES}
        assert len(folders) == 3

    def test_bytes_that_a_picture_takes(self, session):
        compiled = compile_graph(session.model, (64, 32), background=Quantity("depth", "m"))
        # At least the features between its two convolutions, and what they are made of.
        assert picture_bytes(compiled) >= (8 + 5) * 4 * 64 * 32
