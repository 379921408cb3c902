"""What holds for exports in every format."""

from __future__ import annotations

import shutil
import subprocess
import sys

import numpy as np
import pytest
from builders import depth_of, tree
from exports import export_document, names_in, table_rows, webdataset_samples

from fgbgpack import create, fill_depth, open_dataset
from fgbgpack.errors import IncompleteDatasetError, SpecError
from fgbgpack.export import TARGETS, export, npz, parquet, target
from fgbgpack.pipeline import Event, Progress

N, HEIGHT, WIDTH = 36, 21, 33


def small_runs(monkeypatch):
    """Runs and blocks of a few samples, of which several are in flight."""
    monkeypatch.setattr(target, "_RUN_BYTES", 9_000)
    monkeypatch.setattr(target, "_READ_BYTES", 30_000)
    monkeypatch.setattr(npz, "_BLOCK_BYTES", 9_000)
    monkeypatch.setattr(parquet, "_GROUP_ROWS", 5)


@pytest.mark.parametrize("to", TARGETS)
class TestEveryFormat:
    @pytest.mark.slow
    def test_bytes_are_the_same_with_any_number_of_workers(self, split_dataset, tmp_path, monkeypatch, to):
        small_runs(monkeypatch)
        for workers in (1, 2, 5):
            export(split_dataset, tmp_path / str(workers), to=to, split="by-background", workers=workers)
        first = tree(tmp_path / "1")
        assert len(first) > 2
        assert first == tree(tmp_path / "2") == tree(tmp_path / "5")

    def test_bytes_are_the_same_for_a_virtual_dataset(self, dataset, pictures, tmp_path, to):
        create(tmp_path / "virtual.zarr", pictures.spec(), virtual=True)
        export(tmp_path / "virtual.zarr", tmp_path / "a", to=to)
        export(dataset, tmp_path / "b", to=to)
        assert tree(tmp_path / "a") == tree(tmp_path / "b")

    @pytest.mark.slow
    def test_document_and_report(self, split_dataset, tmp_path, to):
        report = export(split_dataset, tmp_path / "out", to=to, split="by-background", parts=["val"])
        said = export_document(tmp_path / "out")
        samples = split_dataset.split("by-background")["val"]
        assert said["format"] == to
        assert said["dataset"]["recipe"] == split_dataset.document.to_dict()["recipe"]
        assert (said["samples"], said["parts"]) == (len(samples), {"val": len(samples)})
        assert (said["height"], said["width"]) == (HEIGHT, WIDTH)
        if to == "yolo":  # it has no place for depth
            assert (said["fields"], said["depth"]) == (["image", "mask"], None)
        else:
            assert said["fields"] == ["image", "mask", "depth"]
            assert (said["depth"]["quantity"], said["depth"]["unit"]) == ("inverse_depth", None)
        assert "fgbgpack" in said["software"]
        assert str(tmp_path) not in (tmp_path / "out" / "fgbgpack.json").read_text()
        files = tree(tmp_path / "out")
        assert (report.files, report.bytes) == (len(files), sum(map(len, files.values())))
        assert (report.samples, report.parts, report.to) == (len(samples), {"val": len(samples)}, to)
        assert names_in(tmp_path) == ["out"]
        compile("\n".join(report.opened_by), "how to open", "exec")

    def test_an_interrupt_leaves_nothing(self, split_dataset, tmp_path, monkeypatch, to):
        small_runs(monkeypatch)

        def interrupt(event):
            if isinstance(event, Progress) and event.done > 10:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            export(split_dataset, tmp_path / "new" / "out", to=to, on_event=interrupt)
        assert names_in(tmp_path / "new") == []

    def test_progress(self, split_dataset, tmp_path, to):
        told: list[Event] = []
        export(split_dataset, tmp_path / "out", to=to, samples=slice(3, 20), on_event=told.append)
        events = [event for event in told if isinstance(event, Progress)]
        assert {event.stage for event in events} == {"export"}
        assert [events[0].done, events[-1].done, events[-1].total] == [0, 17, 17]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("to", "found"),
    [
        ("folder", "picture.size"),
        ("webdataset", 'sample["image.png"].size'),
        ("npz", 'arrays["image"].shape'),
    ],
)
def test_the_lines_that_open_an_export(split_dataset, tmp_path, to, found):
    report = export(split_dataset, tmp_path / "it's out", to=to, split="by-background", parts=["val"])
    program = "\n".join([*report.opened_by, f"print(tuple({found}))"])
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    expected = (12, HEIGHT, WIDTH, 3) if to == "npz" else (WIDTH, HEIGHT)
    assert (done.stdout, done.returncode) == (f"{expected}\n", 0), done.stderr


class TestParts:
    @pytest.mark.slow
    def test_parts_are_written_separately(self, split_dataset, tmp_path):
        split = split_dataset.split("by-background")
        assert {name: len(samples) for name, samples in split.items()} == {"train": 24, "val": 12}
        for to in ("folder", "webdataset", "npz"):
            report = export(split_dataset, tmp_path / to, to=to, split="by-background")
            assert report.parts == {"train": 24, "val": 12}
        for name, samples in split.items():
            assert [int(row["sample"]) for row in table_rows(tmp_path / "folder" / name)] == samples.tolist()
            found = webdataset_samples(str(tmp_path / "webdataset" / f"{name}-000000.tar"))
            assert [int(sample["__key__"]) for sample in found] == samples.tolist()
            with np.load(tmp_path / "npz" / name / "part-00000.npz") as arrays:
                np.testing.assert_array_equal(arrays["sample"], samples)
                np.testing.assert_array_equal(arrays["image"], split_dataset.image[samples])
        # One mapping for both parts, with the extent of all depth.
        assert (
            export_document(tmp_path / "folder")["depth"]["mapping"]["high"] == split_dataset.depth[:].max()
        )

    def test_given_parts(self, split_dataset, tmp_path):
        split = {"a": [0, 1], "a-2": [2, 3, 4]}
        report = export(split_dataset, tmp_path / "tars", to="webdataset", split=split, shard_samples=1)
        assert "/a-{000000..000001}.tar'" in report.opened_by[1]
        split = {"a/b": [1, 0], "A_b": [2], "fgbgpack.json": split_dataset.placements.flip}
        export(split_dataset, tmp_path / "out", to="npz", split=split)
        found = {path.parent.name for path in (tmp_path / "out").glob("*/*.npz")}
        assert found == {"a_b", "A_b-2", "fgbgpack.json-2"}
        assert export_document(tmp_path / "out")["parts"] == {"a/b": 2, "A_b": 1, "fgbgpack.json": 18}

    @pytest.mark.parametrize(
        ("samples", "expected"),
        [
            (5, [5]),
            ([7, 3, 7, -1], [3, 7, 35]),
            (slice(30, None, 2), [30, 32, 34]),
            ([slice(0, 2), slice(1, 4), 9], [0, 1, 2, 3, 9]),
            (np.arange(36) % 17 == 1, [1, 18, 35]),
        ],
    )
    def test_samples(self, split_dataset, tmp_path, samples, expected):
        export(split_dataset, tmp_path / "out", to="npz", samples=samples, fields="mask")
        with np.load(tmp_path / "out" / "part-00000.npz") as arrays:
            assert arrays["sample"].tolist() == expected
            np.testing.assert_array_equal(arrays["mask"], split_dataset.mask[expected])
            assert "image" not in arrays


class TestRefusals:
    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            ({"samples": [36, 3]}, "--samples: index 36 is out of bounds"),
            ({"samples": [slice(0, 99)]}, "--samples: there is no sample 98, expected 0 to 35"),
            ({"samples": [slice(40, 99)]}, "--samples: there is no sample 40, 98, expected 0 to 35"),
            ({"samples": slice(5, 5)}, "--samples: there are no samples in it"),
            ({"samples": [0.5]}, "--samples: samples are named by whole numbers"),
            ({"split": "by-foreground"}, "--split: "),
            (
                {"split": "by-background", "parts": ["test"]},
                "--part: there is no part 'test', expected some of train, val",
            ),
            ({"split": {"a": [0], "b": []}}, "part 'b': there are no samples in it"),
            ({"split": "by-background", "samples": 5}, "--samples: cannot be combined with --split"),
            ({"parts": ["train"]}, "--part: needs --split"),
            (
                {"fields": ["image", "normals"]},
                "--fields: there is no 'normals', expected some of image, mask",
            ),
            ({"fields": []}, "--fields: found none"),
            (
                {"shard_bytes": 5},
                "--shard-size: not an option of --to npz, only of webdataset, mds, litdata and parquet",
            ),
            ({"shard_samples": 0}, "--shard-samples: found 0, expected 1 to 1000000000000000"),
            ({"shard_samples": 10**20}, "--shard-samples: found 100000000000000000000, expected 1 to"),
            ({"to": "mds", "shard_bytes": 10**16}, "--shard-size: found 10000000000000000, expected 1 to"),
            ({"to": "folder", "depth_bits": 12}, "--depth-bits: found 12, expected 8 or 16"),
        ],
    )
    def test_problems(self, split_dataset, tmp_path, options, expected):
        with pytest.raises(SpecError) as caught:
            export(split_dataset, tmp_path / "out", **({"to": "npz"} | options))
        assert caught.value.code == "export-options-invalid"
        (problem,) = caught.value.problems
        assert problem.startswith(expected)
        assert names_in(tmp_path) == []

    @pytest.mark.parametrize(
        ("options", "code"), [({"to": "tiff"}, "export-target-unknown"), ({"workers": 0}, "workers-invalid")]
    )
    def test_codes(self, split_dataset, tmp_path, options, code):
        with pytest.raises(SpecError) as caught:
            export(split_dataset, tmp_path / "out", **({"to": "npz"} | options))
        assert caught.value.code == code
        assert names_in(tmp_path) == []

    def test_all_problems_are_reported_together(self, split_dataset, tmp_path):
        with pytest.raises(SpecError) as caught:
            export(
                split_dataset,
                tmp_path / "out",
                to="npz",
                samples=[99],
                parts=["a"],
                fields="x",
                category="person",
            )
        assert len(caught.value.problems) == 4

    def test_missing_depth(self, dataset, tmp_path):
        with pytest.raises(SpecError) as caught:
            export(dataset, tmp_path / "out", to="npz", fields=["image", "depth"])
        (problem,) = caught.value.problems
        assert problem.startswith(f"--fields: there is no depth: fill it with fgbgpack depth {dataset}")
        report = export(dataset, tmp_path / "out", to="folder")
        assert report.fields == ("image", "mask")
        assert export_document(tmp_path / "out")["depth"] is None

    def test_an_incomplete_dataset(self, dataset, depth_model, tmp_path):
        path = tmp_path / "ds.zarr"
        shutil.copytree(dataset, path)

        def stop(event):
            if isinstance(event, Progress) and event.stage == "depth":
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            fill_depth(path, depth_of(depth_model), on_event=stop)
        for given_dataset in (path, open_dataset(path, allow_incomplete=True)):
            with pytest.raises(IncompleteDatasetError):
                export(given_dataset, tmp_path / "out", to="npz")
        assert names_in(tmp_path) == ["ds.zarr"]
