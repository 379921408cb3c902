"""Depth models by name."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import onnx
import pytest
from onnx import helper
from onnx_models import card, gray

from fgbgpack.depth import load_model, registry
from fgbgpack.depth.download import get_model
from fgbgpack.errors import DepthModelError


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("FGBGPACK_MODELS", str(tmp_path))
    return tmp_path


def refusal(name: str, code: str) -> str:
    with pytest.raises(DepthModelError) as caught:
        load_model(name)
    assert (caught.value.code, caught.value.exit_status) == (code, 5)
    return str(caught.value)


class TestFolder:
    def test_is_where_the_variable_says(self, monkeypatch):
        monkeypatch.setenv("FGBGPACK_MODELS", "~/networks")
        assert registry.models_folder() == Path.home() / "networks"

    @pytest.mark.skipif(sys.platform != "linux", reason="platformdirs knows the other platforms' folders")
    @pytest.mark.parametrize(
        ("cache", "expected"),
        [
            ("/cache", Path("/cache/fgbgpack/models")),
            ("", Path.home() / ".cache/fgbgpack/models"),
            ("relative", Path.home() / ".cache/fgbgpack/models"),  # as the XDG specification has it
        ],
    )
    def test_is_in_the_users_cache(self, monkeypatch, cache, expected):
        monkeypatch.delenv("FGBGPACK_MODELS", raising=False)
        monkeypatch.setenv("XDG_CACHE_HOME", cache)
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
        assert load_model("tcmonodepth-small").card.title == "TCMonoDepth small"
        path.with_suffix(".json").write_text(json.dumps(card(title="Mine")))
        assert load_model("tcmonodepth-small").card.title == "Mine"

    def test_a_file_of_that_name_where_we_stand_comes_first(self, folder, tmp_path, monkeypatch):
        gray(folder / "mine.onnx")
        here = tmp_path / "here"
        gray(here / "mine")
        monkeypatch.chdir(here)
        assert load_model("mine").path == Path("mine")

    def test_an_unknown_name(self, folder):
        gray(folder / "my-own-network.onnx")
        for name, alike in (
            ("midas", "'midas-v2.1' or 'midas-v2.1-small'?"),
            ("depth-anythng-v2-smal", "'depth-anything-v2-small'"),
            ("my-own-netwrk", "'my-own-network'?"),
        ):
            assert f"Did you mean {alike}" in refusal(name, "model-unknown")
        message = refusal("qqq", "model-unknown")
        assert "Did you mean" not in message
        for word in ("zoedepth-nyu", "my-own-network", "fgbgpack models list"):
            assert word in message

    def test_a_known_name_whose_file_is_not_here(self, folder):
        message = refusal("depth-anything-v2-small", "model-file-missing")
        assert "fgbgpack models get depth-anything-v2-small" in message
        assert "99 MB" in message
        message = refusal("densedepth-nyu", "model-file-missing")
        assert "fgbgpack models import densedepth nyu.h5" in message
        assert str(folder / "densedepth-nyu.onnx") in message

    def test_a_file_without_a_card(self, folder):
        path = gray(folder / "bare.onnx", card=None)
        assert str(path) in refusal("bare", "card-missing")
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
        assert problems[1].startswith(str(folder / "worse.json"))
        assert "input.range" in refusal("bad", "card-invalid")

    def test_a_folder_that_is_not_there(self, tmp_path, monkeypatch):
        monkeypatch.setenv("FGBGPACK_MODELS", str(tmp_path / "nowhere"))
        assert len(registry.known_models()[0]) == 18
        assert "models get" in refusal("midas-v2.1", "model-file-missing")

    def test_names_of_tensors_may_be_left_out(self, folder):
        gray(folder / "mine.onnx", card=card(input={"name": ...}, output={"name": ...}))
        model = load_model("mine")
        assert (model.card.input.name, model.card.output.name) == ("input", "output")

    def test_names_of_tensors_are_needed_where_there_is_a_choice(self, folder):
        path = gray(folder / "mine.onnx", card=card(output={"name": ...}))
        network = onnx.load(str(path))
        network.graph.output.append(helper.make_tensor_value_info("input", 1, ["n", 3, "h", "w"]))
        onnx.save(network, str(path))
        assert "output.name: not given, and the graph has several outputs" in refusal("mine", "card-invalid")

    def test_our_card_and_a_file_that_it_does_not_fit(self, folder):
        path = gray(folder / "midas-v2.1.onnx", card=None)
        message = refusal("midas-v2.1", "card-invalid")
        assert "output.axes" in message
        assert f"a card of your own, {path.with_suffix('.json')}, replaces it" in message


class TestEmbedded:
    """Networks that come with fgbgpack."""

    NAMES = ("fgbgpack-scene", "fgbgpack-guided")

    @pytest.mark.parametrize("name", NAMES)
    def test_is_here_without_a_download(self, tmp_path, monkeypatch, name):
        monkeypatch.setenv("FGBGPACK_MODELS", str(tmp_path / "nowhere"))
        model = load_model(name)
        assert model.path.parent.name == "networks"
        assert model.card.is_guided == (name == "fgbgpack-guided")
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
