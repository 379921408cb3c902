"""Filters, counts and orders of the page, compared with what datasets and NumPy say."""

from __future__ import annotations

import dataclasses
import shutil

import annotated_sets
import numpy as np
import pytest
from builders import Pictures

from fgbgpack import DatasetError, SpecError, create, open_dataset
from fgbgpack.pipeline import ImportSpec, import_folder
from fgbgpack.viewer import columns, filters, search
from fgbgpack.viewer.collection import Collection
from fgbgpack.viewer.query import Query
from fgbgpack.viewer.search import Searches


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    """Parts of 16 samples, so that small datasets have several."""
    for module in (columns, filters):
        monkeypatch.setattr(module, "PART", 16)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """150 scenes with up to three objects, some without any, in two categories, with a split."""
    folder = tmp_path_factory.mktemp("scenes")
    pictures = Pictures(folder / "pictures", foregrounds=4)
    for name in ("f0.png", "f3.png"):
        (pictures.foregrounds / "people").mkdir(exist_ok=True)
        (pictures.foregrounds / name).rename(pictures.foregrounds / "people" / name)
    (pictures.foregrounds / "things").mkdir()
    for name in ("f1.png", "f2.png"):
        (pictures.foregrounds / name).rename(pictures.foregrounds / "things" / name)
    spec = pictures.spec(
        samples=150, objects="1-3", empty=0.2, foreground_height="5-15", truncate=0.3, overlap=0.1,
        blend="soft,hard", classes=True, placement="inside",
    )  # fmt: skip
    create(folder / "scenes.zarr", spec, virtual=True)
    ds = open_dataset(folder / "scenes.zarr")
    for by in ("background", "foreground", "both", "sample"):
        ds.save_split(by, {"train": 0.5, "test": 0.3}, by=by)
    ds.save_split("list", {"good": [3, 4, 5, 70], "bad": [0]})
    return ds


@pytest.fixture(scope="module")
def deep(kinds):
    return open_dataset(kinds["split"])


def found(dataset, **parameters: str) -> list[int]:
    """All samples of a query, in its order."""
    got = Searches(dataset).samples(Query.of(parameters), range(len(dataset)), 60)
    assert got is not None
    return got.tolist()


@pytest.mark.parametrize(
    ("parameters", "conditions"),
    [
        ({"bg": "1"}, {"background": 1}),
        ({"bg": "0,2"}, {"background": [0, 2]}),
        ({"fg": "1"}, {"foreground": 1}),
        ({"fg": "0,1", "flip": "yes"}, {"foreground": [0, 1], "flip": True}),
        ({"flip": "no", "bg": "2"}, {"background": 2, "flip": False}),
    ],
)
@pytest.mark.parametrize("kind", ["deep", "scenes"])
def test_filters_find_what_where_finds(kind, parameters, conditions, request):
    dataset = request.getfixturevalue(kind)
    expected = dataset.where(**conditions).tolist()
    assert 0 < len(expected) < len(dataset)
    assert found(dataset, **parameters) == expected


@pytest.mark.parametrize(
    ("parameters", "conditions"),
    [
        ({"cat": "1"}, {"category": 1}),
        ({"height": "8:11"}, {"height": (8, 11)}),
        ({"height": ":7"}, {"height": (0, 7)}),
        ({"visible": "0.5:0.9"}, {"visible": (0.5, 0.9)}),
        # Of one and the same object.
        ({"cat": "0", "height": "8:11", "visible": "0.2:0.9", "flip": "yes"},
         {"category": 0, "height": (8, 11), "visible": (0.2, 0.9), "flip": True}),
    ],
)  # fmt: skip
def test_filters_of_scenes_find_what_where_finds(scenes, parameters, conditions):
    expected = scenes.where(**conditions).tolist()
    assert 0 < len(expected) < len(scenes)
    assert found(scenes, **parameters) == expected


def test_edges_numbers_and_places_of_objects(scenes):
    objects = scenes.objects
    there = objects.foreground >= 0
    assert found(scenes, blend="hard") == np.flatnonzero((objects.blend == 1).any(axis=1)).tolist()
    assert found(scenes, objects="2:2") == np.flatnonzero(objects.count == 2).tolist()
    assert found(scenes, objects=":0") == np.flatnonzero(objects.count == 0).tolist()
    top, left, bottom, right = (objects.box[..., k].astype(float) for k in range(4))
    y, x = (top + bottom) / 2, (left + right) / 2
    inside = there & (bottom > top) & (y >= 5.5) & (y < 12) & (x >= 3) & (x < 20)
    expected = np.flatnonzero(inside.any(axis=1)).tolist()
    assert 0 < len(expected) < len(scenes)
    assert found(scenes, region="3,5.5,20,12") == expected


def test_the_place_of_one_foreground_is_the_middle_of_its_box(deep):
    box = deep.bbox
    y, x = (box[:, 0] + box[:, 2]) / 2, (box[:, 1] + box[:, 3]) / 2
    expected = np.flatnonzero((y < 9) & (x >= 12.5) & (x < 33)).tolist()
    assert 0 < len(expected) < len(deep)
    assert found(deep, region="12.5,0,33,9") == expected


def test_depth_of_samples(deep):
    low, high = deep.depth_min, deep.depth_max
    middle = float(np.median(low))
    assert found(deep, depth_min=f":{middle}") == np.flatnonzero(low <= middle).tolist()
    middle = float(np.median(high))
    assert found(deep, depth_max=f"{middle}:") == np.flatnonzero(high >= middle).tolist()


def test_words_are_found_in_names_of_pictures_and_of_categories(scenes, deep):
    assert found(deep, text="B1") == deep.where(background="b1.png").tolist()
    assert found(deep, text="b1 f0.p") == deep.where(background=1, foreground=0).tolist()
    assert found(deep, text="nothing") == []
    assert found(scenes, text="people") == scenes.where(category="people").tolist()


@pytest.mark.parametrize("by", ["background", "foreground", "both", "sample", "list"])
def test_parts_of_splits(scenes, by):
    parts = scenes.split(by)
    for part, samples in parts.items():
        assert found(scenes, split=by, part=part) == samples.tolist()
    rest = sorted(set(range(len(scenes))) - {i for part in parts.values() for i in part.tolist()})
    assert found(scenes, split=by, part="") == rest


def test_imported_samples(kinds):
    ds = open_dataset(kinds["imported"])
    names = ds.names
    assert names is not None
    word = names[3].lower()[-6:]
    expected = [i for i, name in enumerate(names) if word in name.lower()]
    assert found(ds, text=word) == expected
    box = ds.bbox
    height = box[:, 2] - box[:, 0]
    middle = int(np.median(height))
    assert found(ds, height=f"{middle}:") == np.flatnonzero(height >= middle).tolist()
    y, x = (box[:, 0] + box[:, 2]) / 2, (box[:, 1] + box[:, 3]) / 2
    assert found(ds, region="0,0,16,33") == np.flatnonzero((x < 16) & (height > 0) & (y >= 0)).tolist()


@pytest.fixture(scope="module")
def annotated(tmp_path_factory):
    """An imported set of objects of two categories; how much of them is seen is not known."""
    folder = tmp_path_factory.mktemp("annotated")
    maps = annotated_sets.penn_fudan(folder / "set", (2, 0, 3, 1))
    rows = [f"Fudan{i:05d}.png,{('dog', 'cat')[i % 2]}" for i in range(len(maps))]
    (folder / "set/PNGImages/sources.csv").write_text("\n".join(["file,category", *rows, ""]))
    import_folder(folder / "it.zarr", ImportSpec(str(folder / "set")))
    return open_dataset(folder / "it.zarr"), maps


def test_imported_objects(annotated):
    ds, maps = annotated
    assert ds.categories == ("dog", "cat")
    assert found(ds, cat="1") == ds.where(category="cat").tolist() == [3]
    assert found(ds, cat="0") == [0, 2]
    assert found(ds, objects="2:") == [0, 2]
    assert found(ds, objects=":0") == [1]
    # The heights of the rectangles are 6, 7 and 8.
    assert found(ds, height="8:") == [2]
    assert found(ds, height="8:", cat="1") == []
    got = counts(ds)
    assert got.category.tolist() == [5, 1]
    assert got.placed.sum() == got.height.sum() == 6
    assert got.foreground.tolist() == []
    rows = Collection(ds).rows(np.arange(4), boxes=False)
    assert [len(row["objects"]) for row in rows] == [2, 0, 3, 1]
    rows_of, columns_of = (np.flatnonzero((maps[2] == 3).any(axis=axis)) for axis in (1, 0))
    third = rows[2]["objects"][2]
    assert third["box"] == [rows_of[0], columns_of[0], rows_of[-1] + 1, columns_of[-1] + 1]
    assert (third["category"], third["visible"], third["fg"]) == ("dog", None, -1)
    about = Collection(ds).describe()
    assert (about["most_objects"], about["objects"], about["shares"]) == (3, True, False)
    assert ("objects" in about["sorts"], "visible" in about["sorts"]) == (True, False)
    assert [one["height"] for one in Collection(ds).sample(2)["objects"]] == [6, 7, 8]


def test_a_word_does_not_go_from_one_name_to_the_next(kinds, monkeypatch):
    ds = open_dataset(kinds["imported"])
    names = np.array([b"ab", b"cd", b"bc"]).view(np.uint8).reshape(3, 2)

    class Names:
        def read(self, samples):
            return names

    source = Searches(ds).columns
    monkeypatch.setattr(source, "_stored", lambda path: Names())
    assert source.named(range(3), "bc").tolist() == [False, False, True]
    assert source.named(range(3), "b").tolist() == [True, False, True]


# --- order -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parameters", [{}, {"bg": "0,2"}])
def test_orders(scenes, parameters):
    chosen = found(scenes, **parameters)
    objects = scenes.objects
    there = objects.foreground >= 0
    keys = {
        "background": scenes.sample_arrays["background"].astype(float),
        "foreground": np.where(there[:, 0], objects.foreground[:, 0], np.nan),
        "height": np.where(there.any(axis=1), objects.height.max(axis=1), np.nan),
        "visible": np.where(there.any(axis=1), np.where(there, objects.visible, 9).min(axis=1), np.nan),
        "objects": objects.count.astype(float),
    }
    for sort, key in keys.items():
        for desc in ("0", "1"):
            sign = -1 if desc == "1" else 1
            expected = sorted(
                chosen,
                key=lambda i, key=key, sign=sign: (
                    np.isnan(key[i]),
                    sign * key[i] if not np.isnan(key[i]) else 0,
                ),
            )
            assert found(scenes, sort=sort, desc=desc, **parameters) == expected, (sort, desc)
    assert found(scenes, desc="1", **parameters) == chosen[::-1]


def test_samples_are_mixed_evenly(scenes):
    for parameters in ({}, {"bg": "1"}):
        chosen, mixed = found(scenes, **parameters), found(scenes, sort="spread", **parameters)
        assert sorted(mixed) == chosen
        assert mixed != chosen
    backgrounds = scenes.sample_arrays["background"][found(scenes, sort="spread")[:9]]
    assert len(set(backgrounds.tolist())) == 3


def test_places_are_read_in_any_portions(scenes):
    for parameters in ({}, {"bg": "0,1", "sort": "spread"}, {"sort": "height"}, {"flip": "yes", "desc": "1"}):
        searches, query, whole = Searches(scenes), Query.of(parameters), found(scenes, **parameters)
        for start in range(0, len(whole) + 20, 11):
            got = searches.samples(query, range(start, start + 11), 60)
            assert got is not None
            assert got.tolist() == whole[start : start + 11]


def test_too_many_samples_are_not_sorted(scenes, monkeypatch):
    monkeypatch.setattr(search, "MOST_SORTED", 149)
    with pytest.raises(SpecError, match="filter them first") as refused:
        found(scenes, sort="height")
    assert refused.value.code == "view-invalid"
    assert len(found(scenes, sort="height", objects="1:")) < 150


# --- counts ------------------------------------------------------------------------------------------


def counts(dataset, **parameters: str):
    one = Searches(dataset).search(Query.of(parameters), counting=True)
    assert one.wait(60)
    return one.counts


def test_counts_of_everything(scenes):
    objects, got = scenes.objects, counts(scenes)
    there = objects.foreground >= 0
    assert got.background.tolist() == np.bincount(scenes.sample_arrays["background"], minlength=3).tolist()
    assert got.foreground.tolist() == np.bincount(objects.foreground[there], minlength=4).tolist()
    assert got.category.tolist() == np.bincount(objects.category[there], minlength=2).tolist()
    assert got.blend.tolist() == np.bincount(objects.blend[there], minlength=3).tolist()
    assert got.flip.tolist() == np.bincount(objects.flip[there], minlength=2).tolist()
    assert got.height.sum() == got.visible.sum() == there.sum()
    top, left, bottom, right = (objects.box[..., k].astype(int) for k in range(4))
    seen = there & (bottom > top)
    expected = np.zeros((21, 33), int)
    np.add.at(expected, ((top + bottom)[seen] // 2, (left + right)[seen] // 2), 1)
    assert got.placed.tolist() == expected.tolist()


def test_a_filter_is_left_out_of_the_counts_of_what_it_chooses(scenes):
    got, whole = counts(scenes, bg="1"), counts(scenes)
    assert got.background.tolist() == whole.background.tolist()
    objects, backgrounds = scenes.objects, scenes.sample_arrays["background"]
    there = (objects.foreground >= 0) & (backgrounds == 1)[:, None]
    assert got.foreground.tolist() == np.bincount(objects.foreground[there], minlength=4).tolist()
    got = counts(scenes, cat="0", flip="yes")
    people = objects.category == 0
    assert got.category.tolist() == np.bincount(objects.category[objects.flip == 1], minlength=2).tolist()
    assert got.flip.tolist() == np.bincount(objects.flip[people], minlength=2).tolist()


def test_searches_are_done_once(scenes):
    searches = Searches(scenes)
    query = Query.of({"bg": "1", "sort": "height"})
    counting = searches.search(query, counting=True)
    assert searches.search(query) is counting
    assert searches.search(dataclasses.replace(query, sort="number")) is counting
    assert searches.search(Query.of({"bg": "2"})) is not counting


def test_a_search_that_nobody_waits_for_is_given_up_and_begun_anew(scenes, monkeypatch):
    searches = Searches(scenes)
    query = Query.of({"bg": "1"})
    with monkeypatch.context() as patch:
        patch.setattr(filters, "_GIVEN_UP", -1.0)
        given_up = searches.search(query)
        while not given_up.is_given_up:
            pass
    again = searches.search(query)
    assert again is not given_up
    assert again.wait(60)
    assert again.found == len(scenes.where(background=1))


def test_a_search_of_a_damaged_dataset_says_so(kinds, tmp_path):
    path = tmp_path / "damaged.zarr"
    shutil.copytree(kinds["depth"], path)
    ds = open_dataset(path)
    kept = path / "depth_min" / "kept"
    shutil.move(path / "depth_min" / "c", kept)
    searches, query = Searches(ds), Query.of({"depth_min": "0:1"})
    with pytest.raises(DatasetError):
        searches.count(query, 60)
    # Asked again, it is done again.
    shutil.move(kept, path / "depth_min" / "c")
    again = searches.count(query, 60)
    assert again == np.count_nonzero((ds.depth_min >= 0) & (ds.depth_min <= 1))
