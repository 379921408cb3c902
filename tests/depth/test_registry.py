"""Models by name, and their download from a real server."""

from __future__ import annotations

import json
import socket
import threading
import time
from pathlib import Path

import onnx
import pytest
from model_site import CONTENT, OTHER, Site, serving, sha
from onnx import helper
from onnx_models import card, gray

from fgbgpack.depth import load_model, registry
from fgbgpack.depth.download import Fetch, fetch, get_model
from fgbgpack.errors import DepthModelError


@pytest.fixture
def site():
    with serving(Site()) as site:
        yield site


@pytest.fixture
def target(tmp_path) -> Path:
    return tmp_path / "deep" / "model.onnx"


def job(site: Site, target: Path, **fields) -> Fetch:
    return Fetch(site.url, target, **({"pause": 0.001, "timeout": 5.0} | fields))


def files(target: Path) -> set[str]:
    return {path.name for path in target.parent.iterdir()} - {f".{target.name}.lock"}


class TestDownload:
    def test_whole(self, site, target):
        seen = []
        fetched = fetch(job(site, target, sha256=sha(CONTENT), on_progress=lambda *at: seen.append(at)))
        assert target.read_bytes() == CONTENT
        assert fetched == type(fetched)(target, sha(CONTENT), True, len(CONTENT))
        assert seen[0] == (0, len(CONTENT))
        assert seen[-1] == (len(CONTENT), len(CONTENT))
        assert files(target) == {"model.onnx"}

    def test_a_file_that_is_there_is_not_fetched(self, site, target):
        fetch(job(site, target))
        again = fetch(job(site, target))
        assert (again.received, again.verified, again.sha256) == (0, False, sha(CONTENT))
        assert len(site.asked) == 1

    def test_a_file_that_is_there_but_another_is_fetched_anew(self, site, target):
        target.parent.mkdir()
        target.write_bytes(b"something else")
        notices = []
        fetch(job(site, target, sha256=sha(CONTENT), on_notice=notices.append))
        assert target.read_bytes() == CONTENT
        assert sha(b"something else") in notices[0]

    def test_cut_connections_are_taken_up_where_they_broke(self, site, target):
        site.cuts = [100_000, 50_000]
        notices = []
        fetch(job(site, target, on_notice=notices.append))
        assert target.read_bytes() == CONTENT
        assert site.asked == [(None, None), ("bytes=100000-", '"one"'), ("bytes=150000-", '"one"')]
        assert "100,000 of 300,000 bytes" in notices[0]
        assert "from byte 150,000" in notices[1]

    def test_a_server_without_ranges(self, site, target):
        site.ranges, site.cuts = False, [100_000]
        fetch(job(site, target))
        assert target.read_bytes() == CONTENT
        assert len(site.asked) == 2

    @pytest.mark.parametrize("etag", [None, 'W/"weak"'])
    def test_a_server_that_cannot_tell_versions_apart_is_asked_for_all(self, site, target, etag):
        site.etag, site.cuts = etag, [100_000]
        fetch(job(site, target))
        assert target.read_bytes() == CONTENT
        assert site.asked == [(None, None), (None, None)]

    def test_a_call_that_gave_up_is_resumed_by_the_next(self, site, target):
        site.cuts = [100_000]
        with pytest.raises(DepthModelError, match="100,000 bytes of it are kept") as caught:
            fetch(job(site, target, attempts=1))
        assert caught.value.exit_status == 5
        assert not target.exists()
        fetched = fetch(job(site, target, sha256=sha(CONTENT)))
        assert fetched.received == 200_000
        assert target.read_bytes() == CONTENT
        assert files(target) == {"model.onnx"}

    def test_a_call_that_was_killed_before_the_last_step(self, site, target):
        site.cuts = [299_999]
        with pytest.raises(DepthModelError):
            fetch(job(site, target, attempts=1))
        part = target.with_name("model.onnx.part")
        part.write_bytes(CONTENT)
        assert fetch(job(site, target, sha256=sha(CONTENT))).received == 0
        assert site.asked[-1] == ("bytes=300000-", '"one"')
        assert target.read_bytes() == CONTENT

    def test_a_part_that_is_longer_than_the_file(self, site, target):
        site.cuts = [100]
        with pytest.raises(DepthModelError):
            fetch(job(site, target, attempts=1))
        target.with_name("model.onnx.part").write_bytes(CONTENT + b"more")
        fetch(job(site, target))
        assert target.read_bytes() == CONTENT

    def test_the_file_changes_between_two_calls(self, site, target):
        site.cuts = [100_000]
        with pytest.raises(DepthModelError):
            fetch(job(site, target, attempts=1))
        site.content, site.etag = OTHER, '"two"'
        fetch(job(site, target))
        assert target.read_bytes() == OTHER

    def test_what_was_begun_elsewhere_is_not_mixed_in(self, site, target):
        site.cuts = [100_000]
        with pytest.raises(DepthModelError):
            fetch(job(site, target, attempts=1))
        with serving(Site(content=OTHER)) as moved:
            fetch(job(moved, target))
        assert moved.asked == [(None, None)]
        assert target.read_bytes() == OTHER

    def test_a_part_that_was_damaged_on_the_disk_is_started_over(self, site, target):
        site.cuts = [100_000]
        with pytest.raises(DepthModelError):
            fetch(job(site, target, attempts=1))
        target.with_name("model.onnx.part").write_bytes(b"x" * 100_000)
        notices = []
        fetch(job(site, target, sha256=sha(CONTENT), on_notice=notices.append))
        assert target.read_bytes() == CONTENT
        assert "starting over" in notices[0]

    def test_another_digest_is_refused(self, site, target):
        with pytest.raises(DepthModelError) as caught:
            fetch(job(site, target, sha256=sha(OTHER)))
        for word in (sha(CONTENT), sha(OTHER), "It was removed", site.url):
            assert word in str(caught.value)
        assert files(target) == set()
        assert len(site.asked) == 1

    def test_what_is_not_accepted_is_removed(self, site, target):
        def refuse(path: Path) -> None:
            assert path.read_bytes() == CONTENT
            raise DepthModelError("not a network")

        with pytest.raises(DepthModelError, match="not a network"):
            fetch(job(site, target, accept=refuse))
        assert files(target) == set()

    def test_a_page_instead_of_the_file_is_told_by_its_length(self, site, target):
        site.content = b"<html>Sign in</html>"
        with pytest.raises(DepthModelError, match="it has 20 bytes, expected about 300,000"):
            fetch(job(site, target, size=300_000))
        assert files(target) == set()

    def test_a_length_that_is_rounded(self, site, target):
        assert fetch(job(site, target, size=290_000)).received == 300_000

    def test_no_length_at_all(self, site, target):
        site.length = False
        seen = []
        fetch(job(site, target, sha256=sha(CONTENT), on_progress=lambda *at: seen.append(at)))
        assert seen[-1] == (300_000, None)

    @pytest.mark.parametrize("status", [403, 404, 410])
    def test_a_refusal_is_not_asked_again(self, site, target, status):
        site.statuses = [status]
        with pytest.raises(DepthModelError) as caught:
            fetch(job(site, target))
        assert f"answered {status}" in str(caught.value)
        assert f"fetch\n  {site.url}\n" in str(caught.value)
        assert f"\n  {target}" in str(caught.value)
        assert len(site.asked) == 1

    def test_a_busy_server_is_asked_again(self, site, target):
        site.statuses = [503, 429, 500]
        fetch(job(site, target))
        assert target.read_bytes() == CONTENT
        assert len(site.asked) == 4

    def test_a_server_that_stays_busy(self, site, target):
        site.statuses = [503] * 9
        with pytest.raises(DepthModelError, match="answered 503"):
            fetch(job(site, target, attempts=3))
        assert len(site.asked) == 3

    def test_attempts_count_only_in_a_row(self, site, target):
        site.cuts = [50_000] * 5
        fetch(job(site, target, attempts=2))
        assert target.read_bytes() == CONTENT

    def test_a_slow_start(self, site, target):
        site.waits = [0.3]
        fetch(job(site, target))
        assert target.read_bytes() == CONTENT
        assert len(site.asked) == 1

    def test_a_server_that_says_nothing_is_given_up_and_asked_again(self, site, target):
        site.waits = [0.5]
        fetch(job(site, target, timeout=0.1))
        assert target.read_bytes() == CONTENT
        assert len(site.asked) == 2

    def test_no_network(self, target):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{free.getsockname()[1]}/model"
        notices = []
        with pytest.raises(DepthModelError) as caught:
            fetch(Fetch(url, target, on_notice=notices.append))
        assert "cannot be reached" in str(caught.value)
        assert f"To do it by hand, on any machine with a network: fetch\n  {url}" in str(caught.value)
        assert notices == []  # nobody waits for what will not come

    def test_redirects(self, site, target):
        with serving(Site(redirect=site.url.replace("/model", "/file"))) as front:
            front.redirect = site.url.replace("/model", "/elsewhere")
            fetch(job(front, target))
        assert target.read_bytes() == CONTENT

    def test_a_redirect_away_from_http(self, site, target):
        site.redirect = "ftp://127.0.0.1/model"
        with pytest.raises(DepthModelError, match="redirects to ftp"):
            fetch(job(site, target))

    def test_a_folder_that_cannot_be_made(self, site, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(DepthModelError, match="cannot be written"):
            fetch(job(site, tmp_path / "file" / "model.onnx"))

    def test_many_at_once_fetch_it_once(self, site, target):
        site.waits, notices, results = [0.2], [], []

        def run() -> None:
            results.append(fetch(job(site, target, sha256=sha(CONTENT), on_notice=notices.append)))

        threads = [threading.Thread(target=run) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(site.asked) == 1
        assert sorted(fetched.received for fetched in results) == [0, 0, 0, len(CONTENT)]
        assert [notice for notice in notices if "waiting for it" in notice]
        assert target.read_bytes() == CONTENT

    def test_the_next_in_line_takes_over_from_one_that_fails(self, site, target):
        site.waits, site.cuts, results = [0.2], [100_000], []

        def run(attempts: int) -> None:
            try:
                results.append(fetch(job(site, target, attempts=attempts)))
            except DepthModelError as exc:
                results.append(exc)

        first = threading.Thread(target=run, args=(1,))
        first.start()
        while not site.asked:
            time.sleep(0.01)
        run(5)
        first.join()
        assert [type(result).__name__ for result in results] == ["DepthModelError", "Fetched"]
        assert results[1].received == 200_000
        assert target.read_bytes() == CONTENT


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("FGBGPACK_MODELS", str(tmp_path))
    return tmp_path


def refusal(name: str) -> str:
    with pytest.raises(DepthModelError) as caught:
        load_model(name)
    assert caught.value.exit_status == 5
    return str(caught.value)


class TestFolder:
    def test_is_where_the_variable_says(self, monkeypatch):
        monkeypatch.setenv("FGBGPACK_MODELS", "~/networks")
        assert registry.models_folder() == Path.home() / "networks"

    @pytest.mark.parametrize(
        ("platform", "variables", "expected"),
        [
            ("linux", {"XDG_CACHE_HOME": "/cache"}, Path("/cache/fgbgpack/models")),
            ("linux", {"XDG_CACHE_HOME": "relative"}, Path.home() / ".cache/fgbgpack/models"),
            ("linux", {}, Path.home() / ".cache/fgbgpack/models"),
            ("darwin", {}, Path.home() / "Library/Caches/fgbgpack/models"),
            ("win32", {"LOCALAPPDATA": "/local"}, Path("/local/fgbgpack/models")),
            ("win32", {}, Path.home() / "AppData/Local/fgbgpack/models"),
        ],
    )
    def test_is_the_cache_of_the_platform(self, monkeypatch, platform, variables, expected):
        for name in ("FGBGPACK_MODELS", "XDG_CACHE_HOME", "LOCALAPPDATA"):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(registry.sys, "platform", platform)
        assert registry.models_folder() == expected


class TestNames:
    def test_a_model_of_the_users_own(self, folder):
        path = gray(folder / "mine.onnx")
        assert load_model("mine").path == path
        entries = {entry.name: entry for entry in registry.known_models()[0]}
        assert entries["mine"].here
        assert not entries["mine"].is_ours
        assert entries["midas-v2.1"].is_ours
        assert not entries["midas-v2.1"].here

    def test_a_file_in_the_folder_has_our_card_unless_it_has_its_own(self, folder):
        path = gray(folder / "tcmonodepth-small.onnx", card=None)
        assert load_model("tcmonodepth-small").card["title"] == "TCMonoDepth small"
        path.with_suffix(".json").write_text(json.dumps(card(title="Mine")))
        assert load_model("tcmonodepth-small").card["title"] == "Mine"

    def test_a_file_of_that_name_where_we_stand_comes_first(self, folder, tmp_path, monkeypatch):
        gray(folder / "mine.onnx")
        here = tmp_path / "here"
        gray(here / "mine")
        monkeypatch.chdir(here)
        assert load_model("mine").path == Path("mine")

    def test_an_unknown_name(self, folder):
        gray(folder / "my-own-network.onnx")
        assert "no depth model called 'midas'. Did you mean 'midas-v2.1' or 'midas-v2.1-small'?" in refusal(
            "midas"
        )
        assert "Did you mean 'depth-anything-v2-small'" in refusal("depth-anythng-v2-smal")
        assert "Did you mean 'my-own-network'?" in refusal("my-own-netwrk")
        message = refusal("qqq")
        assert "Did you mean" not in message
        for word in ("zoedepth-nyu", "my-own-network", "fgbgpack models list"):
            assert word in message

    def test_a_known_name_whose_file_is_not_here(self, folder):
        message = refusal("depth-anything-v2-small")
        assert "fgbgpack models get depth-anything-v2-small" in message
        assert "99 MB" in message
        message = refusal("densedepth-nyu")
        assert "fgbgpack models import densedepth nyu.h5" in message
        assert str(folder / "densedepth-nyu.onnx") in message

    def test_a_file_without_a_card(self, folder):
        path = gray(folder / "bare.onnx", card=None)
        assert f"{path} has no card" in refusal("bare")
        entries, problems = registry.known_models()
        assert "bare" not in {entry.name for entry in entries}
        assert problems == [f"{path}: it has no card; 'fgbgpack models card {path}' writes one"]

    def test_a_broken_card_spoils_neither_the_list_nor_the_message(self, folder):
        gray(folder / "good.onnx")
        gray(folder / "bad.onnx", card=card(input={"range": [1]}))
        gray(folder / "worse.onnx").with_suffix(".json").write_text("{")
        entries, problems = registry.known_models()
        assert {"good"} == {entry.name for entry in entries if not entry.is_ours}
        assert len(problems) == 2
        assert "input.range" in problems[0]
        assert "is no JSON" in problems[1]
        assert "input.range" in refusal("bad")

    def test_a_folder_that_is_not_there(self, tmp_path, monkeypatch):
        monkeypatch.setenv("FGBGPACK_MODELS", str(tmp_path / "nowhere"))
        assert len(registry.known_models()[0]) == 13
        assert "models get" in refusal("midas-v2.1")

    def test_names_of_tensors_may_be_left_out(self, folder):
        gray(folder / "mine.onnx", card=card(input={"name": ...}, output={"name": ...}))
        model = load_model("mine")
        assert (model.card["input"]["name"], model.card["output"]["name"]) == ("input", "output")

    def test_names_of_tensors_are_needed_where_there_is_a_choice(self, folder):
        path = gray(folder / "mine.onnx", card=card(output={"name": ...}))
        network = onnx.load(str(path))
        network.graph.output.append(helper.make_tensor_value_info("input", 1, ["n", 3, "h", "w"]))
        onnx.save(network, str(path))
        assert (
            "output.name: not given, but the graph has not one output; it has 'output', 'input'"
            in refusal("mine")
        )

    def test_our_card_and_a_file_that_it_does_not_fit(self, folder):
        path = gray(folder / "midas-v2.1.onnx", card=None)
        message = refusal("midas-v2.1")
        assert "output.axes" in message
        assert f"a card of your own, {path.with_suffix('.json')}, takes its place" in message


class TestEmbedded:
    """Networks that come with fgbgpack."""

    NAMES = ("fgbgpack-scene", "fgbgpack-guided")

    @pytest.mark.parametrize("name", NAMES)
    def test_is_here_without_a_download(self, tmp_path, monkeypatch, name):
        monkeypatch.setenv("FGBGPACK_MODELS", str(tmp_path / "nowhere"))
        model = load_model(name)
        assert model.path.parent.name == "networks"
        assert model.is_guided == (name == "fgbgpack-guided")
        entry = registry.find(name)
        assert (entry.here, entry.is_embedded, entry.path) == (True, True, model.path)
        assert registry.how_to_get(entry) == f"It comes with fgbgpack: {model.path}"
        assert entry in registry.known_models()[0]

    def test_get_has_nothing_to_do(self, folder):
        fetched = get_model("fgbgpack-scene")
        assert fetched.received == 0
        assert fetched.sha256 == load_model("fgbgpack-scene").sha256
        assert list(folder.iterdir()) == []

    def test_a_file_of_that_name_in_the_folder_takes_its_place(self, folder):
        path = gray(folder / "fgbgpack-scene.onnx")
        assert load_model("fgbgpack-scene").path == path
        assert not registry.find("fgbgpack-scene").is_embedded
        path.unlink()  # its card alone changes nothing
        model = load_model("fgbgpack-scene")
        assert model.path.parent.name == "networks"
        assert model.name == "fgbgpack-scene"

    def test_only_these_are(self, folder):
        gray(folder / "mine.onnx")
        embedded = {entry.name for entry in registry.known_models()[0] if entry.is_embedded}
        assert embedded == set(self.NAMES)


class TestGet:
    @pytest.fixture
    def mine(self, folder, site, tmp_path) -> dict:
        """A card in the models folder, whose file is on the server."""
        site.content = gray(tmp_path / "elsewhere" / "x.onnx").read_bytes()
        document = card(download=site.url, size=len(site.content), sha256=sha(site.content))
        (folder / "tcmonodepth-small.json").write_text(json.dumps(document))
        return document

    def test_puts_the_file_where_it_is_found(self, folder, site, mine):
        fetched = get_model("tcmonodepth-small")
        assert fetched.verified
        assert fetched.path == folder / "tcmonodepth-small.onnx"
        assert load_model("tcmonodepth-small").sha256 == sha(site.content)

    def test_refuses_what_is_no_network(self, folder, site, mine):
        site.content = b"<html>" + b"x" * len(site.content)
        (folder / "tcmonodepth-small.json").write_text(json.dumps(card(download=site.url)))
        with pytest.raises(DepthModelError, match="is no ONNX file"):
            get_model("tcmonodepth-small")
        assert not (folder / "tcmonodepth-small.onnx").exists()

    def test_a_model_with_no_download(self, folder):
        with pytest.raises(DepthModelError, match=r"torch\.onnx\.export"):
            get_model("midas-v2.1-small")
        gray(folder / "mine.onnx")
        with pytest.raises(DepthModelError, match="knows no download"):
            get_model("mine")
