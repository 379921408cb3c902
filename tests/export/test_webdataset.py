"""Tar files, as webdataset reads them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tarfile

import numpy as np
import pytest
from exports import source_names, webdataset_samples

from fgbgpack.export import export
from fgbgpack.pipeline.events import Notice

N = 36


class TestWorkers:
    """WebDataset gives each worker of a DataLoader tar files of its own."""

    @staticmethod
    def notices(dataset, out, **options) -> list[str]:
        events: list = []
        export(dataset, out, to="webdataset", on_event=events.append, **options)
        return [event.message for event in events if isinstance(event, Notice)]

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({}, "There is 1 tar file in this export."),
            ({"shard_samples": 18}, "There are 2 tar files in this export."),
            ({"split": "by-background", "shard_samples": 4}, "There are 3 tar files in part 'val'."),
            ({"shard_samples": 4}, None),
            # No more than one for each sample.
            ({"samples": [1, 2], "shard_samples": 1}, None),
        ],
    )
    def test_few_tar_files_are_said_with_the_option_that_makes_more(
        self, split_dataset, tmp_path, options, said
    ):
        found = self.notices(split_dataset, tmp_path / "out", **options)
        assert [message.startswith(said) for message in found] == ([] if said is None else [True])
        for message in found:
            (samples,) = re.findall(r"--shard-samples (\d+)", message)
            assert "--overwrite" in message
            options = options | {"shard_samples": int(samples), "overwrite": True}
            assert self.notices(split_dataset, tmp_path / "out", **options) == []
        assert self.notices(split_dataset, tmp_path / "out", **options | {"overwrite": False}) == [
            f"{tmp_path / 'out'} is complete already."
        ]

    @pytest.mark.slow
    @pytest.mark.parametrize("workers", [2, 3])
    def test_as_many_workers_as_it_says_read_all_and_more_stop(self, split_dataset, tmp_path, workers):
        (message,) = self.notices(split_dataset, tmp_path / "out", shard_samples=18)
        assert "num_workers=2," in message
        program = (
            "import sys, torch.utils.data, webdataset\n"
            "samples = webdataset.WebDataset(sys.argv[1], shardshuffle=False)\n"
            "loader = torch.utils.data.DataLoader(samples, batch_size=None, num_workers=int(sys.argv[2]))\n"
            "print(sum(1 for _ in loader))\n"
        )
        url = str(tmp_path / "out" / "samples-{000000..000001}.tar")
        command = [sys.executable, "-c", program, url, str(workers)]
        result = subprocess.run(command, capture_output=True, text=True)
        if workers == 2:
            assert (result.returncode, result.stdout) == (0, f"{N}\n"), result.stderr
        else:
            assert result.returncode == 1
            assert "fewer shards than workers" in result.stderr


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
