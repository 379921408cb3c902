"""Keras HDF5 files: the network's graph and its weights, read without Keras or TensorFlow.

``model.save("FILE.h5")`` writes the whole model into one HDF5 file: the graph as JSON in the root's attribute
``model_config``, and the weights as datasets in the group ``model_weights``, which has a group for each layer
with the attribute ``weight_names``. Keras 2 and Keras 3 record the connections between layers differently;
both are read.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fgbgpack.depth.onnx_file import file_error, listed
from fgbgpack.errors import DepthModelError
from fgbgpack.extras import require
from fgbgpack.inputs import parse_json

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_ZIP_SIGNATURE = b"PK\x03\x04"

_MODELS = ("Functional", "Model", "Sequential")  # classes of models within a model

#: What h5py raises where a file's structure or data is broken.
_BROKEN = (OSError, KeyError, RuntimeError, ValueError, TypeError)


def import_error(message: str, problems: Sequence[str] = ()) -> DepthModelError:
    """The error of a network that cannot be imported."""
    return DepthModelError(message, problems, code="keras-unsupported")


class LayerError(Exception):
    """Why a layer cannot be converted."""


@dataclass(frozen=True)
class Layer:
    """One layer of a network: its class, such as ``"Conv2D"``, its configuration as Keras wrote it, the
    layers whose outputs it takes, in order, and float32 weights by the last part of their names, such as
    ``"kernel"``.
    """

    name: str
    kind: str
    config: Mapping[str, Any]
    sources: tuple[str, ...]
    weights: Mapping[str, NDArray[np.float32]]

    def __str__(self) -> str:
        return f"layer {self.name!r} ({self.kind})"

    def require(self, option: str, *allowed: object) -> object:
        """The value of an option, by default the first one allowed; raises LayerError for any other."""
        found = self.config.get(option, allowed[0])
        if found not in allowed:
            expected = [repr(value) for value in allowed if value is not None] or ["None"]
            raise LayerError(f"{option} = {found!r}; expected {' or '.join(expected)}")
        return found

    def weight(self, name: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
        """A weight as float64; raises LayerError where the file has none of that shape."""
        found = self.weights.get(name)
        if found is None:
            raise LayerError(f"the file has no weight {name!r} of it; it has {listed(self.weights)}")
        if found.shape != shape:
            raise LayerError(f"its weight {name!r} has shape {found.shape}; expected {shape}")
        return found.astype(np.float64)


@dataclass(frozen=True)
class KerasNetwork:
    """A network of one input and one output; each layer comes after all of its sources."""

    layers: Mapping[str, Layer]
    input: str
    output: str


def read_network(path: Path, *, kinds: Collection[str]) -> KerasNetwork:
    """Reads a network of layers of these kinds and its weights from a Keras HDF5 file.

    Raises:
        MissingPackageError: h5py is not installed.
        DepthModelError: The file is missing, damaged, not HDF5 or holds only weights; or the network is not a
            graph of layers of these kinds, each used once, with one input and one output: with every problem.
    """
    h5py = require("h5py", extra="keras", needed_by=f"Reading {path}")
    _require_hdf5(path)
    try:
        with h5py.File(path, "r") as file:
            config = _model_config(path, file)
            try:
                graph = _Graph(path, config, kinds)
            except (KeyError, TypeError, IndexError, AttributeError) as exc:
                raise file_error(
                    f"{path}: its attribute model_config is not as Keras writes it ({exc!r})."
                ) from exc
            return graph.with_weights(file["model_weights"])
    except DepthModelError:
        raise
    except _BROKEN as exc:
        raise file_error(
            f"{path} ({path.stat().st_size} bytes) is damaged, or its download was cut short: {exc}. "
            "Download it again, and compare its size."
        ) from exc


def _require_hdf5(path: Path) -> None:
    try:
        with path.open("rb") as file:
            start = file.read(len(_SIGNATURE))
    except OSError as exc:
        raise file_error(
            f"{path} cannot be read: {exc.strerror}. A Keras HDF5 file (.h5) was expected."
        ) from exc
    if start.startswith(_ZIP_SIGNATURE):
        raise file_error(
            f"{path} is a zip archive, perhaps of Keras' newer format. A Keras HDF5 file was expected: load "
            'the model in Keras and save it with model.save("FILE.h5").'
        )
    if start != _SIGNATURE:
        raise file_error(
            f"{path} is not an HDF5 file ({path.stat().st_size} bytes): a Keras HDF5 file was expected. It "
            "may be a web page or a pointer to large file storage; download it again."
        )


def _model_config(path: Path, file: Any) -> dict[str, Any]:
    if "model_config" not in file.attrs:
        weights_only = "layer_names" in file.attrs or any("layer_names" in file[key].attrs for key in file)
        found = "only the weights of a network, not its graph" if weights_only else "no Keras model"
        raise file_error(
            f"{path} holds {found}. A whole model was expected: load it in Keras and save it with "
            'model.save("FILE.h5"), not with save_weights.'
        )
    if "model_weights" not in file:
        raise file_error(f"{path} holds the graph of a network, but not its weights (model_weights).")
    try:
        config = parse_json(file.attrs["model_config"])
    except ValueError as exc:
        raise file_error(f"{path}: its attribute model_config is not JSON: {exc}.") from exc
    if not isinstance(config, dict):
        raise file_error(f"{path}: its attribute model_config is not a JSON object.")
    return config


class _Graph:
    """The layers of a ``model_config`` that the output depends on, checked."""

    def __init__(self, path: Path, config: Mapping[str, Any], kinds: Collection[str]) -> None:
        self.path = path
        self._kinds = kinds
        if config["class_name"] not in ("Functional", "Model"):
            raise import_error(
                f"{path} holds a model of the class {config['class_name']!r}. A functional model was "
                'expected: keras.Model(inputs, outputs), saved with model.save("FILE.h5").'
            )
        inner = config["config"]
        self._entries: dict[str, Mapping[str, Any]] = {
            entry.get("name") or entry["config"]["name"]: entry for entry in inner["layers"]
        }
        self._problems: list[str] = []
        self.input = self._only_end(inner, "input")
        self.output = self._only_end(inner, "output")
        self._sources: dict[str, tuple[str, ...]] = {}
        waiting = [self.output]
        while waiting:
            name = waiting.pop()
            if name not in self._sources:
                self._sources[name] = self._check(name)
                waiting += self._sources[name]
        self._raise_problems()

    def with_weights(self, weights: Any) -> KerasNetwork:
        """The network, with the weights from the HDF5 group ``weights``."""
        sources = {name: self._sources[name] for name in self._entries if name in self._sources}
        try:
            order = list(TopologicalSorter(sources).static_order())
        except CycleError as exc:
            raise import_error(f"{self.path}: its layers form a cycle: {' -> '.join(exc.args[1])}") from exc
        layers = {}
        for name in order:
            entry = self._entries[name]
            arrays = self._arrays(weights, name)
            layers[name] = Layer(name, entry["class_name"], entry["config"], self._sources[name], arrays)
        self._raise_problems()
        return KerasNetwork(layers, self.input, self.output)

    def _only_end(self, config: Mapping[str, Any], end: str) -> str:
        ends = config[f"{end}_layers"]
        if ends and isinstance(ends[0], str):  # Keras 3 writes a single one without the outer list
            ends = [ends]
        names = [name for name, _, _ in ends]
        if len(names) != 1:
            raise import_error(
                f"{self.path} holds a network of {len(names)} {end}s ({', '.join(names)}); one was expected."
            )
        return str(names[0])

    def _check(self, name: str) -> tuple[str, ...]:
        """Collects the problems of a layer. Returns the layers whose outputs it takes."""
        if name not in self._entries:
            self._problems.append(f"layer {name!r}: another layer takes its output, but it is missing")
            return ()
        entry = self._entries[name]
        kind, calls = entry["class_name"], entry["inbound_nodes"]
        where = f"layer {name!r} ({kind})"
        if kind in _MODELS:
            self._problems.append(f"{where}: a model within the model; expected a flat graph of layers")
        elif kind not in self._kinds:
            self._problems.append(f"{where}: not supported; supported are {', '.join(sorted(self._kinds))}")
        if len(calls) > 1:
            self._problems.append(f"{where}: shared: used {len(calls)} times; expected once")
        if kind == "InputLayer" and name != self.input:
            self._problems.append(f"{where}: a second input; expected one, {self.input!r}")
        if kind != "InputLayer" and not calls:
            self._problems.append(f"{where}: takes no output of another layer")
        sources = []
        for call in calls[:1]:
            for source, node, tensor, arguments in _tensors(call):
                if node != 0 or tensor != 0:
                    self._problems.append(
                        f"{where}: takes output {tensor} of use {node} of {source!r}; expected layers that "
                        "are used once and have one output"
                    )
                if arguments.get("training"):
                    self._problems.append(f"{where}: runs in training mode; expected inference")
                sources.append(source)
        return tuple(sources)

    def _arrays(self, weights: Any, name: str) -> dict[str, NDArray[np.float32]]:
        """The weights of a layer, by the last parts of their names, as in ``conv1/conv/kernel:0``."""
        arrays: dict[str, NDArray[np.float32]] = {}
        if name not in weights:
            return arrays
        group = weights[name]
        for full_name in group.attrs.get("weight_names", []):
            text = full_name.decode() if isinstance(full_name, bytes) else str(full_name)
            array = np.asarray(group[text][()], np.float32)
            if not np.isfinite(array).all():
                self._problems.append(f"layer {name!r}: its weight {text!r} has values that are not finite")
            arrays[text.rsplit("/", 1)[-1].split(":")[0]] = array
        return arrays

    def _raise_problems(self) -> None:
        if self._problems:
            raise import_error(f"The network in {self.path} cannot be imported:", self._problems)


def _tensors(call: Any) -> Iterator[tuple[str, int, int, Mapping[str, Any]]]:
    """The inputs of one use of a layer: source layer, its use, the output of that, and arguments."""
    if not isinstance(call, dict):  # Keras 2: [[source, use, output, arguments], ...]
        for source, node, tensor, *arguments in call:
            yield source, node, tensor, arguments[0] if arguments else {}
        return
    # Keras 3: tensors as objects among the arguments.
    yield from ((*history, call["kwargs"]) for history in _histories(call["args"]))


def _histories(value: Any) -> Iterator[tuple[str, int, int]]:
    if isinstance(value, list):
        for item in value:
            yield from _histories(item)
    elif isinstance(value, dict) and value.get("class_name") == "__keras_tensor__":
        name, node, tensor = value["config"]["keras_history"]
        yield name, node, tensor
