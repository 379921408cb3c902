"""Files of arrays, as numpy.load reads them."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest
from exports import export_document, source_names

from fgbgpack.export import export, npz

N, HEIGHT, WIDTH = 36, 21, 33
PLACEMENTS = ("background", "foreground", "flip", "replica", "y", "x")


class TestNpz:
    @pytest.mark.parametrize("per_file", [None, 7, 36, 100])
    def test_numpy_reads_the_same(self, split_dataset, tmp_path, monkeypatch, per_file):
        # Blocks of five images, so that arrays consist of several and files end within them.
        monkeypatch.setattr(npz, "_BLOCK_BYTES", 5 * 3 * HEIGHT * WIDTH)
        export(split_dataset, tmp_path / "out", to="npz", shard_samples=per_file)
        files = sorted((tmp_path / "out").glob("part-*.npz"))
        assert len(files) == (6 if per_file == 7 else 1)
        loaded = []
        for file in files:
            with zipfile.ZipFile(file) as archive:
                assert archive.testzip() is None
            with np.load(file, allow_pickle=False) as arrays:
                loaded.append(dict(arrays))
        whole = {name: np.concatenate([arrays[name] for arrays in loaded]) for name in loaded[0]}
        assert list(whole) == ["image", "mask", "depth", "sample", *PLACEMENTS]
        for name in ("image", "mask", "depth"):
            np.testing.assert_array_equal(whole[name], getattr(split_dataset, name)[:])
            assert whole[name].dtype == getattr(split_dataset, name).dtype
        for name in PLACEMENTS:
            np.testing.assert_array_equal(whole[name], getattr(split_dataset.placements, name))
        np.testing.assert_array_equal(whole["sample"], np.arange(N))
        assert export_document(tmp_path / "out")["details"]["sources"] == source_names(split_dataset)

    def test_without_a_recipe(self, imported, tmp_path):
        export(imported, tmp_path / "out", to="npz", samples=[5, 2, 2])
        with np.load(tmp_path / "out" / "part-00000.npz") as arrays:
            assert arrays["name"].tolist() == [imported.names[2], imported.names[5]]
            np.testing.assert_array_equal(arrays["depth"], imported.depth[[2, 5]])
