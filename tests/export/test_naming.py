"""Names that every file system accepts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fgbgpack.export.naming import distinct_names, safe_name


class TestNames:
    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("mall-03", "mall-03"),
            ("Straße 1 (ü)", "Straße 1 (ü)"),
            ("a/b\\c:d", "a_b_c_d"),
            ("tab\there", "tab_here"),
            ("trailing. ", "trailing"),
            ("..", "_"),
            ("", "_"),
            (".hidden", "_.hidden"),
            ("-rf", "_-rf"),
            ("=1+1", "_=1+1"),
            ("+1", "_+1"),
            ("@SUM", "_@SUM"),
            ("1+1=2", "1+1=2"),
            ("CON", "_CON"),
            ("lpt1.old", "_lpt1.old"),
            ("console", "console"),
            ("bad\udcffbyte", "bad_byte"),
        ],
    )
    def test_safe_name(self, name, expected):
        assert safe_name(name) == expected

    def test_a_long_name_is_cut_between_letters(self):
        found = safe_name("ü" * 200)
        assert set(found) == {"ü"}
        assert 100 < len(found.encode()) <= 120

    @given(st.lists(st.sampled_from(["a", "A", "a-2", "a-3", "b", "B-2", "b-2"]), max_size=9))
    def test_distinct_names(self, names):
        found = distinct_names(names, taken=["b"])
        folded = [name.casefold() for name in found]
        assert len(set(folded)) == len(names)
        assert "b" not in folded
        for name, given_name in zip(found, names, strict=True):
            assert name.startswith(given_name)
            if folded.count(given_name.casefold()) == 0:
                assert given_name.casefold() == "b"
