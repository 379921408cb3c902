"""The script that trains on composites and tests on photographs: its measures, its rows, how it goes on."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from builders import Pictures
from documents import ROOT
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fgbgpack import DatasetSpec

pytest.importorskip("torch")
transfer = pytest.importorskip("transfer")


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=30))
def test_average_precision(pixels: list[tuple[int, bool]]) -> None:
    """The mean, over the pixels that are people, of the precision among pixels with at least their score."""
    precisions = [
        np.mean([truth for other, truth in pixels if other >= score]) for score, truth in pixels if truth
    ]
    score, truth = (np.array(values) for values in zip(*pixels, strict=True))
    expected = np.mean(precisions) if precisions else 0
    assert transfer.average_precision(score, truth) == pytest.approx(expected)


def test_rows_are_of_specs_that_there_are() -> None:
    rows = transfer.all_rows()
    assert rows["reference"] == transfer.Row()
    known = {field.name for field in fields(DatasetSpec)}
    assert all(row.spec.keys() <= known for row in rows.values())
    assert len({row.key for row in rows.values()}) == len(rows)
    without = rows[next(name for name in rows if name.endswith("without noise"))].augment
    assert without.noise == 0
    assert without.blur > 0


def test_the_network_is_small_and_gives_a_logit_for_each_pixel() -> None:
    torch = pytest.importorskip("torch")
    network = transfer.UNet()
    assert round(sum(one.numel() for one in network.parameters()), -4) == 280_000
    assert network(torch.zeros((2, 3, 32, 48), dtype=torch.uint8)).shape == (2, 1, 32, 48)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two photographs of a white square in the grey."""
    for name, (height, width) in (("a", (60, 80)), ("b", (90, 60))):
        mask = np.zeros((height, width), np.uint8)
        mask[20:40, 20:40] = 255
        for folder, picture in (("image", np.stack([mask // 2 + 90] * 3, axis=-1)), ("mask", mask)):
            (tmp_path / "photos" / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(tmp_path / "photos" / folder / f"{name}.png")
    return tmp_path / "photos"


def test_photographs_keep_their_proportions(photos: Path) -> None:
    (wide, wide_mask), (high, high_mask) = transfer.photographs(photos)
    assert (tuple(wide.shape), wide_mask.shape) == ((1, 3, 128, 176), (128, 176))
    assert (tuple(high.shape), high_mask.shape) == ((1, 3, 192, 128), (192, 128))
    assert (wide[0, 0].numpy()[wide_mask] > 150).mean() > 0.9
    (photos / "mask" / "b.png").unlink()
    with pytest.raises(SystemExit):
        transfer.photographs(photos)


@pytest.mark.slow
def test_it_trains_and_goes_on_where_it_was_stopped(photos: Path, pictures: Pictures, tmp_path: Path) -> None:
    def run(*rows: str) -> tuple[list[dict[str, object]], str]:
        options = {"photos": photos, "backgrounds": pictures.backgrounds, "foregrounds": pictures.foregrounds}
        options |= {
            "json": tmp_path / "found.json",
            "seeds": 1,
            "steps": 3,
            "batch": 4,
            "workers": 0,
            "threads": 1,
        }
        given = [text for name, value in options.items() for text in (f"--{name}", str(value))]
        command = [sys.executable, str(ROOT / "benchmarks" / "transfer.py"), *given, "--rows", *rows]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads((tmp_path / "found.json").read_text()), done.stdout

    found, table = run("reference", "reference, augmented")
    assert len(found) == 2
    assert all(0 <= one[name] <= 1 for one in found for name in ("ap", "iou"))
    assert table.count("\n") == 4
    # The first is done again, and is the same; the second is there, and stays.
    (tmp_path / "found.json").write_text(json.dumps(found[1:]))
    again, same = run("reference", "reference, augmented")
    assert again[0] == found[1]
    assert {**again[1], "seconds": 0} == {**found[0], "seconds": 0}
    assert same == table
