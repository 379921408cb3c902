"""Batches of arrays that are augmented: alike in all fields, by sample and epoch, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fgbgpack import Augment, Batch, SpecError, open_dataset


@pytest.fixture(scope="module")
def scenes() -> dict[str, np.ndarray]:
    """Pictures whose colour, mask, instance and depth say which pixel of the sample is which."""
    n, height, width = 50, 40, 60
    y, x = np.mgrid[:height, :width].astype(np.uint8)
    image = np.stack([y * 4, x * 4, y * 0], axis=-1)
    random = np.random.default_rng(0)
    depth = np.broadcast_to(y * 100.0 + x, (n, height, width)).astype(np.float16)
    depth = np.where(random.random(depth.shape) < 0.02, np.float16(np.nan), depth)
    return {
        "image": np.broadcast_to(image, (n, *image.shape)),
        "mask": np.broadcast_to(y * 4, (n, height, width)),
        "instance": random.integers(0, 4, (n, height, width), np.uint8),
        "depth": depth,
        "background_image": np.broadcast_to(image, (n, *image.shape)),
        "background_depth": np.float16(1) / (1 + depth),
    }


class TestFields:
    def test_all_show_the_same_part(self, scenes: dict[str, np.ndarray]) -> None:
        augment = Augment(
            size=(48, 48), brightness=0, contrast=0, saturation=0, hue=0, tint=0, blur=0, noise=0, zoom=(1, 3)
        )
        found = augment.arrays(scenes, np.arange(50), epoch=2)
        assert {name: (a.dtype, a.shape[1:3]) for name, a in found.items()} == {
            name: (a.dtype, (48, 48)) for name, a in scenes.items()
        }
        np.testing.assert_array_equal(found["image"][..., 0], found["mask"])
        np.testing.assert_array_equal(found["image"], found["background_image"])
        windows = set()
        for i in range(50):
            red, green = found["image"][i, ..., 0].astype(int), found["image"][i, ..., 1].astype(int)
            # The nearest pixel is at most half of one away, and 4 levels are one pixel.
            y, x = red / 4, green / 4
            shown = found["depth"][i]
            values = np.unique(scenes["depth"][i][~np.isnan(scenes["depth"][i])])
            assert np.isin(shown[~np.isnan(shown)], values).all()
            there = ~np.isnan(shown)
            rows, columns = np.divmod(shown.astype(np.float64), 100)
            exact = there & (rows * 100 + columns < 2048)  # float16 has all of these
            assert np.abs(rows - y)[exact].max() <= 0.76
            assert np.abs(columns - x)[exact].max() <= 0.76
            np.testing.assert_array_equal(np.isnan(found["background_depth"][i]), np.isnan(shown))
            windows.add((red.min(), green.min(), red.max(), green.max()))
        assert len(windows) > 40

    def test_instances_stay_numbers(self, scenes: dict[str, np.ndarray]) -> None:
        found = Augment().arrays({"instance": scenes["instance"] * 50}, np.arange(50))
        assert set(np.unique(found["instance"])) == {0, 50, 100, 150}

    def test_each_field_is_the_same_alone(self, scenes: dict[str, np.ndarray]) -> None:
        augment, indices = Augment(seed=5), np.arange(50) * 3
        together = augment.arrays(scenes, indices, epoch=1)
        for name in scenes:
            alone = augment.arrays({name: scenes[name]}, indices, epoch=1)[name]
            np.testing.assert_array_equal(alone, together[name])

    def test_some_of_a_batch_are_the_same_as_in_it(self, scenes: dict[str, np.ndarray]) -> None:
        augment = Augment(seed=5)
        whole = augment.arrays(scenes, np.arange(50), epoch=3, threads=1)
        threaded = augment.arrays(scenes, np.arange(50), epoch=3, threads=4)
        some = np.array([31, 7, 49])
        part = augment.arrays({name: a[some] for name, a in scenes.items()}, some, epoch=3)
        for name in scenes:
            np.testing.assert_array_equal(part[name], whole[name][some])
            np.testing.assert_array_equal(threaded[name], whole[name])

    def test_epochs_seeds_and_samples_differ(self, scenes: dict[str, np.ndarray]) -> None:
        first = Augment().draw(np.arange(50), 40, 60).window
        for other in (
            Augment(seed=1).draw(np.arange(50), 40, 60),
            Augment(seed=1 << 32).draw(np.arange(50), 40, 60),
            Augment().draw(np.arange(50), 40, 60, epoch=1),
            Augment().draw(np.arange(50), 40, 60, epoch=1 << 32),
            Augment().draw(np.arange(50) + (1 << 32), 40, 60),
            Augment().draw(np.arange(50) + 50, 40, 60),
        ):
            assert (first != other.window).any(axis=1).all()

    def test_what_is_off_changes_nothing_else(self) -> None:
        indices = np.arange(64)
        names = ("window", "mirror", "colour", "blur", "noise")
        for option, changed in (
            ({"zoom": None}, {"window"}),
            ({"crop": False}, {"window"}),
            ({"mirror": 0}, {"mirror"}),
            ({"brightness": 0, "contrast": 0, "saturation": 0, "hue": 0, "tint": 0}, {"colour"}),
            ({"blur": 0}, {"blur"}),
            ({"blur_probability": 0}, {"blur"}),
            ({"noise": 0}, {"noise"}),
        ):
            on, off = Augment().draw(indices, 40, 60), Augment(**option).draw(indices, 40, 60)
            assert {
                name for name in names if not np.array_equal(getattr(on, name), getattr(off, name))
            } == changed

    def test_half_are_mirrored_and_a_share_is_blurred(self) -> None:
        drawn = Augment(mirror=0.5, blur_probability=0.25).draw(np.arange(4000), 40, 60)
        assert abs(drawn.mirror.mean() - 0.5) < 0.03
        assert abs((drawn.blur[:, 0] > 0).mean() - 0.25) < 0.03

    def test_what_is_given_is_not_changed(self, scenes: dict[str, np.ndarray]) -> None:
        before = {name: array.copy() for name, array in scenes.items()}
        Augment().arrays(scenes, np.arange(50))
        for name, array in before.items():
            np.testing.assert_array_equal(scenes[name], array)

    def test_arrays_need_not_be_contiguous(self, scenes: dict[str, np.ndarray]) -> None:
        wide = {name: np.repeat(array, 2, axis=2)[:, :, ::2] for name, array in scenes.items()}
        first, second = (Augment().arrays(arrays, np.arange(50)) for arrays in (scenes, wide))
        for name in scenes:
            np.testing.assert_array_equal(first[name], second[name])


class TestBatches:
    def test_a_dataset_and_one_sample_of_it(self, depth_dataset: Path) -> None:
        dataset = open_dataset(depth_dataset)
        augment = Augment(seed=2)
        batch = dataset.read([5, 9])
        changed = augment(batch, [5, 9], epoch=4)
        assert isinstance(changed, Batch)
        assert changed.image.shape == batch.image.shape
        assert not np.array_equal(changed.image, batch.image)
        np.testing.assert_array_equal(changed.background, batch.background)
        one = augment(dataset[9], 9, epoch=4)
        for name, array in changed.arrays.items():
            np.testing.assert_array_equal(one.arrays[name], array[1])

    def test_what_has_no_pictures_stays(self) -> None:
        assert Augment().arrays({"y": np.arange(3)}, np.arange(3))["y"].tolist() == [0, 1, 2]
        assert Augment()(Batch({}), []).arrays == {}

    def test_no_samples(self) -> None:
        found = Augment(size=(9, 9)).arrays({"image": np.empty((0, 8, 8, 3), np.uint8)}, np.empty(0, int))
        assert found["image"].shape == (0, 9, 9, 3)

    def test_options_go_through_json(self) -> None:
        augment = Augment(size=(64, 96), zoom=(1, 2), seed=2**64 - 1)
        assert Augment(**json.loads(json.dumps(augment.to_dict()))) == augment
        assert hash(Augment(size=[64, 96], zoom=[1, 2], seed=2**64 - 1)) == hash(augment)  # type: ignore[arg-type]


class TestBoxes:
    @settings(max_examples=60)
    @given(st.data())
    def test_they_hold_what_they_held(self, data: st.DataObject) -> None:
        height, width = data.draw(st.integers(8, 40)), data.draw(st.integers(8, 40))
        n, seed = 12, data.draw(st.integers(0, 1000))
        random = np.random.default_rng(seed)
        edges = [
            np.sort([random.choice(side + 1, 2, replace=False) for _ in range(n)]) for side in (height, width)
        ]
        boxes = np.stack([edges[0][:, 0], edges[1][:, 0], edges[0][:, 1], edges[1][:, 1]], axis=1)
        mask = np.zeros((n, height, width), np.uint8)
        for i, (top, left, bottom, right) in enumerate(boxes):
            mask[i, top:bottom, left:right] = 255
        size = data.draw(st.sampled_from([None, (height, height), (2 * height, width)]))
        augment = Augment(size=size, zoom=(1, 2), seed=seed)
        shown = augment.arrays({"mask": mask}, np.arange(n), epoch=6)["mask"]
        found = augment.boxes(boxes, np.arange(n), (height, width), epoch=6)
        # Pixels of what comes out for one of a sample.
        scale = shown.shape[1] * 65536 / augment.draw(np.arange(n), height, width, epoch=6).window[:, 2]
        for i in range(n):
            rows, columns = np.flatnonzero((shown[i] > 127).any(1)), np.flatnonzero((shown[i] > 127).any(0))
            top, left, bottom, right = found[i]
            if not len(rows):
                # Nothing is left, or a sliver of it.
                assert min(bottom - top, right - left) <= scale[i] + 1
                continue
            # A box lies at most a pixel outside of what is more than half there; slivers are nowhere so.
            around = (rows[0] - top, bottom - rows[-1] - 1, columns[0] - left, right - columns[-1] - 1)
            assert min(around) >= 0
            if min(bottom - top, right - left) > 2 * scale[i]:
                assert max(around) <= 1

    def test_exactly(self) -> None:
        augment = Augment(zoom=(2, 2), crop=False, mirror=1)
        boxes = np.array([[[2, 2, 6, 4], [-1, -1, -1, -1], [0, 0, 2, 8], [3, 0, 9, 9]]])
        # The middle 4x4 of 8x8, twice as large, mirrored.
        expected = [[[0, 4, 8, 8], [-1, -1, -1, -1], [0, 0, 0, 0], [2, 0, 8, 8]]]
        assert augment.boxes(boxes, [0], (8, 8)).tolist() == expected

    def test_with_the_pictures_that_they_are_in(self) -> None:
        boxes = np.array([[[2, 2, 6, 4], [-1, -1, -1, -1]], [[0, 0, 8, 8], [1, 1, 3, 3]]], np.int16)
        arrays = {"mask": np.zeros((2, 8, 8), np.uint8), "objects/box": boxes}
        augment, indices = Augment(size=(16, 16)), np.array([4, 9])
        found = augment.arrays(arrays, indices, epoch=1)["objects/box"]
        assert found.dtype == np.int16
        np.testing.assert_array_equal(found, augment.boxes(boxes, indices, (8, 8), epoch=1))
        with pytest.raises(SpecError) as caught:
            augment.arrays({"objects/box": boxes}, indices)
        assert caught.value.code == "array-misfit"


class TestErrors:
    @pytest.mark.parametrize(
        ("options", "problems"),
        [
            ({"zoom": (2, 1)}, 1),
            ({"zoom": (0.5, 1)}, 1),
            ({"zoom": (1, 17)}, 1),
            ({"zoom": 2}, 1),
            ({"zoom": (1, float("nan"))}, 1),
            ({"size": (0, 8)}, 1),
            ({"size": (8.5, 8)}, 1),
            ({"size": 128}, 1),
            ({"size": (128, 1 << 20)}, 1),
            ({"crop": "yes"}, 1),
            ({"mirror": True}, 1),
            ({"mirror": 1.5, "blur": -1, "noise": float("inf"), "hue": 0.3, "seed": -1, "tint": "a"}, 6),
            ({"brightness": 2, "contrast": -0.1, "saturation": None, "blur_probability": 7}, 4),
            ({"seed": 1 << 64}, 1),
            ({"noise": 1000}, 1),
        ],
    )
    def test_options(self, options: dict[str, object], problems: int) -> None:
        with pytest.raises(SpecError) as caught:
            Augment(**options)  # type: ignore[arg-type]
        assert caught.value.code == "option-invalid"
        assert len(caught.value.problems) == problems
        assert all(name in str(caught.value) for name in options)

    def test_pictures_are_not_made_so_small_that_pixels_are_left_out(self) -> None:
        assert Augment(size=(20, 30)).size_of(40, 60) == (20, 30)
        assert Augment(size=(10, 15), zoom=(2, 3)).size_of(40, 60) == (10, 15)
        assert Augment(size=(20, 20), zoom=None).size_of(40, 60) == (20, 20)
        for augment in (Augment(size=(19, 28)), Augment(size=(10, 15)), Augment(size=(19, 19), zoom=None)):
            with pytest.raises(SpecError) as caught:
                augment.size_of(40, 60)
            assert caught.value.code == "option-invalid"

    @pytest.mark.parametrize(
        ("arrays", "indices", "epoch"),
        [
            ({"image": np.zeros((2, 8, 8, 3), np.uint8)}, [0], 0),
            ({"image": np.zeros((2, 8, 8, 3), np.uint8)}, [[0, 1]], 0),
            ({"image": np.zeros((2, 8, 8, 3), np.uint8)}, [0.5, 1], 0),
            ({"image": np.zeros((2, 8, 8, 3), np.uint8)}, [0, -1], 0),
            ({"image": np.zeros((2, 8, 8, 3), np.uint8)}, [True, False], 0),
            ({"image": np.zeros((2, 8, 8, 3), np.uint8)}, [0, 1], -1),
            ({"image": np.zeros((2, 8, 8, 3), np.uint8)}, [0, 1], 0.5),
            ({"image": np.zeros((2, 8, 8, 4), np.uint8)}, [0, 1], 0),
            ({"image": np.zeros((2, 8, 8, 3), np.float32)}, [0, 1], 0),
            ({"mask": np.zeros((2, 8, 8), np.float32)}, [0, 1], 0),
            ({"depth": np.zeros((2, 8, 8), np.complex64)}, [0, 1], 0),
            ({"mask": np.zeros((2, 0, 8), np.uint8)}, [0, 1], 0),
            ({"mask": np.zeros((2, 8, 8), np.uint8), "depth": np.zeros((2, 8, 9), np.float16)}, [0, 1], 0),
        ],
    )
    def test_arrays(self, arrays: dict[str, np.ndarray], indices: list[int], epoch: int) -> None:
        with pytest.raises(SpecError) as caught:
            Augment()(Batch(arrays), indices, epoch=epoch)
        assert caught.value.code == "array-misfit"

    @pytest.mark.parametrize("boxes", [np.zeros(4, int), np.zeros((2, 3), int), np.zeros((2, 4))])
    def test_boxes(self, boxes: np.ndarray) -> None:
        with pytest.raises(SpecError) as caught:
            Augment().boxes(boxes, [0, 1], (8, 8))
        assert caught.value.code == "array-misfit"
