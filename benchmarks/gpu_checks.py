"""Whether the device gives the CPU's depth, whatever the batch, and leaves nothing to the CPU."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from gpu_networks import encoder_decoder, tiny
from gpu_report import Report, Settings, verdict

from fgbgpack.depth import BackgroundDepth, DepthModel, DepthSession, Execution, load_model
from fgbgpack.depth.card import Quantity
from fgbgpack.depth.providers import PROVIDERS, cpu_fallbacks
from fgbgpack.errors import DepthModelError
from fgbgpack.spec import GUIDED_MODEL, SCENE_MODEL

#: How far depth may be from the CPU's in float32, as a part of its range. Depth is stored in float16: where a
#: last bit falls the other way, values differ by up to 2**-10 of themselves. float32 alone differs by about
#: 1e-6, and whatever is wrong (an axis, a colour, a size, another sample) by a hundred times more than this.
FP32 = 1e-3
#: The same for networks in float16, whose products keep 11 bits and whose sums add to that.
FP16 = 1e-2
#: Where the network is given bytes and they are resized, one of 255 levels may be rounded the other way.
ROUNDED_INPUT = 5e-3

PRECISIONS = ("fp32", "fp16")
THREADS = 8
BACKGROUNDS = 3
INVERSE, METRES, RELATIVE = Quantity("inverse_depth", None), Quantity("depth", "m"), Quantity("depth", None)


@dataclass(frozen=True)
class Case:
    """A network, and how it is used: ``background`` is what the depth of backgrounds means, for a guided one.
    A ``scene`` is seen as SceneDepth sees it: one picture and its mirror image, at a scale.
    """

    name: str
    make: Callable[[Path], Path | str]
    size: tuple[int, int] = (24, 40)
    scale: int = 1
    background: Quantity | None = None
    fp32: float = FP32
    scene: bool = False
    #: Tried on TensorRT too where that is not the device itself; it takes long to open.
    on_tensorrt: bool = False


def made(name: str, *, case: Mapping[str, Any] | None = None, **options: Any) -> Case:
    """A case of a tiny network."""
    file = name.lower().translate(str.maketrans({" ": "-", ",": None}))
    return Case(name, lambda folder: tiny(folder / f"{file}.onnx", **options), **(case or {}))


BOTH_GUIDES = ("mask", "background_depth")
OF_FOREGROUND = {"of": "foreground"}

CASES = (
    made("free size"),
    made("NHWC, BGR, mean and std", layout="NHWC", axes="NHW1",
         input={"channels": "BGR", "mean": [0.5, 0.4, 0.3], "std": [0.3, 0.25, 0.2]}),
    made("a larger size, bilinear", size=(42, 56), axes="NHW"),
    made("a smaller size, bicubic", size=(16, 20), layout="NHWC", input={"filter": "bicubic"}),
    made("another shape, nearest", size=(30, 30), input={"filter": "nearest", "range": [-1, 1]}),
    made("uint8", dtype="uint8"),
    made("uint8, NHWC, resized", dtype="uint8", layout="NHWC", size=(32, 60), case={"fp32": ROUNDED_INPUT}),
    made("uint8 with a mask", dtype="uint8", guides=["mask"]),
    made("float16", dtype="float16", case={"fp32": FP16}),
    made("float16, NHWC, BGR, resized", dtype="float16", layout="NHWC", size=(30, 44), axes="NHW1",
         input={"channels": "BGR"}, case={"fp32": FP16}),
    made("metres by a transform",
         output={"quantity": "depth", "unit": "m",
                 "transform": [{"add": 3}, {"clip": [0.5, 8]}, {"reciprocal_of": 4}, {"multiply": 2}]}),
    made("an answer twice the size", answer="double"),
    made("an answer of half the size", answer="half"),
    made("an answer of another size", answer="half", size=(34, 50)),
    made("a mask", guides=["mask"]),
    made("bound to batches of 1", batch=1, axes="HW"),
    made("bound to batches of 3", batch=3),
    made("scale 2", case={"scale": 2}),
    made("scene, scale 3", case={"scale": 3, "scene": True}),
    made("guided", guides=BOTH_GUIDES, output=OF_FOREGROUND, case={"background": INVERSE}),
    made("guided, metres, resized", guides=BOTH_GUIDES, output=OF_FOREGROUND, size=(30, 44),
         case={"background": METRES}),
    made("guided, NHWC, batches of 3", guides=BOTH_GUIDES, output=OF_FOREGROUND, layout="NHWC", batch=3,
         case={"background": RELATIVE}),
    made("guided, of the picture", guides=BOTH_GUIDES, case={"background": INVERSE}),
    made("guided, no mask", guides=["background_depth"], case={"background": INVERSE}),
    made("guided, float16", guides=BOTH_GUIDES, output=OF_FOREGROUND, dtype="float16",
         case={"background": INVERSE, "fp32": FP16}),
    Case("included: scene", lambda _: SCENE_MODEL, (128, 128), on_tensorrt=True),
    Case("included: scene, scale 2", lambda _: SCENE_MODEL, (128, 128), scale=2, scene=True),
    Case("included: guided", lambda _: GUIDED_MODEL, (128, 128), background=INVERSE, on_tensorrt=True),
    Case("encoder-decoder", lambda folder: encoder_decoder(folder / "encoder-decoder.onnx", 8)[0], (64, 64),
         on_tensorrt=True),
)  # fmt: skip


@dataclass(frozen=True)
class Pictures:
    """What a session is given: ``(n, ...)`` each, ``None`` for what the network does not take."""

    images: Any
    mask: Any
    background: Any

    def depth(self, session: DepthSession, chosen: Any, step: float = 0.0) -> np.ndarray:
        """The depth of some of them, in one call; its extremes must be those that the session tells."""
        images = self.images[chosen]
        out = np.full((len(images), *self.size), np.nan, np.float16)
        guides = {
            name: given[chosen]
            for name, given in (("mask", self.mask), ("background", self.background))
            if given is not None
        }
        minimum, maximum = session.run(images, out, step=step, **guides)
        if not (np.array_equal(minimum, out.min((1, 2))) and np.array_equal(maximum, out.max((1, 2)))):
            raise RuntimeError("the session tells other extremes than its depth has")
        return out

    size: tuple[int, int] = (0, 0)

    @classmethod
    def random(cls, model: DepthModel, count: int, size: tuple[int, int], scale: int, scene: bool) -> Any:
        """Ramps and noise; masks of an ellipse with a soft border, each elsewhere."""
        rng = np.random.default_rng(3)
        height, width = size[0] * scale, size[1] * scale
        y, x = np.mgrid[:height, :width]
        slope = rng.normal(size=(count, 2, 3)) * 255
        ramps = (
            y[..., None] / height * slope[:, None, None, 0] + x[..., None] / width * slope[:, None, None, 1]
        )
        noisy = ramps + rng.integers(0, 256, (count, 1, 1, 3)) + rng.integers(-40, 40, (1, height, width, 3))
        images = np.clip(noisy, 0, 255).astype(np.uint8)
        if scene:
            images[1::2] = images[: 2 * (count // 2) : 2, :, ::-1]
        mask = background = None
        if model.card.takes_mask:
            y, x = np.mgrid[: size[0], : size[1]]
            centre = rng.uniform(0.2, 0.8, (2, count, 1, 1))
            distance = np.hypot(4 * (y / size[0] - centre[0]), 6 * (x / size[1] - centre[1]))
            mask = np.clip((1.3 - distance) * 400, 0, 255).astype(np.uint8)
        if model.card.is_guided:
            background = (np.arange(count) // 2 % BACKGROUNDS).astype(np.int32)
        return cls(images, mask, background, size)


def backgrounds_of(size: tuple[int, int], meaning: Quantity) -> BackgroundDepth:
    """Depth of some backgrounds: sloping floors, 1 to 5."""
    y, x = np.mgrid[: size[0], : size[1]]
    slopes = [1 + 3 * y / size[0] + x / size[1] * number / BACKGROUNDS for number in range(BACKGROUNDS)]
    return BackgroundDepth.of(np.stack(slopes).astype(np.float32), meaning)


def open_session(
    model: DepthModel,
    size: tuple[int, int],
    precision: Any,
    device: Any,
    *,
    scale: int = 1,
    meaning: Quantity | None = None,
) -> DepthSession:
    """A session of a network, with backgrounds where it is guided."""
    backgrounds = None if meaning is None else backgrounds_of(size, meaning)
    execution = Execution(precision, device)
    return DepthSession(model, size, scale=scale, execution=execution, backgrounds=backgrounds)


# --- correctness -------------------------------------------------------------------------------------


@dataclass
class Tally:
    """What all networks have in common, by precision."""

    held: Counter[str]
    tried: Counter[str]
    worst: dict[str, float]

    @classmethod
    def empty(cls) -> Tally:
        return cls(Counter(), Counter(), {})

    def add(self, what: str, holds: bool, found: float | None = None) -> None:
        self.tried[what] += 1
        self.held[what] += holds
        if found is not None:
            self.worst[what] = max(found, self.worst.get(what, 0.0))

    def rows(self, report: Report) -> None:
        for what, tried in self.tried.items():
            held = self.held[what]
            measured = f"{held} of {tried}"
            if what in self.worst:
                measured += f", at most {self.worst[what]:.2g}"
            report.row(what, measured, "", verdict(held == tried))


#: The tests run each case by itself; a quick run needs no more than some.
QUICK_STEP = 5


def correctness(settings: Settings, report: Report, *, cases: Sequence[Case] | None = None) -> None:
    """Every kind of network in both precisions, against the CPU in float32."""
    tally = Tally.empty()
    numbers: dict[str, Any] = {}
    if cases is None:
        cases = CASES[::QUICK_STEP] if settings.quick else CASES
    for case in with_own(settings, cases):
        if not report.has_time(f"correctness of {case.name}"):
            continue
        with report.attempt(case.name):
            numbers[case.name] = check_case(case, settings, report, tally)
    tally.rows(report)
    report.number(differences=numbers, worst=tally.worst)


def with_own(settings: Settings, cases: Sequence[Case]) -> Iterator[Case]:
    """The cases, and that of the network that was given."""
    yield from cases
    if settings.network is not None:
        network = str(settings.network)
        meaning = INVERSE if load_model(network).card.is_guided else None
        yield Case(f"own: {settings.network.stem}", lambda _: network, (128, 128), background=meaning)


def check_case(case: Case, settings: Settings, report: Report, tally: Tally) -> dict[str, Any]:
    """All checks of one network; returns its largest differences."""
    model = load_model(case.make(settings.folder / "networks"))
    start = partial(open_session, model, case.size, scale=case.scale, meaning=case.background)
    reference = start("fp32", "cpu")
    found: dict[str, Any] = {}
    cells, bounds, held = [], [], []
    for precision in PRECISIONS:
        base = case.fp32 if precision == "fp32" else FP16
        name = f"{case.name}, {precision}"
        try:
            session = start(precision, settings.device)
        except DepthModelError as exc:
            if exc.code != "precision-unsupported":
                raise
            report.skip(name, exc.message)
            continue
        checks = _Checks(name, case, model, session, reference, report, tally)
        found[precision] = checks.run(settings.device, base)
        held.append(checks.held)
        cells.append(f"{found[precision]['to the CPU']:.0e} {precision}")
        bounds.append(f"{found[precision]['allowed']:.1e}")
    report.row(case.name, ", ".join(cells), f"<= {', '.join(bounds)}", verdict(*held))
    return found


class _Checks:
    """The checks of one session."""

    def __init__(
        self,
        name: str,
        case: Case,
        model: DepthModel,
        session: DepthSession,
        reference: DepthSession,
        report: Report,
        tally: Tally,
    ) -> None:
        self._name, self._case, self._session = name, case, session
        self._reference, self._report, self._tally = reference, report, tally
        batch = session.batch_size
        # No multiple of the batch, and more than one; a scene is a picture and its mirror image.
        self._count = 2 if case.scene else max(5, batch + batch // 2 + 1)
        self._pictures = Pictures.random(model, self._count, case.size, case.scale, case.scene)
        self._counts = sorted({1, 2, min(batch, self._count), self._count})
        self.held = True

    def run(self, device: str, base: float) -> dict[str, Any]:
        session, pictures, whole = self._session, self._pictures, np.arange(self._count)
        self._add("runs on the device", *provider_is(session, device))
        if device != "cpu":
            self._add("leaves no node to the CPU", *nothing_on_cpu(session, strict="own:" not in self._name))
        with ThreadPoolExecutor() as pool:  # a CPU session stays in the thread that calls it
            parts = np.array_split(whole, min(self._count, 2 * (os.cpu_count() or 1)))
            expected = np.concatenate(list(pool.map(partial(pictures.depth, self._reference), parts)))
        allowed = tolerance(expected, base)
        answers = {count: pictures.depth(session, whole[:count]) for count in self._counts}
        answer = answers[self._count]
        to_cpu = max(difference(found, expected[:count], expected) for count, found in answers.items())
        self._add("has the CPU's depth", to_cpu <= allowed, f"{to_cpu:.2e} of the range, <= {allowed:.1e}")

        others = [difference(found, answer[:count], expected) for count, found in answers.items()]
        backwards = pictures.depth(session, whole[::-1])[::-1]
        others.append(difference(backwards, answer, expected))
        apart = max(others)
        # On the CPU no result depends on the batch, on GPUs its last bits may.
        bound = 0.0 if session.provider == PROVIDERS["cpu"] else allowed
        what = f"{self._name.rpartition(', ')[2]}: the same in other batches"
        self._add("is the same in other batches", apart <= bound, f"{apart:.2e} of the range", what, apart)

        again = pictures.depth(session, whole)
        self._add("has equal bytes when it runs again", _same_bytes(again, answer), "other bytes")
        with ThreadPoolExecutor(THREADS) as pool:
            many = list(pool.map(partial(pictures.depth, session), [whole] * THREADS))
        same = sum(_same_bytes(one, answer) for one in many)
        self._add(f"is the same on {THREADS} threads", same == THREADS, f"{same} of {THREADS}")
        self._check_step(answer, expected)
        return {
            "to the CPU": to_cpu,
            "allowed": allowed,
            "in other batches": apart,
            "batch size": session.batch_size,
            "pictures": self._count,
            "notices": list(session.notices),
        }

    def _check_step(self, answer: np.ndarray, expected: np.ndarray) -> None:
        """Rounded to a grid of 2**-6 of the range or so."""
        step = 2.0 ** np.floor(np.log2(float(np.ptp(expected.astype(np.float64))) / 64))
        rounded = self._pictures.depth(self._session, np.arange(self._count), step).astype(np.float64)
        is_small = np.abs(rounded) <= 2048 * step  # float16 holds larger ones at its own spacing only
        off = np.abs(rounded - answer).max()
        allowed = step / 2 + np.spacing(np.abs(answer).max())
        on_grid = (np.remainder(rounded, step)[is_small] == 0).all()
        self._add("is rounded to the grid", on_grid and off <= allowed, f"off by {off / step:.2f} steps")

    def _add(
        self, what: str, holds: Any, found: str, row: str | None = None, worst: float | None = None
    ) -> None:
        held = self._report.check(f"{self._name}: {what}", holds, found)
        self.held = self.held and held
        if what != "has the CPU's depth":
            self._tally.add(row or what, held, worst)


def provider_is(session: DepthSession, device: str) -> tuple[bool, str]:
    """Whether the session, and the one of ONNX Runtime in it, run on that device; and on what they do."""
    told, actual = session.provider, session._session.get_providers()[0]
    return told == actual == PROVIDERS[device], f"{told}, {actual}"


def nothing_on_cpu(session: DepthSession, *, strict: bool) -> tuple[bool, str]:
    """Whether no node of the network is assigned to the CPU, and which are. Sizes are fixed and the networks
    here need no shapes, so none may be there; of other networks, shape arithmetic may.
    """
    if not hasattr(session._session, "get_provider_graph_assignment_info"):
        return False, "this version of ONNX Runtime does not tell"
    nodes = [
        (part.ep_name, node.op_type)
        for part in session._session.get_provider_graph_assignment_info()
        for node in part.get_nodes()
    ]
    on_cpu = Counter(operator for name, operator in nodes if name == PROVIDERS["cpu"])
    if not strict:
        return cpu_fallbacks(session._session, session.provider) is None, f"{dict(on_cpu)}"
    return bool(nodes) and not on_cpu, f"{dict(on_cpu)} of {len(nodes)} nodes"


def difference(found: np.ndarray, expected: np.ndarray, of: np.ndarray) -> float:
    """The largest difference between two depths, as a part of the range of a third; NaN if there is one."""
    high = of.astype(np.float64)
    return float(np.abs(found.astype(np.float64) - expected).max() / (high.max() - high.min()))


def tolerance(expected: np.ndarray, base: float) -> float:
    """The part of the range that may be missed: at least what one last bit of float16 is of it."""
    values = expected.astype(np.float64)
    return max(base, float(np.spacing(np.abs(expected).max())) / float(np.ptp(values)))


def _same_bytes(one: np.ndarray, other: np.ndarray) -> bool:
    return one.tobytes() == other.tobytes()


# --- kernels that run --------------------------------------------------------------------------------


@contextmanager
def sessions_are(kind: type) -> Iterator[None]:
    """Sessions of ONNX Runtime that are opened meanwhile are of another class, which derives from its own."""
    original = onnxruntime.InferenceSession
    onnxruntime.InferenceSession = kind
    try:
        yield
    finally:
        onnxruntime.InferenceSession = original


def profiling_to(folder: Path) -> type:
    """A class of sessions that write profiles to a folder."""

    class Profiled(onnxruntime.InferenceSession):
        def __init__(self, model: Any, options: Any = None, *args: Any, **kwargs: Any) -> None:
            options.enable_profiling = True
            options.profile_file_prefix = str(folder / "profile")
            super().__init__(model, options, *args, **kwargs)

    return Profiled


def kernels(settings: Settings, report: Report, *, names: Sequence[str] | None = None) -> None:
    """Which kernels really run: assignments do not tell."""
    chosen = names or ("included: scene", "included: guided", "encoder-decoder")
    cases = {case.name: case for case in with_own(settings, CASES)}
    for case in (case for name, case in cases.items() if name in chosen or name.startswith("own:")):
        for precision in PRECISIONS:
            name = f"{case.name}, {precision}"
            if not report.has_time(f"kernels of {name}"):
                continue
            with report.attempt(f"kernels of {name}"):
                model = load_model(case.make(settings.folder / "networks"))
                start = partial(open_session, scale=case.scale, meaning=case.background)
                with sessions_are(profiling_to(settings.folder)):
                    session = start(model, case.size, precision, settings.device)
                pictures = Pictures.random(model, session.batch_size, case.size, case.scale, False)
                pictures.depth(session, np.arange(session.batch_size))
                events = json.loads(Path(session._session.end_profiling()).read_text(encoding="utf-8"))
                check_kernels(name, events, settings.device, report)


def check_kernels(name: str, events: Sequence[Mapping[str, Any]], device: str, report: Report) -> None:
    """That all kernels in a profile of ONNX Runtime are the device's, and that none copies to the host."""
    ran = {
        (event["name"], event["args"]["op_name"], event["args"]["provider"])
        for event in events
        if event.get("cat") == "Node" and event.get("args", {}).get("provider")
    }
    providers = Counter(provider for _, _, provider in ran)
    copies = Counter(operator for _, operator, _ in ran if operator.startswith("Memcpy"))
    allowed = {PROVIDERS[device]} | ({PROVIDERS["cuda"]} if device == "tensorrt" else set())
    elsewhere = sorted({operator for _, operator, provider in ran if provider not in allowed})
    found = ", ".join(f"{count} {provider}" for provider, count in providers.most_common()) or "no kernels"
    held = report.check(
        f"{name}: all kernels are the device's", ran and not elsewhere, f"{found}: {elsewhere}"
    )
    if device != "cpu":
        held &= report.check(f"{name}: no kernel copies to the host", not copies, f"{dict(copies)}")
    report.number(**{f"kernels of {name}": {"providers": providers, "copies": copies}})
    row = f"{copies.total()} copy nodes" if copies or device != "cpu" else ""
    ours = sum(providers[provider] for provider in allowed)
    report.row(f"kernels: {name}", f"{ours} of {providers.total()} on {device}", row, verdict(held))


# --- TensorRT ----------------------------------------------------------------------------------------


def tensorrt(settings: Settings, report: Report) -> None:
    """Some networks on TensorRT beside CUDA, where its libraries load."""
    small = Settings("tensorrt", settings.folder, settings.deadline, settings.quick)
    if settings.device != "cuda":
        return
    case = CASES[0]
    try:
        open_session(load_model(case.make(settings.folder / "networks")), case.size, "fp32", "tensorrt")
    except DepthModelError as exc:
        if exc.code != "device-unavailable":
            raise
        reason = exc.problems[0] if exc.problems else exc.message
        report.skip("TensorRT", reason)
        report.row("TensorRT", "not here", "", "skipped")
        return
    correctness(small, report, cases=[case for case in CASES if case.on_tensorrt])
