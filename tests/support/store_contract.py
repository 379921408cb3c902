"""Zarr's own tests of stores, which are coroutines, as functions: they run in the loop of Zarr's stores."""

from __future__ import annotations

import functools
import inspect

import pytest
from zarr.core.buffer import cpu
from zarr.core.sync import sync
from zarr.testing.store import StoreTests


def _in_loop(function):
    @functools.wraps(function)
    def run(self, *arguments, **options):
        return sync(function(self, *arguments, **options))

    return run


def in_loop(cls):
    """The class, with every inherited coroutine of a test made a function."""
    for name, function in inspect.getmembers(cls, inspect.iscoroutinefunction):
        if name.startswith("test_"):
            setattr(cls, name, _in_loop(function))
    return cls


class StoreContract(StoreTests):
    """What every store keeps to. A test class gives ``store_cls``, ``store_kwargs``, and how values are set
    and got below the store.
    """

    buffer_cls = cpu.Buffer

    @pytest.fixture
    def store(self, open_kwargs):
        return sync(self.store_cls.open(**open_kwargs))

    @pytest.fixture
    def store_not_open(self, store_kwargs):
        return self.store_cls(**store_kwargs)

    def test_store_repr(self, store):
        assert str(store)
        assert type(store).__name__ in repr(store)

    def test_store_supports_writes(self, store):
        assert store.supports_writes

    def test_store_supports_listing(self, store):
        assert store.supports_listing


#: The tests of stores that need nothing to be written.
READING = (
    "test_getsize_raises",
    "test_read_only_store_raises",
    "test_store_context_manager",
    "test_store_supports_partial_writes",
    "test_store_type",
)
