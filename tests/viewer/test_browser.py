"""The page in a real browser: Chromium, as the system has it, without any network."""

from __future__ import annotations

import io
import re
import shutil
from collections.abc import Iterator

import numpy as np
import pytest
from pages import served
from sample_folders import write_samples

from fgbgpack import create, open_dataset
from fgbgpack.pipeline import ImportSpec, import_folder

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs the program chromium"),
]

#: Milliseconds that the page may take for anything: what the first one asks for may have to be compiled, on a
#: machine with other work.
PATIENCE = 180_000
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-sync", "--no-first-run"),
    *("--disable-background-networking", "--disable-dev-shm-usage", "--disable-extensions"),
)

#: In the page: a grid of its own, in the place of the page's, of samples that need no server.
GRID = """
          const { Grid } = await import("/static/grid.js");
          const tiles = {
            datasets: [{ width: 33, height: 21, backgrounds: ["b"], foregrounds: [] }],
            want() {}, draw: () => true, row: (place) => ({ i: place, bg: 0, objects: [] }),
          };
          const root = document.querySelector("#grid").cloneNode(true);
          document.querySelector("#grid").replaceWith(root);
          const grid = new Grid(root, tiles, { listen() {}, has: () => false });
"""


@pytest.fixture(scope="module")
def browser():
    """One Chromium for all tests, with a profile of its own."""
    with playwright.sync_playwright() as api:
        chromium = api.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS), timeout=PATIENCE)
        yield chromium
        chromium.close()


@pytest.fixture
def window(browser) -> Iterator:
    """A function that opens a window at an address; nothing may go wrong in any of them."""
    faults: list[str] = []
    contexts = []

    def opened(
        address: str, *, width: int = 1100, height: int = 760, scheme: str = "light", ready: bool = True
    ):
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.on(
            "console",
            lambda message: faults.append(message.text) if message.type in ("error", "warning") else None,
        )
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on(
            "response",
            lambda answer: faults.append(f"{answer.status} {answer.url}") if answer.status >= 400 else None,
        )
        page.goto(address)
        if ready:
            settled(page)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert faults == []


@pytest.fixture(scope="module")
def large(tmp_path_factory, pictures):
    """400,008 samples, virtual."""
    path = tmp_path_factory.mktemp("large") / "large.zarr"
    create(path, pictures.spec(placements=33_334), virtual=True)
    return open_dataset(path)


@pytest.fixture(scope="module")
def large_page(large) -> Iterator[str]:
    with served(large) as address:
        yield address


@pytest.fixture(scope="module")
def scenes(tmp_path_factory, pictures, depth_model):
    """60 scenes with depth in layers and a split."""
    from builders import depth_of

    path = tmp_path_factory.mktemp("scenes") / "scenes <b>.zarr"
    spec = pictures.spec(
        samples=60, objects="1-3", empty=0.1, foreground_height="5-15", blend="soft,hard",
        depth=depth_of(depth_model, mode="layered", scale=2),
    )  # fmt: skip
    create(path, spec, virtual=True)
    ds = open_dataset(path)
    ds.save_split("fair", {"train": 0.5, "test": 0.5}, by="background")
    return ds


@pytest.fixture(scope="module")
def scenes_page(scenes) -> Iterator[str]:
    with served(scenes) as address:
        yield address


def settled(page) -> None:
    """Wait until all that is in sight is drawn, and nothing is searched."""
    page.wait_for_function(
        "() => { const cells = [...document.querySelectorAll('.cell')];"
        " return cells.length && cells.every((cell) => !cell.classList.contains('loading'))"
        " && !/Searching/.test(document.querySelector('#status').textContent); }"
    )


def shown(page) -> list[int]:
    """The samples in sight, in their order, as their cells name them."""
    return page.eval_on_selector_all(".cell", "(cells) => cells.map((cell) => Number(cell.dataset.sample))")


def expect_found(page, expected) -> None:
    """Wait until so many samples are found, and see that those in sight are the first of them."""
    expected = [int(i) for i in expected]
    page.wait_for_function(
        "(count) => document.querySelector('#status').textContent.startsWith(`${count} of `)",
        arg=str(len(expected)),
    )
    settled(page)
    found = shown(page)
    assert found
    assert found == expected[: len(found)]


def pixel(page, place: int) -> list[int]:
    """The colour in the middle of the tile at a place."""
    return page.eval_on_selector(
        f"[data-place='{place}'] canvas",
        "(c) => [...c.getContext('2d').getImageData(c.width / 2, c.height / 2, 1, 1).data].slice(0, 3)",
    )


# --- the grid ----------------------------------------------------------------------------------------


def test_the_first_samples_are_there(window, large_page, large):
    page = window(large_page)
    assert page.inner_text("#status") == "400,008 samples"
    assert "400,008 samples of 33x21, virtual" in page.inner_text("#about")
    found = shown(page)
    assert found[:30] == list(range(30))
    drawn = page.eval_on_selector_all(
        ".cell canvas",
        "(all) => all.map((c) => { const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
        " const sum = [0, 0, 0]; d.forEach((value, at) => { if (at % 4 < 3) sum[at % 4] += value; });"
        " return sum.map((s) => s / (d.length / 4)); })",
    )
    expected = large.image[0 : len(found)].reshape(len(found), -1, 3).mean(axis=1)
    assert np.abs(np.array(drawn) - expected).max() < 6


def test_the_last_samples_are_reached_by_the_scroll_bar_and_by_keys(window, large_page):
    page = window(large_page)
    page.eval_on_selector("#grid", "(grid) => { grid.scrollTop = grid.scrollHeight; }")
    page.wait_for_selector("[data-sample='400007']")
    settled(page)
    assert shown(page)[-1] == 400_007
    page.eval_on_selector("#grid", "(grid) => { grid.scrollTop = 0; }")
    page.wait_for_selector("[data-sample='0']")
    page.focus("[data-place='0']")
    page.keyboard.press("End")
    page.wait_for_selector("[data-sample='400007']:focus")
    # A wheel goes on by pixels, wherever the scroll bar is.
    before = shown(page)[0]
    page.hover("#grid")
    page.mouse.wheel(0, -400)
    page.wait_for_function(
        "(first) => Number(document.querySelector('.cell').dataset.sample) < first", arg=before
    )
    settled(page)
    assert before - shown(page)[0] < 60


def test_scrolling_is_exact_at_any_size(window, large_page):
    page = window(large_page)
    reached = page.evaluate(
        """async () => {"""
        + GRID
        + """
          const count = 2_000_000_000;
          grid.show(count, { place: 1_234_567_890 });
          const first = grid.first;
          const places = [0, 999, 1_000_000_000, 1_999_999_000, count - 1].map((place) => {
            grid.reveal(place);
            return document.activeElement.dataset.sample;
          });
          return { height: root.scrollHeight, first, places };
        }"""
    )
    assert reached["places"] == ["0", "999", "1000000000", "1999999000", "1999999999"]
    assert abs(reached["first"] - 1_234_567_890) < 100
    assert reached["height"] <= 8_000_000


def test_a_scroll_that_no_event_has_told_of_yet_is_not_taken_back(window, large_page):
    page = window(large_page)
    first, last = page.evaluate(
        """async () => {"""
        + GRID
        + """
          const frames = async () => {
            for (let k = 0; k < 3; k += 1) await new Promise(requestAnimationFrame);
          };
          const resting = [], real = window.setTimeout;
          window.setTimeout = (rest) => { resting.push(rest); };
          grid.show(1_000_000);
          await frames();
          root.scrollTop = root.scrollHeight;
          resting.at(-1)();
          await frames();
          const places = [...root.querySelectorAll("[data-place]")].map((cell) => Number(cell.dataset.place));
          window.setTimeout = real;
          return [places[0], places.at(-1)];
        }"""
    )
    assert (first > 999_000, last) == (True, 999_999)


def test_keys_go_through_the_grid_and_select(window, large_page, tmp_path):
    page = window(large_page)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    columns = int(page.get_attribute("#grid", "aria-colcount"))
    page.focus("[data-place='0']")
    for key in ("ArrowRight", "ArrowDown", " "):
        page.keyboard.press(key)
    page.wait_for_selector(f"[data-sample='{columns + 1}'][aria-selected=true]:focus")
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Shift+ArrowRight")
    page.wait_for_function("() => document.querySelectorAll('[aria-selected=true]').length === 3")
    with page.expect_download() as download:
        page.click("#selection button:has-text('Save .npy')")
    numbers = np.load(io.BytesIO(download.value.path().read_bytes()))
    assert numbers.dtype == np.int64
    assert numbers.tolist() == [columns + 1, columns + 2, columns + 3]
    labels = page.eval_on_selector_all("[role=gridcell]", "(cells) => cells.map((cell) => cell.ariaLabel)")
    assert labels[0] == "Sample 0: f0.png on b0.png"
    assert page.eval_on_selector_all("[role=gridcell][tabindex='0']", "(cells) => cells.length") == 1


def test_layers_are_switched_by_keys_and_kept_in_the_address(window, plain_page, kinds):
    page = window(plain_page)
    ds = open_dataset(kinds["depth"])
    page.focus("[data-place='0']")
    page.keyboard.press("2")
    settled(page)
    middle = ds[0].mask[10, 16]
    assert abs(pixel(page, 0)[0] - int(middle)) < 40
    page.keyboard.press("3")
    page.keyboard.press("s")
    page.keyboard.press("o")
    page.keyboard.press("b")
    settled(page)
    assert re.search(r"base=depth.*over=outline,boxes|over=outline,boxes.*base=depth", page.url)
    assert "scale=own" in page.url
    again = window(page.url)
    assert again.is_checked("input[value=depth]")
    assert again.get_attribute("button:has-text('Boxes')", "aria-pressed") == "true"
    assert pixel(again, 5) == pixel(page, 5)


# --- filters -----------------------------------------------------------------------------------------


def test_each_filter_finds_its_samples(window, scenes_page, scenes):
    page = window(scenes_page)
    objects = scenes.objects

    def clear():
        page.click("button:has-text('Clear all')")
        page.wait_for_function("() => document.querySelector('#status').textContent === '60 samples'")

    def choose(group: str, label: str):
        page.click(f"details:has(summary:text-is('{group}')) label:has-text('{label}')")

    def fill(group: str, which: int, value: str):
        part = f"details:has(summary:text-is('{group}'))"
        if page.get_attribute(part, "open") is None:
            page.click(f"{part} summary")
        page.locator(f"{part} input[type=number]").nth(which).fill(value)
        page.keyboard.press("Enter")

    choose("Background", "b1.png")
    expect_found(page, scenes.where(background=1))
    choose("Background", "b2.png")
    expect_found(page, scenes.where(background=[1, 2]))
    clear()
    choose("Foreground", "f1.png")
    expect_found(page, scenes.where(foreground=1))
    page.select_option("select[aria-label=Mirrored]", "yes")
    expect_found(page, scenes.where(foreground=1, flip=True))
    clear()
    choose("Edges", "hard")
    expect_found(page, np.flatnonzero((objects.blend == 1).any(axis=1)))
    clear()
    page.select_option("select[aria-label=Split]", label="fair: test")
    expect_found(page, scenes.split("fair")["test"])
    clear()
    fill("Height of the object", 0, "9")
    expect_found(page, scenes.where(height=9))
    clear()
    fill("Visible share", 1, "80")
    expect_found(page, scenes.where(visible=(0, 0.8)))
    clear()
    fill("Number of objects", 0, "3")
    expect_found(page, np.flatnonzero(objects.count >= 3))
    clear()
    for group, values in (("Least depth", scenes.depth_min), ("Greatest depth", scenes.depth_max)):
        middle = float(np.median(values))
        fill(group, 1, repr(middle))
        expect_found(page, np.flatnonzero(values <= middle))
        clear()
    page.fill("#text", "b2")
    expect_found(page, scenes.where(background=2))
    clear()
    assert page.url.rstrip("#").endswith("/")


def test_a_region_is_drawn_on_the_map(window, scenes_page, scenes):
    page = window(scenes_page, height=1200)
    page.wait_for_function("() => /objects is/.test(document.querySelector('.placed').textContent)")
    box = page.locator(".map").bounding_box()
    page.mouse.move(box["x"] + 1, box["y"] + 1)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] - 1, steps=3)
    page.mouse.up()
    page.wait_for_function("() => location.hash.includes('region=')")
    left, top, right, bottom = (int(edge) for edge in re.search(r"region=([\d,]+)", page.url)[1].split(","))
    assert (left, top, bottom) == (0, 0, 21)
    objects = scenes.objects
    y, x = ((objects.box[..., k] + objects.box[..., k + 2]) / 2 for k in (0, 1))
    seen = objects.box[..., 2] > objects.box[..., 0]
    expect_found(page, np.flatnonzero((seen & (x >= left) & (x < right) & (y < bottom)).any(axis=1)))
    # The same without a pointer.
    page.fill("input[aria-label='Region, left in pixels']", "10")
    page.keyboard.press("Enter")
    expect_found(page, np.flatnonzero((seen & (x >= 10) & (x < right) & (y < bottom)).any(axis=1)))


def test_samples_are_sorted(window, scenes_page, scenes):
    page = window(scenes_page)
    page.select_option("#sort", "objects")
    page.click("#direction")
    page.wait_for_function("() => /desc=1/.test(location.hash)")
    settled(page)
    expected = np.argsort(-scenes.objects.count, kind="stable").tolist()
    page.wait_for_selector(f"[data-place='0'][data-sample='{expected[0]}']")
    settled(page)
    assert shown(page) == expected[: len(shown(page))]


# --- one sample, two datasets ------------------------------------------------------------------------


def test_one_imported_sample_tells_whose_it_is(window, tmp_path):
    write_samples(tmp_path / "in", ["a", "b"], depth=False)
    (tmp_path / "in/sources.csv").write_text(
        "file,license,author,url\na.png,CC0-1.0,Ada,https://example.org/a\n"
    )
    import_folder(tmp_path / "it.zarr", ImportSpec(str(tmp_path / "in")))
    with served(open_dataset(tmp_path / "it.zarr")) as address:
        page = window(address)
        page.focus("[data-place='0']")
        page.keyboard.press("Enter")
        page.wait_for_selector("#sample[open] .sources")
        assert page.inner_text("#sample .sources").split() == ["a", "CC0-1.0,", "Ada", "origin"]
        assert page.get_attribute("#sample .sources a", "href") == "https://example.org/a"


def test_one_sample_tells_its_values_and_sources_to_keys_alone(window, scenes_page, scenes):
    page = window(scenes_page)
    page.focus("[data-place='3']")
    page.keyboard.press("Enter")
    page.wait_for_selector("#sample[open] canvas")
    assert page.inner_text("#sample-title") == "Sample 3"
    sample = scenes[3]
    name = scenes.document.sources.backgrounds[sample.background].name
    assert name in page.inner_text("#sample .facts")
    assert "fgbgpack.open_dataset(" in page.inner_text("#sample .code >> nth=0")
    page.focus("#sample canvas")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Shift+ArrowDown")
    red, green, blue = sample.image[11, 1]
    page.wait_for_function(
        "(text) => document.querySelector('.readout').textContent.includes(text)",
        arg=f"x 1, y 11   RGB {red} {green} {blue}",
    )
    depth = float(page.inner_text(".readout").partition("depth ")[2])
    assert depth == pytest.approx(float(sample.depth[11, 1]), rel=1e-4)
    page.focus("#sample-title")
    page.keyboard.press("ArrowRight")
    page.wait_for_function("() => document.querySelector('#sample-title').textContent === 'Sample 4'")
    assert "i=4" in page.url
    page.keyboard.press("Escape")
    page.wait_for_selector("[data-sample='4']:focus")
    assert "i=4" not in page.url


def test_names_are_text(window, scenes_page):
    page = window(scenes_page)
    assert page.inner_text("#title").endswith("scenes <b>.zarr")
    assert page.locator("#title b").count() == 0


def test_two_datasets_show_what_differs(window, kinds):
    with served(open_dataset(kinds["layered-virtual"]), open_dataset(kinds["guided-virtual"])) as address:
        page = window(f"{address}#base=depth")
        assert "same recipe" in page.inner_text("#about")
        for value in ("b", "difference", "a"):
            page.focus("[data-place='0']")
            page.keyboard.press("c")
            page.wait_for_selector(f"input[value={value}]:checked")
            settled(page)
        page.keyboard.press("Enter")
        page.wait_for_function("() => document.querySelectorAll('#sample figure').length === 3")
        captions = page.locator("#sample figcaption").all_inner_texts()
        assert captions == ["First", "Second", "Second minus first"]
        page.wait_for_function(
            "() => /pixels differ/.test(document.querySelector('#sample .legend').textContent)"
        )
        first, second = (open_dataset(kinds[kind])[0].depth for kind in ("layered-virtual", "guided-virtual"))
        count = int(np.count_nonzero(first != second))
        assert f"{count} of 693 pixels differ" in page.inner_text("#sample .legend")
        page.hover("#sample canvas >> nth=0")
        page.wait_for_function("() => /first:.*second:/.test(document.querySelector('.readout').textContent)")


# --- screens -----------------------------------------------------------------------------------------


def test_a_phone_shows_the_grid_and_opens_the_filters_over_it(window, scenes_page):
    page = window(scenes_page, width=390, height=780, scheme="dark")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert not page.is_visible("#filters")
    page.click("#open-filters")
    assert page.is_visible("#filters")
    assert page.get_attribute("#open-filters", "aria-expanded") == "true"
    page.keyboard.press("Escape")
    assert not page.is_visible("#filters")
    page.click("[data-place='1']")
    page.wait_for_selector("#sample[open] canvas")
    assert page.locator("#sample canvas").bounding_box()["width"] > 330


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_contrast_and_controls_have_names(window, scenes_page, scenes, scheme):
    scenes.save_stats(scenes.stats("fair"))
    page = window(f"{scenes_page}#base=depth&bg=1", scheme=scheme)
    page.click("#open-statistics")
    page.wait_for_selector("#statistics table")
    weak = page.evaluate(
        """() => {
          const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
          const rgb = (text) => {
            canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = text; canvas.fillRect(0, 0, 1, 1);
            return [...canvas.getImageData(0, 0, 1, 1).data];
          };
          const light = ([r, g, b]) => {
            const linear = (v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
            const [x, y, z] = [r, g, b].map((v) => linear(v / 255));
            return 0.2126 * x + 0.7152 * y + 0.0722 * z;
          };
          const behind = (one) => {
            for (; one; one = one.parentElement) {
              const colour = rgb(getComputedStyle(one).backgroundColor);
              if (colour[3] === 255) return colour;
            }
            return rgb("Canvas");
          };
          const found = [];
          for (const one of document.querySelectorAll("body *")) {
            const own = [...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
            if (!own || !one.checkVisibility() || one.matches(":disabled, option, optgroup")) continue;
            const both = [rgb(getComputedStyle(one).color), behind(one)].map(light);
            const contrast = (Math.max(...both) + 0.05) / (Math.min(...both) + 0.05);
            if (contrast < 4.5) found.push(`${one.tagName} ${one.className} ${contrast}`);
          }
          return found;
        }"""
    )
    assert weak == []
    nameless = page.eval_on_selector_all(
        "button, select, input, a, summary",
        "(all) => all.filter((one) => !(one.ariaLabel || one.textContent.trim() || one.title"
        " || one.labels?.[0]?.textContent.trim())).map((one) => one.outerHTML)",
    )
    assert nameless == []


def test_a_command_is_shown_where_no_statistics_are_stored(window, plain_page, kinds):
    page = window(plain_page)
    page.click("#open-statistics")
    page.wait_for_selector("#statistics code")
    assert page.inner_text("#statistics code") == f"fgbgpack stats {kinds['depth']}"
    assert page.locator("#statistics .chart").count() == 0


def test_statistics_that_are_stored_are_shown(window, scenes_page, scenes):
    page = window(scenes_page)
    stats = scenes.stats("fair")
    scenes.save_stats(stats)
    page.click("#open-statistics")
    page.wait_for_selector("#statistics table")
    mean, std = (", ".join(f"{one:.4f}" for one in values) for values in (stats.mean, stats.std))
    assert page.inner_text("#statistics code") == f"Normalize(mean=[{mean}], std=[{std}])"
    text = page.inner_text("#statistics")
    low, high = (f"{end:.3g}" for end in (stats.whole.depth.least, stats.whole.depth.greatest))
    for said in (
        "60 of 33x21",
        f"{len(stats.counts.backgrounds)}, each in {min(stats.counts.backgrounds)}",
        f"{stats.sizes.height[0]} to {stats.sizes.height[-1]}, half of them {stats.sizes.height[1]} to",
        f"{low} to {high}",
        f"{float(f'{100 * stats.whole.mask.share:.3g}'):g} % of all pixels; {stats.whole.mask.empty} samples",
    ):
        assert said in text
    rows = page.locator("#statistics tbody tr").all_inner_texts()
    assert [row.split()[:2] for row in rows] == [
        [name, str(part.samples)] for name, part in stats.parts.items()
    ]
    bars = (
        page.locator("#statistics .chart >> nth=1")
        .locator("span")
        .evaluate_all("(all) => all.map((one) => one.title)")
    )
    assert bars == [f"{count:,} pixels" for count in stats.whole.depth.histogram.counts]
    # The strongest colour is where most foregrounds are.
    alphas = page.eval_on_selector(
        "#statistics .places",
        "(c) => [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]"
        ".filter((_, k) => k % 4 === 3)",
    )
    assert np.array_equal(np.array(alphas) > 0, np.array(stats.places).ravel() > 0)
    assert max(alphas) == 255
    # Keys are not those of the grid below.
    page.keyboard.press("2")
    assert page.is_checked("#tools input[value=image]")


def test_help_lists_the_keys_and_switches_them_off(window, plain_page):
    page = window(plain_page)
    page.focus("[data-place='0']")
    page.keyboard.press("?")
    page.wait_for_selector("#help[open]")
    page.uncheck("#help input")
    page.keyboard.press("Escape")
    page.focus("[data-place='0']")
    page.keyboard.press("2")
    assert page.is_checked("input[value=image]")
