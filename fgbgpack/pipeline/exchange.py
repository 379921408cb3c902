"""A dataset that replaces another one in a store without folders, such as a bucket.

The new one is made below a hidden prefix, and the old one stays as it is. One put of the root's metadata, on
the condition that they are still the old ones, then makes the new one the dataset: readers of fgbgpack find
its arrays below the prefix until they are copied to their places. What stops on the way is gone on with.
"""

from __future__ import annotations

import uuid
from collections.abc import Container

from fgbgpack.dataset.kept_stats import STATS
from fgbgpack.document import DEPTH_PARTS, MANIFEST, OWN, VERIFIED, is_own
from fgbgpack.storage.arrays import METADATA
from fgbgpack.storage.beside import HIDDEN, BesideStore, is_below, moving_from, prefix_of
from fgbgpack.storage.manifest import copies_in
from fgbgpack.storage.store import DatasetStore


class Exchange:
    """What may replace the dataset in a store: the same as a ``Replacement`` is for one in a folder."""

    #: An incomplete dataset is replaced too: whoever is still writing it must not meet the new one.
    takes_incomplete = True

    def __init__(self, target: DatasetStore) -> None:
        self._target = target
        self._prefix = ""
        self._paths: tuple[str, ...] = ()
        self._new = target

    @classmethod
    def of(cls, target: DatasetStore) -> Exchange | None:
        """That of a dataset; ``None`` where it is in a folder or a file, or its store does not list keys."""
        store = target.base
        is_able = store.supports_listing and store.supports_deletes
        return cls(target) if target.claims is not None and is_able else None

    def recover(self) -> None:
        """Put in its place what a stopped run has made the dataset."""
        if (moving := moving_from(self._target.told())) is not None:
            self._prefix, self._paths = moving
            self._target.claim(beside=self._prefix, paths=list(self._paths), moving=True)
            self._put_in_place()

    def open(self, without: Container[str] | None = None, *, anew: bool = False) -> DatasetStore:
        """The store of the new dataset. Where nothing is there yet it has the arrays and the document of the
        old one, but not those arrays; with ``None`` it has nothing.

        What a stopped run has begun is there, unless the dataset is to be begun ``anew``: that run may still
        be at it, and must not meet this one.
        """
        target, told = self._target, self._target.told()
        self._paths = OWN
        if without is not None:
            self._paths = tuple(p for p in (*OWN, *DEPTH_PARTS) if p in without or p == MANIFEST)
        begun, shared = prefix_of(told), None if without is None else self._paths
        goes_on = not anew and begun is not None and told.get("paths") == list(self._paths)
        if not goes_on or target.get(f"{begun}/{METADATA}") is None:
            begun, goes_on = f"{HIDDEN}{uuid.uuid4().hex}", False
        self._prefix = str(begun)
        target.claim(beside=begun, paths=list(self._paths))
        self._new = DatasetStore(BesideStore(target.base, self._prefix, shared), target.name)
        if without is not None and not goes_on:
            target.copy({key: f"{begun}/{key}" for key in target.find(f"{MANIFEST}/")})
            self._new.replace_root(target.root())
        return self._new

    def publish(self) -> None:
        """Make the new dataset the dataset, and put it in the place of the old one, which is deleted. What
        others put there stays.
        """
        target, node, old = self._target, self._new.root(), self._target.root()
        known = {*node["attributes"], VERIFIED, STATS}
        others = {name: value for name, value in old.get("attributes", {}).items() if name not in known}
        copies = {path: copy for path, copy in copies_in(old).items() if not is_own(path)}
        node["attributes"] = {**others, **node["attributes"]}
        if copies and "consolidated_metadata" in node:
            node["consolidated_metadata"]["metadata"] |= copies
        moving = {"beside": self._prefix, "paths": list(self._paths), "moving": True}
        target.replace_root(node, told=moving)
        self._put_in_place()

    def _put_in_place(self) -> None:
        target, start = self._target, f"{self._prefix}/"
        made = DatasetStore(BesideStore(target.base, self._prefix), target.name)
        keys = [key for key in made.find() if key != METADATA]
        target.copy({f"{start}{key}": key for key in keys})
        target.store = target.base
        target.delete({key for key in target.find() if is_below(key, self._paths)}.difference(keys))
        target.replace_root(target.root(), told={})
        self._sweep()

    def remove(self) -> None:
        """Delete what stopped runs have left."""
        if prefix_of(self._target.told()) is not None:
            self._target.replace_root(self._target.root(), told={})
        self._sweep()

    def _sweep(self) -> None:
        """Delete what lies beside the dataset and its root does not name."""
        hidden = self._target.find(HIDDEN)
        # It is named before anything is written.
        named = prefix_of(self._target.told())
        self._target.delete(key for key in hidden if named is None or not key.startswith(f"{named}/"))
