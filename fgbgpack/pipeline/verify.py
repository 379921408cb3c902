"""Verify a dataset: read all of it, and compare it with its manifest, its recipe and its networks."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fgbgpack.depth import Device
from fgbgpack.document import DEPTH, VERIFIED, Document
from fgbgpack.errors import DatasetError, IncompleteDatasetError
from fgbgpack.files import why
from fgbgpack.pipeline.events import OnEvent, Reporting, reporting, silent
from fgbgpack.pipeline.executor import Engine, Threads
from fgbgpack.pipeline.faults import CHANGES, Fault
from fgbgpack.pipeline.inspection import ArrayCounts, Inspection
from fgbgpack.pipeline.recorded_depth import choose, infer_again, network_depth, recorded_job, stored_samples
from fgbgpack.pipeline.run import Result, Run
from fgbgpack.pipeline.staging import staged_as_changed
from fgbgpack.pipeline.workers import engine_of
from fgbgpack.sources.decoding import hash_file
from fgbgpack.sources.names import counted
from fgbgpack.storage.hdf5 import is_hdf5
from fgbgpack.storage.store import DatasetStore
from fgbgpack.storage.targets import Target, located, writable
from fgbgpack.version import __version__

#: The faults that a report names; the rest is counted.
SHOWN = 20

_OF_PICTURES = {"source-missing", "source-differs"}


@dataclass(frozen=True)
class Verification(Result):
    """What verifying a dataset of ``samples`` at ``path`` found, in ``seconds``.

    Attributes:
        sound: Whether nothing is wrong with what is there.
        complete: Whether all is there that the dataset is to have.
        virtual: Whether image and mask are not stored.
        arrays: What was looked at of each array.
        recomposed: Samples whose stored pixels were compared with those of the recipe.
        placed: Samples whose placements were compared with those of the recipe.
        depth_inferred: Samples whose depth the networks gave again.
        pictures: Files of sources that were compared with those in folders.
        faults: The first faults.
        fault_count: How many there are in all: one for each object and kind of error.
        accepted: Whether what is stored was taken as right.
        changed: If so, the objects that had been changed, by the paths of their arrays.
        recorded: Whether the dataset now says that it was verified.
    """

    sound: bool
    complete: bool
    virtual: bool
    arrays: Mapping[str, ArrayCounts]
    recomposed: int
    placed: int
    depth_inferred: int
    pictures: int
    faults: tuple[Fault, ...]
    fault_count: int
    accepted: bool
    changed: Mapping[str, int]
    recorded: bool

    def check(self) -> None:
        """Raise DatasetError (``dataset-damaged``) if the dataset is not sound, and IncompleteDatasetError if
        it is not complete.
        """
        if not self.sound:
            count = counted(self.fault_count, "fault")
            codes = {fault.code for fault in self.faults}
            advice = [
                *(["Mend it with fgbgpack repair."] * bool(codes - _OF_PICTURES)),
                *(["If you have changed it on purpose: fgbgpack verify --accept."] * (codes <= CHANGES)),
            ]
            raise DatasetError(
                " ".join([f"{self.path} is not sound: {count}.", *advice]), code="dataset-damaged"
            )
        if not self.complete:
            raise IncompleteDatasetError(
                f"{self.path} is not complete, but what is there is sound: run the command that makes it to "
                "finish it."
            )


def verify(
    dataset: Target,
    *,
    against: Sequence[str | Path] = (),
    depth: int = 0,
    seed: int = 0,
    device: Device = "auto",
    workers: int | None = None,
    executor: Executor | None = None,
    accept: bool = False,
    record: bool = False,
    storage_options: Mapping[str, Any] | None = None,
    on_event: Reporting = silent,
) -> Verification:
    """Read all of a dataset, and find what is wrong with it. Nothing is written unless that is asked for.

    Every chunk of every array is decoded and compared with the manifest; extremes with the depth; placements
    with the recipe; stored pixels with the composites of it. Of a dataset that is not complete, what is there
    is verified.

    Args:
        dataset: A local folder, an HDF5 file, a URL that fsspec opens, or a Zarr store.
        against: Folders in which the original pictures are, whose digests are compared by name.
        depth: So many samples, chosen at random, have their depth inferred again by the networks that the
            document names.
        seed: What that choice depends on.
        device: What runs the networks: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"tensorrt"``.
        workers: Threads; ``None`` takes one for each processor.
        executor: What runs the work in place of threads, as for :func:`create`.
        accept: Take what is stored as right, if it is whole: the dataset gets a new manifest. For arrays that
            another tool has changed.
        record: If it is sound and complete, say so in an attribute of the root group, beside the document.
        storage_options: What obstore or fsspec opens a URL with, such as ``{"region": "eu-west-1"}``, beside
            the environment; see :func:`fgbgpack.open_dataset`.
        on_event: Called in this thread with progress and notices; ``"progress"`` shows them.

    Returns:
        What was found, sound or not.

    Raises:
        SpecError: No network can give the depth again.
        DepthModelError: A network, or a device, that cannot be used.
        RecipeMismatchError: The networks are not those that filled the depth.
        DatasetError: There is no dataset, or the store cannot be read or, to accept or record, written.

    Example:
        >>> from fgbgpack.pipeline import verify
        >>> verify("lobby.zarr").sound  # doctest: +SKIP
        True
    """
    dataset = located(dataset, storage_options)
    engine = engine_of(workers, executor)
    is_file = accept and is_hdf5(dataset) and Path(str(dataset)).is_file()
    with reporting(on_event) as notify:
        place = staged_as_changed(Path(str(dataset)), engine, notify) if is_file else nullcontext(dataset)
        with place as opened:
            result, document = _verified(opened, against, depth, seed, device, engine, accept, record, notify)
    if result.recorded:
        _record(DatasetStore.open(dataset, read_only=True), document, result)
    return result


def _verified(
    dataset: Target,
    against: Sequence[str | Path],
    depth: int,
    seed: int,
    device: Device,
    engine: Engine,
    accept: bool,
    record: bool,
    on_event: OnEvent,
) -> tuple[Verification, Document]:
    store = DatasetStore.open(dataset, read_only=not accept)
    run = Run(store, engine, on_event)
    inspection = Inspection(store, engine, on_event)
    document = inspection.document
    if depth:
        network_depth(document, store.name)
    inspection.run()
    inferred = _infer(inspection, depth, seed, device, engine, on_event) if depth else 0
    pictures = _compare_pictures(inspection, [Path(folder) for folder in against], engine.threads)
    faults = inspection.faults()
    changed: Mapping[str, int] = {}
    accepted = accept and not [fault for fault in faults if fault.code not in CHANGES]
    if accepted:
        changed = Counter(array or "document" for array, _ in {(fault.array, fault.key) for fault in faults})
        if faults:
            with run.exclusive():
                store.accept()
    sound = accepted or not faults
    recorded = record and sound and document.complete and not (accepted and faults)
    result = Verification(
        path=run.name,
        samples=document.samples,
        seconds=run.seconds,
        sound=sound,
        complete=document.complete,
        virtual=document.is_virtual,
        arrays=inspection.counts(),
        recomposed=inspection.recomposed,
        placed=0 if inspection.recipe is None else document.samples,
        depth_inferred=inferred,
        pictures=pictures,
        faults=() if accepted else tuple(faults[:SHOWN]),
        fault_count=0 if accepted else len(faults),
        accepted=accepted,
        changed=changed,
        recorded=recorded,
    )
    return result, document


def _record(store: DatasetStore, document: Document, result: Verification) -> None:
    opened = DatasetStore(writable(store.base, store.name), store.name)
    opened.existing_document()
    with opened.exclusive():
        facts = {
            # What is written later makes another generation, of which this says nothing.
            "generation": document.generation,
            "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "samples": result.samples,
            "recomposed": result.recomposed,
            "depth_inferred": result.depth_inferred,
            "pictures": result.pictures,
            "software": {"fgbgpack": __version__},
        }
        opened.add_to_root({VERIFIED: facts})


def _infer(
    inspection: Inspection, count: int, seed: int, device: Device, engine: Engine, on_event: OnEvent
) -> int:
    """Infer the depth of some samples again; how many those are: none where it is damaged already, or is not
    stored.
    """
    store, document = inspection.store, inspection.document
    parts = (DEPTH, *document.depth_sources)
    if DEPTH in document.composed or any(inspection.findings.in_array(path) for path in parts):
        return 0
    samples = inspection.recipe or stored_samples(store, document)
    job = recorded_job(document, samples, device=device, engine=engine, on_event=on_event)
    chosen = choose(document.samples, count, seed)
    layout = inspection.forms[DEPTH].layout
    for sample, line in infer_again(job, store, document, chosen).items():
        inspection.findings.of_sample("depth-differs", DEPTH, layout, sample, f"{line}.")
    return len(chosen)


def _compare_pictures(inspection: Inspection, folders: Sequence[Path], threads: Threads) -> int:
    """Compare the digests of the sources with those of the files of their names; how many there are."""
    sources = inspection.document.sources
    if not folders or sources is None:
        return 0
    wanted = [
        (kind, name, digest)
        for kind, pictures in (("background", sources.backgrounds), ("foreground", sources.foregrounds))
        for source in pictures
        for name, digest in ((source.name, source.sha256), (source.mask_name, source.mask_sha256))
        if name is not None
    ]

    def found(one: tuple[str, str, str | None]) -> set[str]:
        paths = [folder / one[1] for folder in folders]
        try:
            return {hash_file(path) for path in paths if path.is_file()}
        except OSError as exc:
            raise DatasetError(f"{one[1]} cannot be read: {why(exc, one[1])}.", code="io-failed") from exc

    for (kind, name, digest), there in zip(wanted, threads.map(found, wanted), strict=True):
        key = f"{kind}/{name}"
        if not there:
            message = f"The {kind} {name} is in none of the folders."
            inspection.findings.add(Fault("source-missing", "sources", key, message))
        elif digest not in there:
            message = f"The {kind} {name} is not the file that the dataset was made of."
            inspection.findings.add(Fault("source-differs", "sources", key, message))
    return len(wanted)
