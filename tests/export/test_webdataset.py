"""Tar files, as webdataset reads them."""

from __future__ import annotations

import json
import subprocess
import tarfile

import numpy as np
import pytest
from exports import source_names, webdataset_samples

from fgbgpack.export import export

N = 36


class TestWebdataset:
    @pytest.mark.slow
    def test_the_library_reads_the_same(self, split_dataset, tmp_path):
        export(split_dataset, tmp_path / "out", to="webdataset")
        found = webdataset_samples(str(tmp_path / "out" / "samples-000000.tar"))
        assert [sample["__key__"] for sample in found] == [f"{i:08d}" for i in range(N)]
        for i, sample in enumerate(found):
            expected = split_dataset[i]
            np.testing.assert_array_equal(sample["image.png"], expected.image)
            np.testing.assert_array_equal(sample["mask.png"], expected.mask)
            assert sample["depth.npy"].dtype == np.float16
            np.testing.assert_array_equal(sample["depth.npy"], expected.depth)
            placed = sample["json"]
            assert placed.pop("sample") == i
            for kind, listed in source_names(split_dataset).items():
                assert placed.pop(kind) == listed[getattr(expected, kind)]
            assert placed == {name: getattr(expected, name).item() for name in ("flip", "replica", "y", "x")}

    @pytest.mark.slow
    def test_shards_are_cut_by_samples_and_read_in_any_order(self, split_dataset, tmp_path):
        export(split_dataset, tmp_path / "out", to="webdataset", shard_samples=7)
        sizes = json.loads((tmp_path / "out" / "sizes.json").read_text())
        assert list(sizes.values()) == [7, 7, 7, 7, 7, 1]
        assert list(sizes) == [f"samples-{i:06d}.tar" for i in range(6)]
        url = tmp_path / "out" / "samples-{000000..000005}.tar"
        found = webdataset_samples(str(url), shardshuffle=6, seed=1)
        numbers = [int(sample["__key__"]) for sample in found]
        assert sorted(numbers) == list(range(N)) != numbers
        for number, sample in zip(numbers, found, strict=True):
            np.testing.assert_array_equal(sample["image.png"], split_dataset.image[number])

    @pytest.mark.slow
    def test_shards_are_cut_by_bytes(self, split_dataset, tmp_path):
        export(split_dataset, tmp_path / "out", to="webdataset", shard_bytes=60_000)
        shards = sorted((tmp_path / "out").glob("*.tar"))
        assert len(shards) > 3
        assert all(30_000 < shard.stat().st_size <= 60_000 for shard in shards[:-1])
        assert len(webdataset_samples(list(map(str, shards)))) == N
        # A sample that is larger than the limit has a shard of its own.
        export(split_dataset, tmp_path / "small", to="webdataset", shard_bytes=1, samples=[0, 5])
        assert sorted(json.loads((tmp_path / "small" / "sizes.json").read_text()).values()) == [1, 1]

    def test_tar_files_are_plain(self, split_dataset, tmp_path):
        export(split_dataset, tmp_path / "out", to="webdataset", samples=slice(3))
        with tarfile.open(tmp_path / "out" / "samples-000000.tar") as tar:
            assert tar.format == tarfile.USTAR_FORMAT or tar.pax_headers == {}
            for member in tar:
                assert (member.mtime, member.uid, member.gid, member.uname, member.gname) == (0, 0, 0, "", "")
                assert (member.mode, member.isreg()) == (0o644, True)
        listed = subprocess.run(
            ["tar", "-tf", tmp_path / "out" / "samples-000000.tar"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert listed.stdout.split()[:4] == [
            f"00000000.{end}" for end in ("image.png", "mask.png", "depth.npy", "json")
        ]
        assert listed.stderr == ""

    @pytest.mark.slow
    def test_without_a_recipe(self, imported, tmp_path):
        export(imported, tmp_path / "out", to="webdataset", fields="image")
        found = webdataset_samples(str(tmp_path / "out" / "samples-000000.tar"))
        assert [sample["json"] for sample in found] == [
            {"sample": i, "name": name} for i, name in enumerate(imported.names)
        ]
        assert set(found[0]) == {"__key__", "__url__", "__local_path__", "image.png", "json"} & set(found[0])
        assert "mask.png" not in found[0]
