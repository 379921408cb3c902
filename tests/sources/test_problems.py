"""Problems of files: their codes, their lines, and how many of them are listed."""

from __future__ import annotations

import threading

import pytest

from fgbgpack.errors import SourceError
from fgbgpack.sources import problems as module
from fgbgpack.sources.problems import CountedProblems, combined, problem, run_all

EMPTY = problem("a.png", "an empty file", "a picture", "picture-empty")
OPAQUE = problem("b.png", "alpha is 255", "transparency", "alpha-opaque")


def test_a_code_is_that_of_all_problems_or_that_of_several():
    assert combined([EMPTY, EMPTY]).code == combined([EMPTY]).code == "picture-empty"
    both = combined([EMPTY, combined([OPAQUE])])
    assert both.code == "sources-unusable"
    assert both.problems == (*EMPTY.problems, *OPAQUE.problems)
    assert str(both).splitlines() == [
        "2 problems with the pictures: fix or remove what is named here",
        "  - a.png: an empty file; expected a picture",
        "  - b.png: alpha is 255; expected transparency",
    ]


def test_counted_problems_list_the_first_of_each_group():
    first, second = CountedProblems(), CountedProblems()
    assert not first
    for i in range(4):
        first.add("masks", f"{i}: no mask", "mask-missing")
        second.add("masks", f"{i + 4}: no mask", "mask-missing")
    second.add_error("pictures", EMPTY)
    first.update(second)
    assert len(first) == 9
    assert first.counts == {"masks": 8, "pictures": 1}
    assert first.code == "sources-unusable"
    assert first.lines() == [
        *(f"{i}: no mask" for i in range(5)),
        "... and 3 more masks, 8 in all",
        *EMPTY.problems,
    ]


def test_jobs_run_on_threads_and_results_come_in_order(monkeypatch):
    monkeypatch.setattr(module, "_THREADS", 3)
    barrier = threading.Barrier(3, timeout=30)
    assert sorted(run_all([barrier.wait] * 3)) == [0, 1, 2]  # each waits for the other two
    seen = []
    jobs = [lambda i=i: i for i in range(20)]
    assert run_all(jobs, lambda done, total: seen.append((done, total, threading.get_ident()))) == [
        *range(20)
    ]
    assert seen == [(done, 20, threading.get_ident()) for done in range(1, 21)]


def test_the_problems_of_all_jobs_are_raised_together():
    def fail(error):
        raise error

    with pytest.raises(SourceError) as caught:
        run_all([lambda: fail(EMPTY), lambda: 1, lambda: fail(OPAQUE)])
    assert caught.value.problems == (*EMPTY.problems, *OPAQUE.problems)


def test_an_error_in_the_callback_ends_the_threads():
    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_all([lambda: 1], stop)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("fgbgpack-sources")]
