"""Files of every format, mode, depth and fault: no traceback, and what is read is what was written.

``pytest -s -k every_file`` prints how many there are, and what came of them.
"""

from __future__ import annotations

import warnings
from collections import Counter

import numpy as np
import pytest
from picture_files import write
from picture_suite import LOSSLESS, faulty_files, large_buffer, whole_files

from fgbgpack.errors import SourceError
from fgbgpack.sources.decoding import picture_suffixes, read_header
from fgbgpack.sources.masks import read_mask
from fgbgpack.sources.pictures import read_picture, read_values
from fgbgpack.spec import Reading


@pytest.fixture
def files(monkeypatch):
    large_buffer(monkeypatch)
    return [file for file in whole_files() if f".{file.name.rpartition('.')[2]}" in picture_suffixes()]


@pytest.mark.slow
def test_every_file_is_read_or_refused(tmp_path, files):
    every = [*files, *(faulty for file in files for faulty in faulty_files(file))]
    assert len(every) > 300
    outcomes, unnamed = Counter(), []
    for file in every:
        path = write(tmp_path / file.name, file.data)
        for read in (
            read_picture,
            read_mask,
            read_values,
            read_header,
            lambda path: read_mask(path, Reading(mask_value=1, strict=False)),
        ):
            try:
                read(path)
            except SourceError as error:
                outcomes[error.code] += 1
                unnamed += [file.name for line in error.problems if not line.startswith(f"{path}: ")]
            else:
                outcomes["read"] += 1
        path.unlink()
    print(f"\n{len(every):,} files: " + ", ".join(f"{n:,} {code}" for code, n in outcomes.most_common()))
    assert not unnamed
    assert outcomes["read"] > len(every)


def test_what_is_read_is_what_was_written(tmp_path, files):
    compared = Counter()
    for file in files:
        suffix = file.name.rpartition(".")[2]
        if suffix not in LOSSLESS or file.options.get("compression") == "jpeg":
            continue
        if file.mode in ("I", "F", "LAB", "I;16", "HSV", "YCbCr"):
            continue  # of no known range, or of another one: other tests have them
        if file.options.get("tiffinfo") and file.mode != "L":
            continue  # no decoder knows white-is-zero with alpha
        found = read_picture(write(tmp_path / file.name, file.data))
        expected = file.picture.convert("RGBA").convert("RGB") if file.mode == "PA" else file.picture
        assert np.array_equal(found.rgb, expected.convert("RGB")), file.name
        if file.mode in ("LA", "RGBA") and found.alpha is not None:
            assert np.array_equal(found.alpha, file.picture.getchannel("A")), file.name
        compared[suffix] += 1
    assert compared.total() > 60
    assert len(compared) > 6


@pytest.mark.filterwarnings("ignore:Dataset has no geotransform")
def test_an_independent_decoder_reads_the_same(tmp_path, files):
    rasterio = pytest.importorskip("rasterio", reason="GDAL is not installed")
    compared = Counter()
    for file in files:
        suffix = file.name.rpartition(".")[2]
        if file.mode not in ("L", "RGB", "RGBA", "LA", "I;16", "P") or suffix not in (
            "png", "tif", "jpg", "bmp", "jp2", "webp", "gif",
        ):  # fmt: skip
            continue
        if file.options.get("tiffinfo"):
            continue  # GDAL leaves white-is-zero to whoever shows it
        path = write(tmp_path / file.name, file.data)
        try:
            with rasterio.open(path) as source:
                bands, palette = source.read(), None
                if source.count == 1 and source.colorinterp[0].name == "palette":
                    palette = source.colormap(1)
        except rasterio.errors.RasterioError:
            continue  # this build of GDAL has no driver for it
        if palette is not None:
            colours = np.array([palette[i][:3] for i in range(len(palette))], np.uint8)
            expected = np.moveaxis(colours[bands[0]], -1, 0)
        else:
            expected = bands[:3] if len(bands) >= 3 else bands[:1].repeat(3, axis=0)
        if expected.dtype == np.uint16:
            expected = np.round(expected / 257)
        found = np.moveaxis(np.asarray(read_picture(path).rgb), -1, 0).astype(int)
        # Where alpha is 0, WebP may hold any colour; JPEG's chroma may be interpolated in other ways.
        tolerance = 0 if suffix in LOSSLESS and file.options.get("compression") != "jpeg" else 6
        assert np.percentile(np.abs(found - expected), 95) <= tolerance, file.name
        compared[suffix] += 1
    assert compared.total() >= 20, compared


def written_by_gdal(path, bands, **options):
    """A TIFF file that Pillow does not write."""
    rasterio = pytest.importorskip("rasterio", reason="GDAL is not installed")
    count, height, width = bands.shape
    shape = {"count": count, "height": height, "width": width, "dtype": bands.dtype}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(path, "w", driver="GTiff", **shape, **options) as file:
            file.write(bands)
    return path


@pytest.mark.parametrize("interleave", ["pixel", "band"])
@pytest.mark.parametrize("compress", ["none", "lzw", "deflate", "packbits"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_tiff_of_another_writer_is_read_or_refused(tmp_path, dtype, compress, interleave):
    bands = np.random.default_rng(0).integers(0, np.iinfo(dtype).max + 1, (3, 24, 32), dtype)
    options = {"interleave": interleave, "compress": compress, "photometric": "RGB"}
    path = written_by_gdal(tmp_path / "a.tif", bands, **options)
    if dtype == np.uint16 and interleave == "band":
        with pytest.raises(SourceError) as caught:
            read_picture(path)
        assert caught.value.code == "picture-misread"
        return
    scaled = bands if dtype == np.uint8 else bands / 257
    found = np.moveaxis(np.asarray(read_picture(path).rgb), -1, 0)
    assert np.abs(found - scaled).max() < (1 if dtype == np.uint16 else 1e-9)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_classes_in_tiff_of_few_bits(tmp_path, bits):
    numbers = np.random.default_rng(bits).integers(0, 1 << bits, (1, 24, 32), np.uint8)
    path = written_by_gdal(tmp_path / "a.tif", numbers, NBITS=bits)
    assert np.array_equal(read_mask(path, Reading(mask_value=1)), (numbers[0] == 1) * np.uint8(255))
    gray = np.asarray(read_picture(path).rgb)[..., 0]
    assert np.array_equal(gray, numbers[0].astype(int) * 255 // ((1 << bits) - 1))


def test_tiff_of_numbers_with_a_sign_is_refused(tmp_path):
    signed = np.arange(-60, 60, dtype=np.int8).reshape(1, 10, 12)
    with pytest.raises(SourceError) as caught:
        read_picture(written_by_gdal(tmp_path / "a.tif", signed))
    assert caught.value.code == "picture-misread"
