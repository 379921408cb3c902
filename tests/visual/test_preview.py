"""The preview figure, looked at through its pixels."""

from __future__ import annotations

import json
import shutil
from functools import partial

import numpy as np
import pytest
from builders import Pictures, depth_of
from PIL import Image
from pixels import enlarged, find
from zarr.storage import MemoryStore

from fgbgpack import SpecError, create, open_dataset
from fgbgpack.pipeline import ImportSpec, import_folder
from fgbgpack.visual import canvas, preview
from fgbgpack.visual.colours import colour_map, depth_colours, depth_limits
from fgbgpack.visual.preview import render_preview, write_preview
from fgbgpack.visual.shown_samples import choose_samples, objects_in_words


def unfinished(source, folder, *, without: str, section: str):
    """A copy of a dataset in which no shard of an array is written, as its document says."""
    path = folder / "unfinished.zarr"
    shutil.copytree(source, path)
    shutil.rmtree(path / without / "c")
    root = json.loads((path / "zarr.json").read_text(encoding="utf-8"))
    document = root["attributes"]["fgbgpack"]
    document["complete"] = document[section]["complete"] = False
    (path / "zarr.json").write_text(json.dumps(root), encoding="utf-8")
    return open_dataset(path, allow_incomplete=True)


@pytest.fixture(scope="module")
def plain(dataset):
    return open_dataset(dataset)


@pytest.fixture(scope="module")
def deep(depth_dataset):
    return open_dataset(depth_dataset)


# The fixtures' samples have 33x21 pixels: 7 is the whole factor that brings 33 nearest to 224.
FACTOR = 7


class TestCells:
    def test_show_the_stored_sample(self, deep):
        figure = render_preview(deep, [17])
        batch = deep[17]
        depth = depth_colours(batch.depth, larger_is_nearer=True)
        places = [
            find(figure, enlarged(cell, FACTOR))
            for cell in (deep.catalog().background[batch.background], batch.image, batch.mask, depth)
        ]
        assert None not in places
        assert len({top for top, _ in places}) == 1
        assert [left for _, left in places] == sorted({left for _, left in places})

    def test_rows_are_in_the_given_order(self, plain):
        samples = [30, 2, 11]
        figure = render_preview(plain, samples)
        places = [find(figure, enlarged(plain[i].image, FACTOR)) for i in samples]
        assert None not in places
        assert [top for top, _ in places] == sorted({top for top, _ in places})
        assert len({left for _, left in places}) == 1

    @pytest.mark.parametrize("flip", [False, True])
    def test_the_foreground_is_mirrored_as_it_was_pasted(self, own_pictures, tmp_path, flip):
        patch = np.full((10, 9, 4), 255, np.uint8)
        patch[..., 0] = np.arange(0, 180, 20)
        patch[:2, 5:, 3] = [0, 80, 160, 240]
        for old in own_pictures.foregrounds.iterdir():
            old.unlink()
        Image.fromarray(patch).save(own_pictures.foregrounds / "f.png")
        create(tmp_path / "d.zarr", own_pictures.spec(placements=1))
        ds = open_dataset(tmp_path / "d.zarr")
        figure = render_preview(ds, [int(np.flatnonzero(ds.placements.flip == flip)[0])])
        factor = min(33 * FACTOR // 9, 21 * FACTOR // 10)
        for way, turned in ((patch, False), (patch[:, ::-1], True)):
            places = [find(figure, enlarged(part, factor)) for part in (way[2:, :, :3], way[..., 3])]
            assert (None not in places) == (turned == flip)

    def test_large_samples_are_reduced(self, own_pictures, tmp_path):
        spec = own_pictures.spec(width=320, height=240, foreground_height=200, placements=1)
        create(tmp_path / "large.zarr", spec)
        large = open_dataset(tmp_path / "large.zarr")
        image = Image.fromarray(large[3].image).resize((256, 192), Image.Resampling.LANCZOS)
        assert find(render_preview(large, [3]), np.asarray(image)) is not None

    @pytest.mark.parametrize("size", [(8, 300), (300, 8)])
    def test_extreme_shapes_are_drawn(self, own_pictures, tmp_path, size):
        spec = own_pictures.spec(width=size[0], height=size[1], foreground_height=6, placements=1)
        create(tmp_path / "odd.zarr", spec)
        odd = open_dataset(tmp_path / "odd.zarr")
        cell = tuple(max(1, round(side * 256 / 300)) for side in size)
        image = Image.fromarray(odd[0].image).resize(cell, Image.Resampling.LANCZOS)
        assert find(render_preview(odd, [0]), np.asarray(image)) is not None


class TestDepth:
    def test_the_map_gets_brighter_with_every_step(self):
        encoded = colour_map() / 255
        linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
        luminance = linear @ [0.2126, 0.7152, 0.0722]
        assert np.all(np.diff(luminance) > 0)
        assert luminance[0] < 0.02
        assert luminance[-1] > 0.8

    def test_equal_steps_look_equally_large(self):
        # Back from the colours to Oklab, with the inverses of the matrices in the module's source.
        encoded = colour_map() / 255
        linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
        rgb_to_cones = [
            [0.4122214708, 0.5363325363, 0.0514459929],
            [0.2119034982, 0.6806995451, 0.1073969566],
            [0.0883024619, 0.2817188376, 0.6299787005],
        ]
        cones_to_lab = [
            [0.2104542553, 0.7936177850, -0.0040720468],
            [1.9779984951, -2.4285922050, 0.4505937099],
            [0.0259040371, 0.7827717662, -0.8086757660],
        ]
        lab = np.cbrt(linear @ np.transpose(rgb_to_cones)) @ np.transpose(cones_to_lab)
        steps = np.linalg.norm(np.diff(lab[::15], axis=0), axis=1)
        assert steps.max() < 1.08 * steps.min()

    @pytest.mark.parametrize("larger_is_nearer", [True, False])
    def test_the_nearest_value_has_the_last_colour(self, larger_is_nearer):
        depth = np.array([[1, 2], [5, 9]], np.float16)
        colours = depth_colours(depth, larger_is_nearer=larger_is_nearer)
        ends = colour_map()[[0, 255]] if larger_is_nearer else colour_map()[[255, 0]]
        assert np.array_equal(colours[[0, 1], [0, 1]], ends)
        brightness = colours.sum(axis=-1, dtype=int).ravel()
        assert np.all(np.diff(brightness if larger_is_nearer else -brightness) > 0)

    def test_a_constant_map_has_the_middle_colour(self):
        colours = depth_colours(np.full((2, 3), 7, np.float16), larger_is_nearer=True)
        assert np.array_equal(colours, np.broadcast_to(colour_map()[128], (2, 3, 3)))

    def test_unfilled_pixels_do_not_count(self):
        colours = depth_colours(np.array([[np.nan, 3, 4]]), larger_is_nearer=True)
        assert np.array_equal(colours[0], [[0, 0, 0], colour_map()[0], colour_map()[255]])

    @pytest.mark.parametrize(("quantity", "unit"), [("inverse_depth", None), ("depth", "m")])
    def test_the_bar_has_near_at_its_top(self, own_pictures, make_depth_model, tmp_path, quantity, unit):
        model = make_depth_model(quantity=quantity, unit=unit)
        create(tmp_path / "d.zarr", own_pictures.spec(placements=1, depth=depth_of(model)))
        ds = open_dataset(tmp_path / "d.zarr")
        figure = render_preview(ds, [4])
        colours = depth_colours(ds[4].depth, larger_is_nearer=quantity == "inverse_depth")
        top, left = find(figure, enlarged(colours, FACTOR))
        beside = np.asarray(figure)[top : top + 21 * FACTOR, left + 33 * FACTOR + 2 :].astype(int)
        # A pixel of the bar is the mean of two colours of the map.
        is_bar = np.all(
            (abs(beside[0] - colour_map()[255]) < 4) & (abs(beside[-1] - colour_map()[0]) < 4), axis=-1
        )
        assert is_bar.sum() > 10

    def test_depth_that_is_not_filled_is_hatched(self, deep, depth_dataset, tmp_path):
        whole = render_preview(deep, [4])
        place = find(whole, enlarged(depth_colours(deep[4].depth, larger_is_nearer=True), FACTOR))
        partial = unfinished(depth_dataset, tmp_path, without="depth", section="depth")
        figure = render_preview(partial, [4])
        assert find(figure, enlarged(partial[4].image, FACTOR)) is not None
        # A banner says that the dataset is incomplete, and everything is as much lower.
        top, left = place[0] + figure.height - whole.height, place[1]
        assert figure.height > whole.height
        assert_hatched(figure, top, left)

    def test_a_dataset_without_depth_says_so(self, plain, deep):
        whole = render_preview(deep, [4])
        top, left = find(whole, enlarged(depth_colours(deep[4].depth, larger_is_nearer=True), FACTOR))
        assert_hatched(render_preview(plain, [4]), top, left)


def assert_hatched(figure: Image.Image, top: int, left: int) -> None:
    cell = np.asarray(figure)[top : top + 21 * FACTOR, left : left + 33 * FACTOR]
    for colour in (canvas.HATCH_LIGHT, canvas.HATCH_DARK):
        assert np.all(cell[:20] == colour, axis=-1).mean() > 0.05
    outside_the_text = np.concatenate([cell[:30], cell[-30:]])
    known = [np.all(outside_the_text == c, axis=-1) for c in (canvas.HATCH_LIGHT, canvas.HATCH_DARK)]
    assert np.all(known[0] | known[1])


def test_samples_that_are_not_written_are_hatched(plain, dataset, tmp_path):
    whole = render_preview(plain, [4])
    path = tmp_path / "half"
    path.mkdir()
    partial = unfinished(dataset, path, without="image", section="pixels")
    shutil.rmtree(path / "unfinished.zarr" / "mask" / "c")
    figure = render_preview(partial, [4])
    for cell in (plain[4].image, plain[4].mask):
        top, left = find(whole, enlarged(cell, FACTOR))
        assert_hatched(figure, top + figure.height - whole.height, left)


class TestChoice:
    def test_the_same_seed_gives_the_same_pixels(self, deep):
        first, again, other = (render_preview(deep, rows=3, seed=seed) for seed in (5, 5, 6))
        assert first.tobytes() == again.tobytes()
        assert first.tobytes() != other.tobytes()

    def test_spreads_over_backgrounds_foregrounds_and_mirroring(self, plain):
        for seed in range(20):
            chosen = choose_samples(plain.placements, 3, seed)
            assert chosen == sorted(chosen)
            assert set(plain.placements.background[chosen]) == {0, 1, 2}
            assert set(plain.placements.foreground[chosen]) == {0, 1}
            assert set(plain.placements.flip[chosen]) == {False, True}

    def test_never_draws_a_sample_or_a_pair_too_often(self, plain):
        for count in range(1, 37):
            chosen = choose_samples(plain.placements, count, seed=1)
            assert len(set(chosen)) == count
            pairs = plain.placements.background[chosen] * 2 + plain.placements.foreground[chosen]
            assert np.bincount(pairs, minlength=6).max() == -(-count // 6)

    def test_more_rows_than_samples_draws_all(self, pictures, plain, tmp_path):
        assert choose_samples(plain.placements, 1000, seed=0) == list(range(36))
        create(tmp_path / "few.zarr", pictures.spec(placements=1, flip=False))
        few = open_dataset(tmp_path / "few.zarr")
        assert render_preview(few, rows=1000).tobytes() == render_preview(few, range(6)).tobytes()


class TestFile:
    @pytest.mark.parametrize("extension", ["png", "PNG", "webp", "tif", "bmp"])
    def test_holds_the_figure(self, plain, tmp_path, extension):
        path = tmp_path / f"a figure.{extension}"
        path.write_bytes(b"what was there before")
        write_preview(plain, path, [3])
        with Image.open(path) as picture:
            assert picture.convert("RGB").tobytes() == render_preview(plain, [3]).tobytes()
        assert [entry.name for entry in tmp_path.iterdir()] == [path.name]

    def test_is_never_higher_than_webp_allows(self):
        for side in range(8, 260, 7):
            layout = preview._PreviewLayout(
                (side, side), canvas.MAX_ROWS, with_bar=True, with_banner=True, columns=range(6), cell=None
            )
            assert layout.height <= 16_383

    def test_jpeg_is_close_to_it(self, plain, tmp_path):
        write_preview(plain, tmp_path / "figure.jpg", [3])
        with Image.open(tmp_path / "figure.jpg") as picture:
            error = np.asarray(picture, int) - np.asarray(render_preview(plain, [3]), int)
        assert abs(error).mean() < 2

    def test_what_cannot_be_written_leaves_the_old_file(self, plain, tmp_path):
        resource = pytest.importorskip("resource", reason="limits the size of files, which needs Unix")
        path = tmp_path / "figure.png"
        path.write_bytes(b"what was there before")
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
        try:
            with pytest.raises(SpecError) as caught:
                write_preview(plain, path, [3])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert caught.value.code == "picture-unwritable"
        assert "too large" in caught.value.message
        assert [entry.name for entry in tmp_path.iterdir()] == ["figure.png"]
        assert path.read_bytes() == b"what was there before"


class TestRefuses:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"rows": 0}, "rows: found 0,"),
            ({"seed": -1}, "seed: found -1,"),
            ({"samples": []}, "samples: found none,"),
            ({"samples": [0, 36, -1]}, "has no 36, -1, expected 0 to 35"),
            ({"samples": range(36, 50)}, "has no 36, 37, 38, 39, 40, 41, 42, 43 and 6 more"),
            ({"samples": [0] * 49}, "samples: found 49, expected at most 48"),
        ],
    )
    def test_rows_that_cannot_be_drawn(self, plain, tmp_path, arguments, message):
        for draw in (render_preview, partial(write_preview, path=tmp_path / "figure.png")):
            with pytest.raises(SpecError) as caught:
                draw(plain, **arguments)
            assert caught.value.code == "preview-invalid"
            (problem,) = caught.value.problems
            assert message in problem
        assert not list(tmp_path.iterdir())

    def test_too_many_rows(self, own_pictures, tmp_path):
        create(tmp_path / "many.zarr", own_pictures.spec(placements=5))
        with pytest.raises(SpecError) as caught:
            render_preview(open_dataset(tmp_path / "many.zarr"), rows=49)
        assert caught.value.problems == ("rows: found 49, expected at most 48",)

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("figure.xyz", "extension '.xyz', expected one of .bmp, .jpeg, .jpg, .png"),
            ("figure", "no extension, expected one of"),
            ("none/figure.png", "none; make it first"),
            ("folder.png", "it is a folder"),
            (f"{'x' * 300}.png", "File name too long"),
        ],
    )
    def test_paths_that_cannot_be_written(self, plain, tmp_path, name, message):
        (tmp_path / "folder.png").mkdir()
        with pytest.raises(SpecError) as caught:
            write_preview(plain, tmp_path / name, [0])
        assert caught.value.code == "preview-invalid"
        assert message in caught.value.problems[0]
        assert [entry.name for entry in tmp_path.iterdir()] == ["folder.png"]

    def test_everything_at_once(self, plain, tmp_path):
        with pytest.raises(SpecError) as caught:
            write_preview(plain, tmp_path / "none" / "figure.xyz", [99])
        assert [problem.split(": ")[1][:12] for problem in caught.value.problems] == [
            "it has the e",
            "there is no ",
            f"{plain.path} "[:12],
        ]


class TestText:
    @pytest.mark.slow
    def test_any_name_is_drawn(self, tmp_path):
        pictures = Pictures(tmp_path / "人物 和 背景", backgrounds=0, foregrounds=0)
        long = "a very long name of a waiting hall, seen from the north, in winter " * 2
        for i, name in enumerate(["ロビー", "Übersicht – é", "😀", "a \\ b", "مرحبا", long]):
            pictures.background(f"{name} {i}.png", 30, 30, seed=i)
            pictures.foreground(f"{name} {i}.png", 10, 10, seed=i)
        create(tmp_path / "набор 数据.zarr", pictures.spec(placements=1))
        ds = open_dataset(tmp_path / "набор 数据.zarr")
        figure = render_preview(ds, rows=12)
        # The margins on both sides stay blank: no name runs out of its place.
        margin = np.asarray(figure)[:, :20], np.asarray(figure)[:, -20:]
        assert all(np.all(side == 255) for side in margin)
        placed = ds.placements.background[choose_samples(ds.placements, 12, seed=0)[0]]
        top, left = find(figure, enlarged(ds.catalog().background[placed], FACTOR))
        gutter = np.asarray(figure)[top:, left - 8 : left - 1]
        assert np.all(gutter == 255)

    @pytest.mark.parametrize(
        ("text", "drawn"),
        [
            ("person-001.png", "person-001.png"),
            ("Übersicht é", "Ubersicht e"),
            ("u\u0308ber", "uber"),
            ("人物-01", "??-01"),
            ("a\nb😀", "a?b?"),
            ("two · three…", "two · three…"),
        ],
    )
    def test_what_the_font_lacks_is_replaced(self, text, drawn):
        assert canvas.printable(text) == drawn

    @pytest.mark.parametrize(
        ("most", "shown"), [(14, "person-001.png"), (9, "pers….png"), (2, "p…"), (1, "…"), (0, "…")]
    )
    def test_long_names_lose_their_middle(self, most, shown):
        assert canvas.shortened("person-001.png", lambda text: len(text) <= most) == shown

    def test_objects_of_long_names_can_be_told_apart(self, own_pictures):
        for i, name in enumerate(("portrait-of-somebody-0012.png", "figure-001.png")):
            (own_pictures.foregrounds / f"f{i}.png").rename(own_pictures.foregrounds / name)
        store = MemoryStore()
        create(store, own_pictures.spec(samples=20, objects=2, depth=None))
        ds = open_dataset(store)
        lines = {line for sample in range(20) for line in objects_in_words(ds[sample].objects, ds.catalog())}
        assert {line.split(", ")[0][2:] for line in lines} == {"figure-001", "portra…-0012"}

    @pytest.mark.parametrize(
        ("value", "shown"), [(0.9, "0.900"), (12.34, "12.3"), (-3, "-3.00"), (100, "100"), (65504, "65504")]
    )
    def test_numbers_have_three_digits_or_more(self, value, shown):
        assert preview._number(value) == shown

    @pytest.mark.parametrize(
        ("quantity", "unit", "shown"),
        [
            ("inverse_depth", None, "inverse depth (relative, larger is nearer)"),
            ("depth", "m", "depth in m"),
            ("depth", None, "depth (relative, larger is farther)"),
        ],
    )
    def test_say_what_depth_is(self, quantity, unit, shown):
        assert preview._meaning(quantity, unit) == shown


class TestColumnsAndCells:
    def test_only_the_columns_that_are_asked_for(self, deep):
        whole = render_preview(deep, [17])
        figure = render_preview(deep, [17], columns=["depth", "image"])
        assert figure.width < whole.width / 2
        batch = deep[17]
        image = find(figure, enlarged(batch.image, FACTOR))
        depth = find(figure, enlarged(depth_colours(batch.depth, larger_is_nearer=True), FACTOR))
        assert image is not None
        assert depth is not None
        assert image[1] < depth[1]  # in the usual order
        assert find(figure, enlarged(batch.mask, FACTOR)) is None

    @pytest.mark.parametrize(("cell", "factor"), [(33, 1), (66, 2), (100, 3), (400, 12)])
    def test_cells_are_whole_multiples_of_the_sample(self, deep, cell, factor):
        assert find(render_preview(deep, [17], cell=cell), enlarged(deep[17].image, factor)) is not None

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"columns": ["picture"]}, "columns: 'picture' is not one of background, foreground"),
            ({"columns": []}, "columns: found none"),
            ({"cell": 15}, "cell: found 15, expected 16 to 4096 pixels"),
            ({"cell": 4097}, "cell: found 4097"),
            ({"samples": [0] * 9, "cell": 1800}, "cell: 9 rows of 1800 pixels are more than 16000"),
        ],
    )
    def test_others_are_refused(self, deep, options, message):
        with pytest.raises(SpecError, match=message):
            render_preview(deep, **{"samples": [17], **options})


class TestOutliers:
    def test_a_near_person_leaves_colours_for_the_room(self):
        room = np.linspace(1, 2, 90)
        depth = np.concatenate([room, np.full(10, 40.0)]).reshape(10, 10).astype(np.float16)
        assert depth_limits(depth) == (1, 2)
        colours = depth_colours(depth, larger_is_nearer=True).reshape(-1, 3)
        assert np.array_equal(colours[90:], np.broadcast_to(colour_map()[255], (10, 3)))
        assert len(np.unique(colours[:90], axis=0)) == 90

    def test_values_that_are_spread_evenly_are_no_outliers(self):
        depth = np.linspace(-3, 9, 1000).reshape(40, 25)
        assert depth_limits(depth) == (-3, 9)

    def test_few_values_that_differ_from_most_are_none_where_most_are_equal(self):
        assert depth_limits(np.array([[5, 5, 5, 5, 7, np.nan]])) == (5, 7)


def test_depth_of_an_unknown_kind_is_bright_where_it_is_large(tmp_path):
    rng = np.random.default_rng(1)
    for name, shape in (("images", (21, 33, 3)), ("masks", (21, 33)), ("depth", (21, 33))):
        (tmp_path / "files" / name).mkdir(parents=True)
        Image.fromarray(rng.integers(0, 256, shape, np.uint8)).save(tmp_path / "files" / name / "0.png")
    import_folder(tmp_path / "it.zarr", ImportSpec(str(tmp_path / "files")))
    dataset = open_dataset(tmp_path / "it.zarr")
    colours = depth_colours(dataset[0].depth, larger_is_nearer=True)
    assert find(render_preview(dataset, [0]), enlarged(colours, FACTOR)) is not None
    with pytest.raises(SpecError, match="is imported, and has no background"):
        render_preview(dataset, [0], columns=["background"])
