"""Downloads of depth models from a real server."""

from __future__ import annotations

import json
import socket
import threading
import time
from pathlib import Path

import pytest
from model_site import CONTENT, OTHER, Site, serving, sha
from onnx_models import card, gray
from refusals import refused

from fgbgpack.depth import load_model
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


def fetch_refused(request: Fetch, code: str = "download-failed") -> DepthModelError:
    with refused(DepthModelError, code) as caught:
        fetch(request)
    return caught.value


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
        assert len(site.requests) == 1

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
        assert site.requests == [(None, None), ("bytes=100000-", '"one"'), ("bytes=150000-", '"one"')]
        assert "100,000 of 300,000 bytes" in notices[0]
        assert "from byte 150,000" in notices[1]

    def test_a_server_without_ranges(self, site, target):
        site.ranges, site.cuts = False, [100_000]
        fetch(job(site, target))
        assert target.read_bytes() == CONTENT
        assert len(site.requests) == 2

    @pytest.mark.parametrize("etag", [None, 'W/"weak"'])
    def test_a_server_that_cannot_tell_versions_apart_is_asked_for_all(self, site, target, etag):
        site.etag, site.cuts = etag, [100_000]
        fetch(job(site, target))
        assert target.read_bytes() == CONTENT
        assert site.requests == [(None, None), (None, None)]

    def test_a_call_that_gave_up_is_resumed_by_the_next(self, site, target):
        site.cuts = [100_000]
        assert "100,000 bytes" in fetch_refused(job(site, target, attempts=1)).message
        assert not target.exists()
        fetched = fetch(job(site, target, sha256=sha(CONTENT)))
        assert fetched.received == 200_000
        assert target.read_bytes() == CONTENT
        assert files(target) == {"model.onnx"}

    def test_a_call_that_was_killed_before_the_last_step(self, site, target):
        site.cuts = [299_999]
        fetch_refused(job(site, target, attempts=1))
        part = target.with_name("model.onnx.part")
        part.write_bytes(CONTENT)
        assert fetch(job(site, target, sha256=sha(CONTENT))).received == 0
        assert site.requests[-1] == ("bytes=300000-", '"one"')
        assert target.read_bytes() == CONTENT

    def test_a_part_that_is_longer_than_the_file(self, site, target):
        site.cuts = [100]
        fetch_refused(job(site, target, attempts=1))
        target.with_name("model.onnx.part").write_bytes(CONTENT + b"more")
        fetch(job(site, target))
        assert target.read_bytes() == CONTENT

    def test_the_file_changes_between_two_calls(self, site, target):
        site.cuts = [100_000]
        fetch_refused(job(site, target, attempts=1))
        site.content, site.etag = OTHER, '"two"'
        fetch(job(site, target))
        assert target.read_bytes() == OTHER

    def test_what_was_begun_elsewhere_is_not_mixed_in(self, site, target):
        site.cuts = [100_000]
        fetch_refused(job(site, target, attempts=1))
        with serving(Site(content=OTHER)) as moved:
            fetch(job(moved, target))
        assert moved.requests == [(None, None)]
        assert target.read_bytes() == OTHER

    def test_a_part_that_was_damaged_on_the_disk_is_started_over(self, site, target):
        site.cuts = [100_000]
        fetch_refused(job(site, target, attempts=1))
        target.with_name("model.onnx.part").write_bytes(b"x" * 100_000)
        notices = []
        fetch(job(site, target, sha256=sha(CONTENT), on_notice=notices.append))
        assert target.read_bytes() == CONTENT
        assert "starting over" in notices[0]

    def test_another_digest_is_refused(self, site, target):
        error = fetch_refused(job(site, target, sha256=sha(OTHER)), "download-digest-mismatch")
        for word in (sha(CONTENT), sha(OTHER), site.url):
            assert word in error.message
        assert files(target) == set()
        assert len(site.requests) == 1

    def test_what_is_not_accepted_is_removed(self, site, target):
        def refuse(path: Path) -> None:
            assert path.read_bytes() == CONTENT
            raise DepthModelError("not a network", code="not-a-network")

        fetch_refused(job(site, target, accept=refuse), "not-a-network")
        assert files(target) == set()

    def test_a_page_instead_of_the_file_is_told_by_its_length(self, site, target):
        site.content = b"<html>Sign in</html>"
        error = fetch_refused(job(site, target, size=300_000), "download-digest-mismatch")
        assert "20 bytes, expected about 300,000" in error.message
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
        message = fetch_refused(job(site, target)).message
        for word in (str(status), f"fetch\n  {site.url}\n", f"\n  {target}"):
            assert word in message
        assert len(site.requests) == 1

    def test_a_busy_server_is_asked_again(self, site, target):
        site.statuses = [503, 429, 500]
        fetch(job(site, target))
        assert target.read_bytes() == CONTENT
        assert len(site.requests) == 4

    def test_a_server_that_stays_busy(self, site, target):
        site.statuses = [503] * 9
        assert "503" in fetch_refused(job(site, target, attempts=3)).message
        assert len(site.requests) == 3

    def test_attempts_count_only_in_a_row(self, site, target):
        site.cuts = [50_000] * 5
        fetch(job(site, target, attempts=2))
        assert target.read_bytes() == CONTENT

    @pytest.mark.slow
    def test_a_slow_start(self, site, target):
        site.waits = [0.3]
        fetch(job(site, target))
        assert target.read_bytes() == CONTENT
        assert len(site.requests) == 1

    def test_a_server_that_says_nothing_is_given_up_and_asked_again(self, site, target):
        site.waits = [0.5]
        fetch(job(site, target, timeout=0.1))
        assert target.read_bytes() == CONTENT
        assert len(site.requests) == 2

    def test_no_network(self, target):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{free.getsockname()[1]}/model"
        notices = []
        assert f"fetch\n  {url}" in fetch_refused(Fetch(url, target, on_notice=notices.append)).message
        assert notices == []  # nobody waits for what will not come

    def test_redirects(self, site, target):
        with serving(Site(redirect=site.url.replace("/model", "/file"))) as front:
            front.redirect = site.url.replace("/model", "/elsewhere")
            fetch(job(front, target))
        assert target.read_bytes() == CONTENT

    def test_a_redirect_away_from_http(self, site, target):
        site.redirect = "ftp://127.0.0.1/model"
        assert "redirects to ftp" in fetch_refused(job(site, target)).message

    def test_a_folder_that_cannot_be_made(self, site, tmp_path):
        (tmp_path / "file").write_text("")
        fetch_refused(job(site, tmp_path / "file" / "model.onnx"))

    @pytest.mark.slow
    def test_many_at_once_fetch_it_once(self, site, target):
        site.waits, notices, results = [0.2], [], []

        def run() -> None:
            results.append(fetch(job(site, target, sha256=sha(CONTENT), on_notice=notices.append)))

        threads = [threading.Thread(target=run) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(site.requests) == 1
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
        while not site.requests:
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
        with refused(DepthModelError, "model-file-corrupt"):
            get_model("tcmonodepth-small")
        assert not (folder / "tcmonodepth-small.onnx").exists()

    def test_a_model_with_no_download(self, folder):
        gray(folder / "mine.onnx")
        for name, text in (("midas-v2.1-small", "torch.onnx.export"), ("mine", str(folder / "mine.onnx"))):
            with refused(DepthModelError, "model-file-missing") as caught:
                get_model(name)
            assert text in caught.value.message
