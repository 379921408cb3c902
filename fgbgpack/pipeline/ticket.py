"""Work that other processes do: what they are sent of it, and how they open it.

A task is a number and a ticket: a few kilobytes from which a worker opens the dataset, reads the sources that
are stored in it, and loads the networks. It does that once for all tasks of a stage.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import platform
import sys
import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Mapping
from copyreg import __newobj__  # type: ignore[attr-defined]  # what pickle itself makes objects with
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from zarr.abc.store import Store
from zarr.storage import FsspecStore, MemoryStore, ObjectStore

from fgbgpack.composition.recipe import Recipe
from fgbgpack.dataset.arrays import catalog_of, catalog_paths
from fgbgpack.depth import DepthModel, load_model, registry
from fgbgpack.errors import ClusterError, DatasetError, DepthModelError, FgbgError
from fgbgpack.pipeline.executor import Monitor
from fgbgpack.spec import DatasetSpec
from fgbgpack.storage.store import DatasetStore
from fgbgpack.system import keep_memory
from fgbgpack.version import software

T = TypeVar("T")
R = TypeVar("R")

#: Tickets that stay open in a process: that of a stage, and the one before, whose last tasks may be repeated.
_KEPT = 2
#: Codes of errors that may not come again when a task is repeated.
PASSING = frozenset({"io-failed"})
#: Classes of fsspec and of obstore whose files are in the memory of one process.
_IN_MEMORY = ("MemoryFileSystem", "MemoryStore")
_ONNX_RUNTIMES = ("onnxruntime-gpu", "onnxruntime")


class Work(ABC, Generic[T, R]):
    """What is done for each of many items, in this process or in others: it can be pickled.

    What it returns for an item can be pickled too, and is small: counts and what was found, never arrays.
    """

    @abstractmethod
    def __call__(self, item: Any, monitor: Monitor) -> R:
        """Do it for an item, as it was sent. Nothing is changed by that in this object."""

    @property
    @abstractmethod
    def recipe_store(self) -> DatasetStore | None:
        """The dataset from which other processes read the recipe, if there is one."""

    def prepare(self) -> None:
        """Do what must be done before others begin."""

    def sent(self, item: T) -> object:
        """What another process needs to do it for an item."""
        return item


@dataclass(frozen=True)
class Outcome:
    """How a task ended: the result and what it counted, or an error that would come again."""

    result: Any = None
    count: int = 0
    error: FgbgError | None = None

    def value(self) -> Any:
        """The result; raises the error."""
        if self.error is not None:
            raise self.error
        return self.result


class _Counter(Monitor):
    """Adds up what is counted in this process."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def advance(self, count: int) -> None:
        self.count += count


def perform(ticket: Ticket, item: Any) -> Outcome:
    """Do a task in a worker. What is raised, and not returned, may not come again when it is repeated."""
    monitor = _Counter()
    try:
        return Outcome(ticket.open()(item, monitor), monitor.count)
    except FgbgError as exc:
        if exc.code in PASSING:
            raise
        return Outcome(error=exc)


class Ticket:
    """From which a worker opens some work.

    What it holds may have credentials in it: none of that is in its ``repr``, which engines log.
    """

    _opened: ClassVar[OrderedDict[str, Any]] = OrderedDict()
    _lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, content: bytes, made_with: Mapping[str, str]) -> None:
        self._content, self._made_with = content, dict(made_with)
        self.digest = hashlib.sha256(content).hexdigest()

    @classmethod
    def of(cls, work: Work[Any, Any]) -> Ticket:
        """That of some work; ClusterError where other processes cannot open it."""
        file = io.BytesIO()
        try:
            _Pickler(file, work.recipe_store).dump(work)
        except FgbgError:
            raise
        except Exception as exc:  # each kind of store has errors of its own
            raise ClusterError(
                f"Other processes cannot open this dataset ({type(exc).__name__}): give a folder or a URL "
                "that all workers can open, or leave the executor out.",
                code="store-not-shared",
            ) from exc
        return cls(file.getvalue(), versions())

    def __repr__(self) -> str:
        return f"Ticket({self.digest[:16]})"

    def __reduce__(self) -> tuple[Any, ...]:
        return Ticket, (self._content, self._made_with)

    def __len__(self) -> int:
        return len(self._content)

    def open(self) -> Callable[[Any, Monitor], Any]:
        """The work, opened once in this process; ClusterError where it cannot be opened here."""
        with self._lock:
            if self.digest not in self._opened:
                require_versions(self._made_with)
                keep_memory()
                self._opened[self.digest] = self._load()
                while len(self._opened) > _KEPT:
                    self._opened.popitem(last=False)
            self._opened.move_to_end(self.digest)
            work: Callable[[Any, Monitor], Any] = self._opened[self.digest]
            return work

    def _load(self) -> Any:
        try:
            return pickle.loads(self._content)  # noqa: S301 (what sends it sends the code to be run, too)
        except DatasetError as exc:
            if exc.code != "dataset-missing":
                raise
            raise _not_shared(exc.message) from exc


class _Pickler(pickle.Pickler):
    """Pickles work without what a worker can read for itself: the recipe, networks, what was written."""

    def __init__(self, file: io.BytesIO, recipe_store: DatasetStore | None) -> None:
        super().__init__(file, pickle.HIGHEST_PROTOCOL)
        self._recipe_store = recipe_store

    def reducer_override(self, obj: Any) -> Any:
        """How such an object is pickled; ``NotImplemented`` for all others."""
        if isinstance(obj, DatasetStore):
            state = obj.__getstate__(), obj.generation()
            return __newobj__, (DatasetStore,), state, None, None, _set_store
        if isinstance(obj, Recipe) and self._recipe_store is not None:
            return _read_recipe, (self._recipe_store, _absolute(obj.spec), obj.info.sha256)
        if isinstance(obj, DepthModel):
            return _load_model, (obj.name if _has_name(obj) else str(obj.path.absolute()), obj.sha256)
        if isinstance(obj, Store) and _is_in_memory(obj):
            raise ClusterError(
                f"{obj} is in the memory of this process, and no worker sees it: give a folder or a URL, or "
                "leave the executor out.",
                code="store-not-shared",
            )
        return NotImplemented


def _is_in_memory(store: Store) -> bool:
    inner: Any = store
    if isinstance(store, FsspecStore):
        inner = getattr(store.fs, "sync_fs", store.fs)  # of those that know no asyncio
    elif isinstance(store, ObjectStore):
        inner = store.store
    return isinstance(store, MemoryStore) or type(inner).__name__ in _IN_MEMORY


def _set_store(store: DatasetStore, state: tuple[dict[str, Any], str | None]) -> None:
    """See that a worker has the same dataset before it as the sender."""
    store.__dict__.update(state[0])
    found = store.generation()
    if found != state[1]:
        what = "no dataset" if found is None else "another dataset, or an older state of it,"
        raise _not_shared(f"It finds {what} at {store.name}.")


def _not_shared(what: str) -> ClusterError:
    return ClusterError(
        f"The worker on {platform.node()} does not see the same files as the process that sends it work. "
        f"{what} Put the dataset where all workers see it under the same name: a shared file system, or an "
        "object store.",
        code="store-not-shared",
    )


def require_folder(folder: Path) -> None:
    """See that a worker has a folder that the sender has (ClusterError)."""
    if not folder.is_dir():
        raise _not_shared(f"It has no folder {folder}.")


def _absolute(spec: DatasetSpec) -> DatasetSpec:
    """The same spec for a process that is in another folder."""
    folders = {key: getattr(spec, key) for key in ("backgrounds", "foregrounds", "masks", "background_depth")}
    moved = {key: str(Path(folder).absolute()) for key, folder in folders.items() if folder is not None}
    return DatasetSpec.from_dict({**spec.to_dict(), **moved})


def _read_recipe(store: DatasetStore, spec: DatasetSpec, sha256: str) -> Recipe:
    """The recipe of a dataset, of the sources that are stored in it."""
    stored = DatasetStore(store.store, store.name)
    document = stored.document(lambda error: None)
    if document is None or document.sources is None:
        raise _not_shared(f"It finds no recipe at {store.name}.")
    # The sender may know that the manifest is damaged.
    stored.manifest = store.manifest
    paths = catalog_paths(document)
    arrays = dict(zip(paths, stored.read(*paths), strict=True))
    recipe = Recipe.of(spec, catalog_of(document.sources, arrays))
    if recipe.info.sha256 != sha256:
        raise DatasetError(
            f"The sources in {store.name} are not those of the recipe: the dataset was replaced meanwhile, "
            "or they are damaged. Run the same command again, or fgbgpack verify.",
            code="recipe-damaged",
        )
    return recipe


def _has_name(model: DepthModel) -> bool:
    """Whether a worker may have a network elsewhere, by the same name."""
    try:
        return registry.locate(model.name)[0] == model.path
    except DepthModelError:
        return False


def _load_model(reference: str, sha256: str) -> DepthModel:
    model = load_model(reference)
    if model.sha256 != sha256:
        raise DepthModelError(
            f"The network {reference} on {platform.node()} is another one than that of the process which "
            f"sends work: found {model.sha256}, expected {sha256}. Install the same file there.",
            code="model-differs",
        )
    return model


# --- versions --------------------------------------------------------------------------------------


@cache
def versions() -> Mapping[str, str]:
    """The versions on which bytes may depend, and whether processes understand each other."""
    found = {"Python": "{}.{}".format(*sys.version_info[:2]), **software()}
    for name in _ONNX_RUNTIMES:
        try:
            found["onnxruntime"] = metadata.version(name)
            break
        except metadata.PackageNotFoundError:
            continue
    return found


def differing_versions(expected: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    """What differs, one line each."""
    return [
        f"{name} {found.get(name, 'not there')}, expected {expected.get(name, 'none')}"
        for name in {**expected, **found}
        if expected.get(name) != found.get(name)
    ]


def require_versions(expected: Mapping[str, str]) -> None:
    """See that this process has the versions of the one that sends it work (ClusterError)."""
    if lines := differing_versions(expected, versions()):
        raise versions_error([f"{platform.node()}: {line}" for line in lines])


def versions_error(problems: list[str]) -> ClusterError:
    """The error for workers of other versions."""
    return ClusterError(
        "Workers have other versions than the process that sends them work, so that their bytes might be "
        "others. Install the same ones everywhere:",
        problems,
        code="workers-differ",
    )
