"""Cuts the foregrounds out of a folder of photographs."""

from __future__ import annotations

import io
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fgbgpack.cutout.colour import foreground_colour, reach_of
from fgbgpack.cutout.folder import FOREGROUNDS, REVIEW, CutoutFolder
from fgbgpack.cutout.matte import Part, box_of, confirmed, parts_of
from fgbgpack.cutout.network import CutoutNetwork
from fgbgpack.cutout.quality import measure
from fgbgpack.cutout.review import review
from fgbgpack.cutout.table import TABLE, Cutout
from fgbgpack.depth.model import DepthModel, load_model
from fgbgpack.depth.providers import Execution
from fgbgpack.errors import DepthModelError, SourceError
from fgbgpack.pipeline.events import Notice, OnEvent, Progress, Reporting, reporting, silent
from fgbgpack.sources.credits import Credit, read_credits
from fgbgpack.sources.decoding import hash_file, read_header
from fgbgpack.sources.listing import list_pictures
from fgbgpack.sources.memory import decoding, take_pixels
from fgbgpack.sources.pictures import read_picture
from fgbgpack.sources.problems import Remarks, combined, run_all
from fgbgpack.spec import AS_USUAL, Reading
from fgbgpack.visual.canvas import write_picture

#: The network that is taken where none is named.
DEFAULT_MODEL = "isnet-general-use"

#: Changes with what is made of the same photograph and the same network.
_METHOD = 2
#: What is computed of a photograph takes so many times the memory of decoding it.
_WORK = 5


@dataclass(frozen=True)
class CutoutReport:
    """What a run found and made; counts are of all photographs in the folder of cut-outs.

    Attributes:
        path: The folder of cut-outs.
        foregrounds: The folder of those that are used, for ``fgbgpack create --foregrounds``.
        table: Their table, ``cutouts.csv``.
        review: The picture of them.
        model: The network's name.
        confirm: That of the second network, if any.
        provider: What ran it; ``None`` where nothing was to be done.
        photos: How many photographs were looked at.
        done: How many of them in this run.
        cutouts: How many cut-outs there are.
        used: How many of them are used.
        flagged: How many have a flag.
        flags: How many have each flag.
    """

    path: str
    foregrounds: str
    table: str
    review: str
    model: str
    confirm: str | None
    provider: str | None
    photos: int
    done: int
    cutouts: int
    used: int
    flagged: int
    flags: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def cut_out(
    photos: str | Path,
    out: str | Path,
    *,
    model: str | Path = DEFAULT_MODEL,
    confirm: str | Path | None = None,
    split: bool = False,
    only_good: bool = False,
    execution: Execution | None = None,
    reading: Reading = AS_USUAL,
    on_event: Reporting = silent,
) -> CutoutReport:
    """Cuts the foreground out of each photograph of a folder.

    Each cut-out is a PNG with alpha in ``OUT/foregrounds``, as large as what is there in the photograph, and
    its alpha a gray one in ``OUT/masks``. ``OUT/cutouts.csv`` has its numbers and flags, ``OUT/review.png``
    shows all. What is there of earlier runs stays, unless the photograph, the network or an option has
    changed.

    Args:
        photos: The folder.
        out: The folder to make or continue.
        model: The network: a name, or an ONNX file with its card beside it.
        confirm: A second one, such as one that finds people: what it does not find is no foreground, and
            cut-outs on which both differ are flagged.
        split: Whether parts that do not touch are cut-outs of their own.
        only_good: Whether flagged cut-outs are left out, except where the table's column ``keep`` says yes.
        execution: Where and how the network runs.
        reading: How photographs are read.
        on_event: Called with events, or ``"progress"``.

    Raises:
        SourceError: A photograph cannot be used; the others are cut out first. Or a table is broken.
        DepthModelError: The network or the device cannot be used.
        SpecError: ``out`` holds something else.
        DatasetError: ``out`` cannot be written, or another process does that.
    """
    paths, problems = list_pictures(Path(photos))
    if problems:
        raise combined(problems)
    folder = CutoutFolder(Path(out), only_good=only_good)
    folder.refuse_others()
    # The last: who lacks a network downloads it now.
    models = [load_model(one, "cutout") for one in (model, confirm) if one is not None]
    run = _Run(Path(photos), folder, models, split=split, reading=reading)
    with reporting(on_event) as report, run.folder.opened():
        return run.execute(paths, execution or Execution(), report)


class _Run:
    def __init__(
        self, photos: Path, folder: CutoutFolder, models: list[DepthModel], *, split: bool, reading: Reading
    ) -> None:
        self.folder = folder
        self._photos, self._models = photos, models
        self._split, self._reading = split, reading
        self._remarks = Remarks()
        self._failed = threading.Event()

    def execute(self, paths: list[Path], execution: Execution, on_event: OnEvent) -> CutoutReport:
        credits = read_credits(self._photos, [path.name for path in paths])
        if credits.problems:
            raise combined(credits.problems)
        for line in credits.notices:
            on_event(Notice(line))
        digests = run_all([partial(hash_file, path) for path in paths])
        to_do = [
            (path, digest)
            for path, digest in zip(paths, digests, strict=True)
            if not self.folder.done(path.name, self._fingerprint(digest))
        ]
        before, total = len(paths) - len(to_do), len(paths)
        on_event(Progress("cutouts", before, total))
        provider, failure = None, None
        if to_do:
            networks = self._networks(to_do[0][0], execution)
            provider = networks[0].provider
            for line in dict.fromkeys(line for network in networks for line in network.notices):
                on_event(Notice(line))
            jobs = [
                partial(self._cut, networks, path, digest, credits.by_name.get(path.name, Credit()))
                for path, digest in to_do
            ]
            try:
                run_all(jobs, lambda done, _: on_event(Progress("cutouts", before + done, total)))
            except SourceError as exc:
                failure = exc
        for line in self._remarks.lines():
            on_event(Notice(line))
        cutouts = self.folder.arrange()
        write_picture(review(self.folder, cutouts), self.folder.path / REVIEW)
        if failure is not None:
            failure.add_note("The others are cut out: run the same command again for what is named here.")
            raise failure
        return self._report(cutouts, provider, total, len(to_do))

    def _networks(self, first: Path, execution: Execution) -> list[CutoutNetwork]:
        try:
            width, height = read_header(first, self._reading).size
        except SourceError:  # it has its own error, later
            width = height = 1024
        return [CutoutNetwork(model, execution, (height, width)) for model in self._models]

    def _fingerprint(self, digest: str) -> dict[str, Any]:
        return {
            "photo": digest,
            "models": [[model.sha256, model.card.document] for model in self._models],
            "split": self._split,
            "reading": asdict(self._reading),
            "method": _METHOD,
        }

    def _cut(self, networks: list[CutoutNetwork], path: Path, digest: str, credit: Credit) -> None:
        if self._failed.is_set():
            return
        try:
            with decoding():
                picture = read_picture(path, digest, self._reading)
                take_pixels(picture.rgb.width, picture.rgb.height * _WORK)
                alphas = [network.alpha(picture.rgb) for network in networks]
                made = list(self._cutouts(path, credit, np.asarray(picture.rgb), *alphas))
        except DepthModelError:
            self._failed.set()
            raise
        self._remarks.add(path, picture.remarks)
        self.folder.write(path.name, self._fingerprint(digest), made)

    def _cutouts(
        self,
        path: Path,
        credit: Credit,
        rgb: NDArray[np.uint8],
        alpha: NDArray[np.uint8],
        second: NDArray[np.uint8] | None = None,
    ) -> Iterator[tuple[Cutout, bytes, bytes]]:
        if second is not None:
            alpha = confirmed(alpha, second)
        parts = parts_of(alpha, split=self._split)
        if not parts:
            yield Cutout(None, path.name, credit, None, None), b"", b""
        for number, part in enumerate(parts, 1):
            name = f"{path.stem}-{number}.png" if self._split else f"{path.stem}.png"
            box = box_of(part.alpha)
            theirs = _around(part, box, alpha, second) if self._split and second is not None else second
            quality = measure(rgb, part, is_split=self._split, second=theirs)
            left, top, right, bottom = box
            picture = _cropped(rgb, part, box)
            mask = Image.fromarray(np.ascontiguousarray(part.alpha[top:bottom, left:right]))
            yield Cutout(name, path.name, credit, quality, box), _png(picture), _png(mask)

    def _report(self, cutouts: list[Cutout], provider: str | None, photos: int, done: int) -> CutoutReport:
        path = self.folder.path
        flags = Counter(flag for cutout in cutouts for flag in cutout.flags)
        return CutoutReport(
            str(path),
            str(path / FOREGROUNDS),
            str(path / TABLE),
            str(path / REVIEW),
            self._models[0].name,
            self._models[1].name if len(self._models) > 1 else None,
            provider,
            photos,
            done,
            sum(cutout.file is not None for cutout in cutouts),
            sum(self.folder.is_used(cutout) for cutout in cutouts),
            sum(bool(cutout.flags) for cutout in cutouts),
            dict(sorted(flags.items())),
        )


def _around(
    part: Part, box: tuple[int, int, int, int], alpha: NDArray[np.uint8], second: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """What a second network finds in the box of a part, and is not of another part."""
    left, top, right, bottom = box
    inner = np.s_[top:bottom, left:right]
    theirs = np.zeros_like(second)
    theirs[inner] = np.where((alpha[inner] > 0) & (part.alpha[inner] == 0), 0, second[inner])
    return theirs


def _cropped(rgb: NDArray[np.uint8], part: Part, box: tuple[int, int, int, int]) -> Image.Image:
    """The cut-out, mode RGBA: what is in the box of the photograph, in the foreground's own colours."""
    left, top, right, bottom = box
    length = max(part.alpha.shape)
    reach = reach_of(length)
    above, before = max(0, top - reach), max(0, left - reach)
    around = np.s_[above : bottom + reach, before : right + reach]
    colours = foreground_colour(rgb[around], part.alpha[around], length)
    inner = np.s_[top - above : bottom - above, left - before : right - before]
    return Image.fromarray(np.dstack([colours[inner], part.alpha[top:bottom, left:right]]))


def _png(picture: Image.Image) -> bytes:
    content = io.BytesIO()
    picture.save(content, "PNG")
    return content.getvalue()
