"""What the server answers: the page, its files, and what it asks of the datasets."""

from __future__ import annotations

import asyncio
import io
import secrets
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from fgbgpack.errors import DatasetError, FgbgError, SpecError
from fgbgpack.viewer.collection import SHEET_COLUMNS, Collection
from fgbgpack.viewer.comparison import Difference, Pair, as_picture
from fgbgpack.viewer.guard import Guard, parameters_of
from fgbgpack.viewer.layers import (
    LAYERS,
    Picture,
    depth_palette,
    difference_palette,
    reduced,
    sheet,
    tile_size,
)
from fgbgpack.viewer.query import Query, choice, whole

_KINDS = {
    "html": "text/html",
    "css": "text/css",
    "js": "text/javascript",
    "svg": "image/svg+xml",
}
#: Requests that are answered at a time, in threads: reading and drawing let go of the interpreter.
_THREADS = 4
#: The most samples of one sheet, the least and the largest side of a tile, and the most pixels of a sheet.
_MOST_TILES, _LEAST_CELL, _MOST_CELL, _MOST_PIXELS = 128, 16, 1024, 24_000_000
#: More samples than any dataset has.
_MOST_SAMPLES = 10**12
#: Seconds that an answer waits for a search: for news of it, and for what cannot be said before it is over.
_NEWS, _OVER = 0.25, 20.0
#: Samples of a list of numbers that are written at a time.
_LISTED = 1 << 16

_NEVER_KEPT = {"Cache-Control": "no-store"}

Parameters = Mapping[str, str]


class App:
    """Answers requests about one dataset, or two, as an ASGI application; ``failed`` is told of bugs."""

    def __init__(
        self,
        collections: tuple[Collection, ...],
        guard: Guard,
        failed: Callable[[BaseException], None],
    ) -> None:
        self._failed = failed
        self._threads = asyncio.Semaphore(_THREADS)
        self._collections, self._guard = collections, guard
        self._pair = Pair(*(one.dataset for one in collections)) if len(collections) == 2 else None
        # What browsers keep is of this run: the next one may show another dataset at the same address.
        self._run = secrets.token_hex(4)
        self._answers: Mapping[str, Callable[[Parameters], Response]] = {
            "/api/datasets": self._datasets,
            "/api/statistics": self._statistics,
            "/api/search": self._search,
            "/api/rows": self._rows,
            "/api/sheet": self._sheet,
            "/api/scale": self._scale,
            "/api/colours": self._colours,
            "/api/sample": self._sample,
            "/api/plane": self._plane,
            "/api/values": self._values,
            "/api/difference": self._difference,
            "/api/numbers": self._numbers,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request: with a status from 400 to 499 where it is the client's fault."""
        request = Request(scope, receive)
        try:
            response = await self._answer(request)
        except HTTPException as refusal:
            response = _refusal(refusal.status_code, refusal.detail, refusal.headers)
        except DatasetError as error:
            response = _refusal(409, str(error))
        except FgbgError as error:
            response = _refusal(400, str(error))
        except Exception as error:
            self._failed(error)
            response = _refusal(500, "This is a bug: the terminal of fgbgpack view shows more.")
        try:
            await response(scope, receive, send)
        except Exception as error:
            # Of an answer in parts; uvicorn ends its connection.
            self._failed(error)
            raise

    async def _answer(self, request: Request) -> Response:
        parameters, path = parameters_of(request), request.scope["path"]
        if (admitted := self._guard.admit(request, parameters)) is not None:
            return admitted
        if path in self._answers:
            async with self._threads:
                if await request.is_disconnected():
                    # Nobody waits for it any more, as when a page is scrolled.
                    return Response(status_code=204)
                return await run_in_threadpool(self._answers[path], parameters)
        found = _files().get("index.html" if path == "/" else path.removeprefix("/static/"))
        if found is None:
            raise HTTPException(404, "There is nothing here.")
        return found

    # --- what is asked of datasets -----------------------------------------------------------------

    def _collection(self, parameters: Parameters) -> Collection:
        return self._collections[whole(parameters, "d", 0, len(self._collections) - 1, 0)]

    def _number(self, parameters: Parameters) -> int:
        return whole(parameters, "i", 0, len(self._collection(parameters).dataset) - 1)

    def _datasets(self, parameters: Parameters) -> Response:
        found: dict[str, Any] = {
            "run": self._run,
            "datasets": [one.describe() for one in self._collections],
            "pair": None,
        }
        if (pair := self._pair) is not None:
            found["pair"] = {
                "same_recipe": pair.is_same_recipe,
                "problem": pair.problem,
                "layers": list(pair.layers),
                "samples": pair.count,
            }
        return _json(found)

    def _statistics(self, parameters: Parameters) -> Response:
        return _json(self._collection(parameters).statistics())

    def _search(self, parameters: Parameters) -> Response:
        collection, query = self._collection(parameters), Query.of(parameters)
        wants_counts = choice(parameters, "counts", ("0", "1")) == "1"
        if query.is_all and not wants_counts:
            return _json({"done": 1.0, "found": len(collection.dataset), "counts": None})
        search = collection.searches.search(query, counting=wants_counts)
        is_over = search.wait(_NEWS)
        counts = search.counts.to_dict() if is_over and wants_counts else None
        return _json({"done": search.done, "found": search.found, "counts": counts})

    def _samples(self, parameters: Parameters) -> NDArray[np.int64]:
        """The samples at some places of a query."""
        shown = self._collection(parameters)
        # What is found in one dataset can be shown of the other.
        found_in = self._collections[whole(parameters, "by", 0, len(self._collections) - 1, 0)]
        start = whole(parameters, "from", 0, _MOST_SAMPLES)
        count = whole(parameters, "count", 1, _MOST_TILES)
        found = found_in.searches.samples(Query.of(parameters), range(start, start + count), _OVER)
        if found is None:
            raise HTTPException(409, "The samples are still being searched.")
        if len(found) and found.max() >= len(shown.dataset):
            raise HTTPException(404, f"There are only {len(shown.dataset):,} samples.")
        return found

    def _rows(self, parameters: Parameters) -> Response:
        samples = self._samples(parameters)
        boxes = choice(parameters, "boxes", ("0", "1")) == "1"
        return self._kept(
            _json({"rows": self._collection(parameters).rows(samples, boxes=boxes)}), parameters
        )

    def _sheet(self, parameters: Parameters) -> Response:
        collection = self._collection(parameters)
        cell = whole(parameters, "cell", _LEAST_CELL, _MOST_CELL, 128)
        layer = choice(parameters, "layer", (*LAYERS, "difference"))
        samples = self._samples(parameters)
        size = tile_size(collection.dataset.height, collection.dataset.width, cell)
        if not len(samples) or len(samples) * size[0] * size[1] > _MOST_PIXELS:
            raise HTTPException(400, "There are no such samples, or too many for one picture.")
        if layer == "difference":
            numbers, colours = self._differing(samples, parameters).picture_pixels()
            tiles = reduced(numbers, size, smooth=False)
            picture = Picture(sheet(tiles, min(SHEET_COLUMNS, len(samples))), colours)
        else:
            picture = collection.sheet(layer, samples, cell, one_scale=_one_scale(parameters))
        return self._kept(_picture(picture, exact=False), parameters)

    def _scale(self, parameters: Parameters) -> Response:
        """The values of the first and the last colour of depth: of one sample, or of all."""
        collection = self._collection(parameters)
        scale = collection.scale_of(self._number(parameters)) if "i" in parameters else collection.scale
        limits = None if scale is None or scale.low != scale.low else [scale.low, scale.high]
        return _json({"limits": limits, "larger_is_nearer": scale is not None and scale.larger_is_nearer})

    def _colours(self, parameters: Parameters) -> Response:
        """The colours of depth, far to near, or of differences, less to more, as a picture of one row."""
        of = choice(parameters, "of", ("depth", "difference"))
        palette = depth_palette() if of == "depth" else difference_palette()
        return self._kept(
            _picture(Picture(np.arange(1, 256, dtype=np.uint8)[None], palette), exact=True), parameters
        )

    def _sample(self, parameters: Parameters) -> Response:
        return _json(self._collection(parameters).sample(self._number(parameters)))

    def _plane(self, parameters: Parameters) -> Response:
        number = self._number(parameters)
        layer = choice(parameters, "layer", (*LAYERS, "difference"))
        if layer == "difference":
            picture = as_picture(self._differing(np.array([number]), parameters))
        else:
            picture = self._collection(parameters).plane(layer, number, one_scale=_one_scale(parameters))
        return self._kept(_picture(picture, exact=True), parameters)

    def _values(self, parameters: Parameters) -> Response:
        collection, number = self._collection(parameters), self._number(parameters)
        row, column = whole(parameters, "row", 0, 1 << 20), whole(parameters, "column", 0, 1 << 20)
        found = Response(collection.values(number, row, column), media_type="application/octet-stream")
        return self._kept(found, parameters)

    def _difference(self, parameters: Parameters) -> Response:
        number = self._number(parameters)
        return _json(self._differing(np.array([number]), parameters).to_dict())

    def _numbers(self, parameters: Parameters) -> Response:
        """The numbers of samples of a query, in its order, as a file: text, or an array for NumPy."""
        collection, query = self._collection(parameters), Query.of(parameters)
        form = choice(parameters, "form", ("npy", "txt"))
        found = collection.searches.count(query, _OVER)
        if found is None:
            raise HTTPException(409, "The samples are still being searched.")
        first = whole(parameters, "from", 0, _MOST_SAMPLES, 0)
        count = min(max(0, found - first), whole(parameters, "count", 0, _MOST_SAMPLES, found))

        def parts() -> Iterator[bytes]:
            if form == "npy":
                head = io.BytesIO()
                shape = {"descr": "<i8", "fortran_order": False, "shape": (count,)}
                np.lib.format.write_array_header_1_0(head, shape)
                yield head.getvalue()
            for start in range(first, first + count, _LISTED):
                places = range(start, min(start + _LISTED, first + count))
                some = collection.searches.samples(query, places, _OVER)
                if some is None:
                    raise HTTPException(409, "The samples are still being searched.")
                text = "".join(f"{number}\n" for number in some.tolist()).encode()
                yield some.astype("<i8").tobytes() if form == "npy" else text

        fields = {"Content-Disposition": f'attachment; filename="samples.{form}"'} | _NEVER_KEPT
        kind = "application/octet-stream" if form == "npy" else "text/plain"
        return StreamingResponse(parts(), headers=fields, media_type=kind)

    def _differing(self, samples: NDArray[np.int64], parameters: Parameters) -> Difference:
        """How the layer ``of`` of some samples differs; of depth, colours span as much as they do in depth
        itself.
        """
        of = choice(parameters, "of", ("image", "mask", "depth"))
        if self._pair is None:
            raise SpecError("There is one dataset, and nothing to compare it with.", code="view-invalid")
        scale = self._collections[0].scale
        limit = (scale.high - scale.low) / 2 if scale is not None and _one_scale(parameters) else None
        return self._pair.difference(of, samples, limit)

    def _kept(self, response: Response, parameters: Parameters) -> Response:
        """What browsers may keep while this server runs; of what is still being written nothing."""
        is_fixed = (
            all(one.dataset.complete for one in self._collections) and parameters.get("run") == self._run
        )
        response.headers["Cache-Control"] = "private, max-age=86400, immutable" if is_fixed else "no-store"
        return response


def _one_scale(parameters: Parameters) -> bool:
    return choice(parameters, "scale", ("one", "own")) == "one"


def _json(document: Any) -> Response:
    return JSONResponse(document, headers=_NEVER_KEPT)


def _refusal(status: int, why: str, fields: Mapping[str, str] | None = None) -> Response:
    return JSONResponse({"error": why}, status, _NEVER_KEPT | dict(fields or {}))


def _picture(picture: Picture, *, exact: bool) -> Response:
    body, kind = picture.encoded(exact=exact)
    return Response(body, media_type=kind)


@cache
def _files() -> Mapping[str, Response]:
    """The files of the page, by name: what is not among them is not there."""
    folder = resources.files("fgbgpack.viewer") / "static"
    return {
        file.name: Response(
            file.read_bytes(),
            headers={"Cache-Control": "no-cache"},
            media_type=_KINDS[file.name.rpartition(".")[2]],
        )
        for file in folder.iterdir()
        if file.name.rpartition(".")[2] in _KINDS
    }
