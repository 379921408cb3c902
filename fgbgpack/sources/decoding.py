"""Opens and decodes one picture file as Pillow does it, with every fault as a SourceError."""

from __future__ import annotations

import hashlib
import importlib
import io
import math
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import BinaryIO, TypeAlias

from PIL import ExifTags, Image, UnidentifiedImageError

from fgbgpack.errors import SourceError
from fgbgpack.extras import installing, lack_of
from fgbgpack.files import sha256_of
from fgbgpack.inputs import check_regular, open_file, read_file
from fgbgpack.sources import damage
from fgbgpack.sources.memory import take_pixels
from fgbgpack.sources.problems import problem
from fgbgpack.spec import AS_USUAL, Reading

# Pillow only recognises these (HDF5, GRIB, BUFR, WMF and MPEG) or runs a program on them (EPS: Ghostscript).
_UNDECODABLE_FORMATS = frozenset({"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"})

#: Packages that teach Pillow more formats, the extensions of these, and the extra that installs them.
_PLUGINS: Mapping[str, tuple[str, ...]] = {
    "pillow_heif": (".heic", ".heif", ".hif"),
    "pillow_jxl": (".jxl",),
}
_PLUGINS_EXTRA = "heif"

# Tried first: each begins with bytes that no other format begins with.
_USUAL_FORMATS = frozenset({"JPEG", "PNG"})

# What turns a stored picture upright, by its EXIF orientation.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# What turns an upright picture back to how it was stored: each of the others undoes itself.
_STORED = _UPRIGHT | {6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}

#: What to do where EXIF orientation turns a picture, and not its mask.
EXIF_ADVICE = "--exif ignore fits masks that were drawn on the pixels as they are stored"

#: What is said of damaged pictures that are used.
DAMAGED = "that are damaged, and used as they are"

# In bytes: the most pixels that Pillow decodes, with four channels of 16 bits, have 0.7 GB.
_LARGEST_FILE = 2 << 30

_RECOGNISED = 16  # bytes by which Pillow knows a format

_quiet_lock = threading.Lock()
_quiet_users = 0
_quiet_filters = ExitStack()


@cache
def _formats() -> tuple[str, ...]:
    """Pillow's names of the formats that it decodes by itself or with plugins, in the order in which to try
    them: the usual ones first, as some of the others read far into a file before they reject it.
    """
    Image.init()
    _register_plugins()
    names = [name for name in Image.ID if name not in _UNDECODABLE_FORMATS]
    return tuple(sorted(names, key=lambda name: name not in _USUAL_FORMATS))


@cache
def _register_plugins() -> Mapping[str, str]:
    """Teaches Pillow the formats of packages; what is lacking where that fails, by extension."""
    lacking: dict[str, str] = {}
    for package, suffixes in _PLUGINS.items():
        try:
            plugin = importlib.import_module(package)
            if hasattr(plugin, "register_heif_opener"):
                plugin.register_heif_opener()
        except Exception as exc:  # a package that is broken raises errors of any kind
            lacking |= dict.fromkeys(suffixes, lack_of(package, _PLUGINS_EXTRA, exc))
    return lacking


@cache
def lacking_plugins() -> Mapping[str, str]:
    """What is lacking to decode pictures, by their lower-case extension: a package, and how to install it."""
    avif = f"a Pillow that decodes AVIF: {installing(_PLUGINS_EXTRA)}"
    lacking = {".avif": avif, **_register_plugins()}
    return {suffix: lack for suffix, lack in lacking.items() if suffix not in picture_suffixes()}


@cache
def picture_suffixes() -> frozenset[str]:
    """Lower-case file extensions of pictures, with the dot."""
    # Pillow opens files of several pictures (phones write them) as the JPEG files that they begin with.
    formats = {*_formats(), "MPO"}
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in formats)


def hash_file(path: Path) -> str:
    """The SHA-256 of a file, 64 hexadecimal digits; raises SourceError where it cannot be read."""
    with readable(path):
        check_regular(path, _LARGEST_FILE)
        return sha256_of(path)


@dataclass(frozen=True)
class Embedded:
    """A picture that is a part of another file: where that is, in words, and its bytes."""

    where: str
    data: bytes

    def __str__(self) -> str:
        return self.where

    @property
    def suffix(self) -> str:
        """It has no extension."""
        return ""


#: What is decoded: a file, or a part of one.
PictureFile: TypeAlias = Path | Embedded


def _open(path: PictureFile) -> BinaryIO:
    return io.BytesIO(path.data) if isinstance(path, Embedded) else open_file(path)


@dataclass(frozen=True)
class Header:
    """The header of a picture: upright ``(width, height)`` in pixels, Pillow's names of format and mode, and
    the EXIF orientation, 1 to 8, where that was looked for; and the focal length in pixels, if the EXIF block
    tells it.
    """

    size: tuple[int, int]
    format: str
    mode: str
    orientation: int = 1
    focal_length: float | None = None


def read_header(path: PictureFile, reading: Reading = AS_USUAL) -> Header:
    """The size and kind of a picture. It is not decoded: the rest of the file may still be damaged. Raises
    SourceError where the file cannot be read or is no picture.
    """
    with readable(path), _open(path) as file, decodable(path):
        image = Image.open(file, formats=_formats())
        if reading.frame:
            image.seek(reading.frame)
        # An EXIF block at the end of a PNG is not looked for: Pillow would decode all of it.
        known = image.format != "PNG" or "exif" in image.info
        orientation = _orientation(image) if known else 1
        focal_length = _focal_length(image) if known else None
    # The size of a TIFF is upright already. These exchange width and height:
    turns = orientation >= 5 and (reading.exif == "apply") != (image.format == "TIFF")
    size = image.size[::-1] if turns else image.size
    return Header(size, image.format or "", image.mode, orientation, focal_length)


def is_turned_apart(orientation: int, mask: Path, reading: Reading) -> bool:
    """Whether a picture of this EXIF orientation is turned in another way than its mask."""
    return reading.exif == "apply" and orientation > 1 and read_header(mask).orientation != orientation


@dataclass(frozen=True)
class Decoded:
    """A picture as Pillow decodes it, the bytes of its file, what is still to be done to turn it as it is to
    be read, its EXIF orientation, 1 to 8, and what is to be said of it.
    """

    image: Image.Image
    data: bytes
    turn: Image.Transpose | None
    orientation: int
    remarks: tuple[str, ...]

    def turned(self, image: Image.Image) -> Image.Image:
        """The picture, or one of its channels, as it is to be read."""
        return image if self.turn is None else image.transpose(self.turn)


def _rejection(path: PictureFile) -> str | None:
    """Why Pillow rejects a file that begins as those of a format do; ``None`` where it begins as none."""
    with _open(path) as file:
        start = file.read(_RECOGNISED)
        for name, suffixes in _recognisable().items():
            opener, accepts = Image.OPEN[name]
            file.seek(0)
            try:
                if accepts is not None and accepts(start):
                    opener(file, str(path))
            except Exception as error:
                # Formats that are known by little say the same of any file.
                if path.suffix.lower() in suffixes or name in _USUAL_FORMATS:
                    return f"{name}: {str(error) or type(error).__name__}"
    return None


@cache
def _recognisable() -> dict[str, set[str]]:
    """The formats that are known by how their files begin, and the extensions of these."""
    suffixes = Image.registered_extensions()
    return {
        name: {suffix for suffix, known in suffixes.items() if known == name}
        for name in _formats()
        if name in Image.OPEN and Image.OPEN[name][1] is not None
    }


def decode(path: PictureFile, reading: Reading, sha256: str | None = None) -> Decoded:
    """Reads and decodes a file, whose bytes must have the digest, if one is given.

    Raises SourceError where the file cannot be read, is none or more than one picture, is damaged, too small,
    too large, or has changed.
    """
    with readable(path):
        data = path.data if isinstance(path, Embedded) else read_file(path, _LARGEST_FILE)
    if sha256 is not None and (now := hashlib.sha256(data).hexdigest()) != sha256:
        expected = f"{sha256[:12]}..., as when it was listed: leave it unchanged and run again"
        raise problem(path, f"the file has changed: SHA-256 {now[:12]}...", expected, "picture-changed")
    if not data:
        raise problem(path, "an empty file (0 bytes)", "a picture", "picture-empty")
    most = Image.MAX_IMAGE_PIXELS
    with decodable(path):
        image = Image.open(io.BytesIO(data), formats=_formats())
        _check_frames(path, image, reading)
        width, height = image.size
        if most is not None and width * height > most:
            raise Image.DecompressionBombError
        if min(width, height) < 2:
            raise problem(path, f"a picture of {width}x{height} pixels", "at least 2x2", "picture-too-small")
        is_tiff = image.format == "TIFF"
        # Pillow turns TIFF files when it decodes them, and forgets how.
        orientation = _orientation(image) if is_tiff else 1
        if found := damage.misread(image, data):
            expected = "a file that the decoder reads as it is meant: save it as PNG"
            raise problem(path, found, expected, "picture-misread")
        take_pixels(width, height)
        image.load()
        remarks = _remarks(path, image, data, reading)
        orientation = orientation if is_tiff else _orientation(image)
    turns = {} if is_tiff == (reading.exif == "apply") else _STORED if is_tiff else _UPRIGHT
    return Decoded(image, data, turns.get(orientation), orientation, remarks)


def _remarks(path: PictureFile, image: Image.Image, data: bytes, reading: Reading) -> tuple[str, ...]:
    """What is to be said of damage that decoders pass over; raises SourceError where that is not to be."""
    if (fault := damage.fault(image, data)) is None:
        return ()
    if reading.strict:
        expected = "an undamaged picture (--no-strict uses what is left of it)"
        raise problem(path, f"it is damaged: {fault}", expected, "picture-damaged")
    return (DAMAGED,)


def _check_frames(path: PictureFile, image: Image.Image, reading: Reading) -> None:
    """Goes to the frame that is the picture."""
    # Further pictures in an MPO file (phones write them) belong to its first, the photograph.
    frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
    if frames == 1:
        return
    found = f"an animation, or a file of {frames} frames"
    if reading.frame is None:
        expected = (
            "a single still picture: save the frame that you want as a file of its own, or give --frame"
        )
        raise problem(path, found, expected, "picture-animated")
    if reading.frame >= frames:
        raise problem(path, found, f"at least {reading.frame + 1}, for --frame", "frame-missing")
    image.seek(reading.frame)


@contextmanager
def readable(path: PictureFile) -> Iterator[None]:
    """Turns an OSError into a SourceError."""
    try:
        yield
    except OSError as error:
        found = f"it cannot be read ({error.strerror})"
        raise problem(path, found, "a readable file", "picture-unreadable") from error


@contextmanager
def decodable(path: PictureFile) -> Iterator[None]:
    """Silences Pillow's warnings, and turns its errors into a SourceError."""
    try:
        with quiet_decoders():
            yield
    except SourceError:
        raise
    except Image.DecompressionBombError as error:
        found, expected = f"more than {Image.MAX_IMAGE_PIXELS:,} pixels", "a smaller picture: scale it down"
        raise problem(path, found, expected, "picture-too-large") from error
    except UnidentifiedImageError as error:
        if reason := _rejection(path):
            found = f"it cannot be decoded ({reason})"
            raise problem(path, found, "an undamaged picture", "picture-not-decodable") from error
        found = "not the content of any picture format"
        raise problem(path, found, "a picture", "picture-format-unknown") from error
    except Exception as error:  # On damaged data, decoders raise almost anything.
        found = f"it cannot be decoded ({str(error) or type(error).__name__})"
        raise problem(path, found, "an undamaged picture", "picture-not-decodable") from error


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # A damaged EXIF block raises almost anything; viewers ignore it.
        return 1


def _focal_length(image: Image.Image) -> float | None:
    """In pixels: EXIF has it in millimetres of a film whose diagonal is that of 36 x 24 mm (CIPA DCG-001)."""
    try:
        tags = image.getexif().get_ifd(ExifTags.IFD.Exif)
        millimetres = int(tags.get(ExifTags.Base.FocalLengthIn35mmFilm, 0))
    except Exception:  # As with the orientation.
        return None
    # 0 stands for unknown.
    return millimetres * math.hypot(*image.size) / math.hypot(36, 24) if millimetres > 0 else None


@contextmanager
def quiet_decoders() -> Iterator[None]:
    """Silences the warnings of Pillow and pycocotools: what matters of them is reported as a problem. The
    filters belong to the whole process, so the first thread to enter sets them and the last one to leave
    restores them.
    """
    global _quiet_users
    with _quiet_lock:
        _quiet_users += 1
        if _quiet_users == 1:
            _quiet_filters.enter_context(warnings.catch_warnings())
            warnings.filterwarnings("ignore", module=r"(PIL|pycocotools)\.")
    try:
        yield
    finally:
        with _quiet_lock:
            _quiet_users -= 1
            if _quiet_users == 0:
                _quiet_filters.close()
