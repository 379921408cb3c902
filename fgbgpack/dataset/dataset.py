"""What users hold: an open dataset."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fgbgpack.dataset import kept_stats, selection
from fgbgpack.dataset.epochs import EPOCHS, EpochReader
from fgbgpack.dataset.geometry import Outlines, enclosing, measure_masks, visible_area
from fgbgpack.dataset.listed_split import ListedSplit
from fgbgpack.dataset.measuring import OnSamples, measure
from fgbgpack.dataset.pixel_source import PixelSource
from fgbgpack.dataset.reader import DatasetReader
from fgbgpack.dataset.splits import LABEL, By, Split, is_label
from fgbgpack.dataset.stats import Stats
from fgbgpack.document import DEPTH, IMAGE, OBJECT_FOREGROUND, SOURCE_ARRAYS, VERIFIED
from fgbgpack.errors import DatasetError, IncompleteDatasetError, SpecError
from fgbgpack.options import checked_numbers
from fgbgpack.storage import sealing
from fgbgpack.storage.indices import Index, sample_indices
from fgbgpack.storage.layout import DEFAULT_POLICY, LayoutPolicy
from fgbgpack.storage.reading.cache import DEFAULT_BYTES, ChunkCache
from fgbgpack.storage.store import DatasetStore
from fgbgpack.storage.targets import Target

#: What lists samples, where a part of a split is no fraction.
_LISTS = (list, tuple, range, slice, np.ndarray)


class Dataset(DatasetReader):
    """A dataset that is open for reading; get one with :func:`open_dataset`.

    It may be used from many threads, forked and pickled at any time. Leave it with ``close``, or use it in a
    ``with`` statement. :class:`fgbgpack.dataset.reader.DatasetReader` describes its arguments and attributes.
    """

    # --- which samples -----------------------------------------------------------------------------

    def where(
        self,
        *,
        background: int | str | Sequence[int | str] | None = None,
        foreground: int | str | Sequence[int | str] | None = None,
        flip: bool | None = None,
        replica: int | Sequence[int] | None = None,
        name: str | Sequence[str] | None = None,
        category: int | str | Sequence[int | str] | None = None,
        visible: float | tuple[float, float] | None = None,
        height: float | tuple[float, float] | None = None,
    ) -> NDArray[np.int64]:
        """The samples for which all of this holds, (n,) int64 in ascending order. No picture is read for it.
        Of scenes, all that is said of objects holds for one of them.

        Args:
            background: The number of a background or its name, or several of them, or a truth value for each
                background. A name is that of the file, the same without its ending, or a pattern with ``*``
                and ``?``.
            foreground: The same of foregrounds; of scenes, of any object.
            flip: Whether the foreground is mirrored or, of scenes, any object.
            replica: Which placement of its pair a sample is, or which ones; of scenes, which sample of its
                background.
            category: The category of the foreground or, of scenes and of imported objects, of an object: its
                number in ``categories``, its name, or several.
            visible: Of scenes and, where it is known, of imported objects, the least share of an object that
                is seen, or the least and the greatest.
            height: Of scenes, the least height of an object in pixels, or the least and the greatest.
            name: Of imported samples, which have no sources: one of ``names``, a pattern, or several.

        Raises:
            SpecError: There is no such background, foreground, replica or name, or ``flip`` is no truth
                value; all are named together.
            DatasetError: The dataset was imported, and something else than a name is asked for.

        Example:
            >>> ds.image[ds.where(background="mall-03.jpg", foreground=[1, 2], flip=False)]  # doctest: +SKIP
        """
        asked = {
            "background": background,
            "foreground": foreground,
            "flip": flip,
            "replica": replica,
            "category": category,
            "visible": visible,
            "height": height,
        }
        return selection.where(self, asked, name)

    def split(
        self, parts: Mapping[str, float] | str, *, by: By | None = None, seed: int | None = None
    ) -> dict[str, NDArray[np.int64]]:
        """Deal samples out to parts, such as those to train, validate and test with.

        With ``by`` a source, no source is in two parts, so a network is tested on backgrounds, or people,
        that it never saw. Two files with the same content count as one source. Which part a source comes to
        depends on the seed, the pictures and the fractions, not on their order or on placements.

        Args:
            parts: The fraction of each part, together at most 1; or the name of a split that is saved.
            by: What is dealt out: ``"background"`` (the default), ``"foreground"``, ``"both"`` or
                ``"sample"``. With ``"both"`` a sample belongs to a part only if both of its sources do: no
                source is in two parts, and samples whose sources are in different ones are in none (with 80,
                10 and 10 percent that is one in three). Imported samples are known by their names alone, so
                ``"sample"`` is their default; ``"field:bg"`` keeps together those whose field ``bg`` of the
                pattern that their pictures were imported by is the same.
            seed: 64 bits; 0 by default.

        Returns:
            The samples of each part, (n,) int64 in ascending order.

        Raises:
            SpecError: The parts are no such fractions, there are fewer sources than parts, or no split of
                that name is saved.
            DatasetError: Imported samples are to be split by something else than samples.

        Example:
            >>> parts = ds.split({"train": 0.8, "val": 0.1, "test": 0.1}, by="both", seed=1)  # doctest: +SKIP
            >>> {name: len(samples) for name, samples in parts.items()}  # doctest: +SKIP
            {'test': 4000, 'train': 256000, 'val': 4000}
        """
        if isinstance(parts, str):
            if by is not None or seed is not None:
                raise SpecError(
                    f"The split {parts!r} is saved with its own by and seed: leave them out.",
                    code="split-invalid",
                )
            if parts not in self.splits:
                names = ", ".join(self.splits) or "none"
                raise SpecError(f"{self.path} has no split {parts!r}; it has {names}.", code="split-unknown")
            return selection.split(self, selection.saved_split(self, parts))
        return selection.split(self, Split(parts, by or self._split_by, seed or 0))

    @property
    def _split_by(self) -> By:
        """What is dealt out by default."""
        return "background" if self.has_recipe else "sample"

    @property
    def splits(self) -> dict[str, dict[str, Any]]:
        """The splits that are saved in the dataset, by name, each with ``by``, ``seed`` and ``parts``; those
        by ``"list"`` have ``samples`` as well, the numbers of each part as text.
        """
        return {name: dict(split) for name, split in self.document.splits.items()}

    def save_split(
        self,
        name: str,
        parts: Mapping[str, float] | Mapping[str, Index],
        *,
        by: By | None = None,
        seed: int = 0,
    ) -> dict[str, NDArray[np.int64]]:
        """Split the samples as :meth:`split` does, and save how in the dataset under a name.

        What is saved is what the parts are computed from, in the dataset's document. A split of the same name
        is replaced. An HDF5 file is written anew as a whole once its document has no room left.

        Args:
            name: Of the split.
            parts: As for :meth:`split`; or the samples of each part, each in one part at most, as
                :meth:`read` takes them.
            by: As for :meth:`split`; parts that are lists of samples have none.
            seed: The same.

        Returns:
            What :meth:`split` returns, now and whenever it is called with the name.

        Raises:
            SpecError: As :meth:`split`.
            DatasetError: The dataset cannot be written, or another process is writing it.

        Example:
            >>> ds.save_split("by-background", {"train": 0.9, "test": 0.1})  # doctest: +SKIP
            >>> fgbgpack.open_dataset("lobby.zarr").split("by-background")["test"]  # doctest: +SKIP
            array([   40,    41,    42, ..., 399997, 399998, 399999])
        """
        if not is_label(name):
            raise SpecError(f"A split needs {LABEL}.", code="split-invalid")
        split: Split | ListedSplit
        given: Mapping[str, Any] = parts
        lists = {part: how for part, how in given.items() if isinstance(how, _LISTS)}
        if not lists:
            split = Split(given, by or self._split_by, seed)
        elif len(lists) < len(given) or by is not None or seed:
            raise SpecError(
                "Parts are fractions, or all are lists of samples, which are by nothing and have no seed.",
                code="split-invalid",
            )
        else:
            split = ListedSplit.of(lists, len(self))
        samples = selection.split(self, split)
        self.document = selection.save_split(self.store, self.document, name, split)
        return samples

    # --- other epochs ------------------------------------------------------------------------------

    def at_epoch(self, epoch: int, *, indices: Index | None = None) -> EpochDataset:
        """The samples of an epoch: the same recipe, placed anew. They are composed as they are read.

        Sample i has the same background, and of datasets that are no scenes the same foreground and
        mirroring, at another place; objects of scenes are drawn anew, except the first where every pair has
        its samples. Depth in layers is composed, too. Epoch 0 is the dataset itself, and no two epochs have
        the same random numbers: without ``indices`` those of epoch e are those of a
        dataset that is made with the seed ``at_epoch(e).seed``.

        Args:
            epoch: From 0 to 2^62 - 1.
            indices: Samples of one part of a split. Objects of scenes are drawn only from the foregrounds
                that these samples have in the dataset, so that no foreground comes to another part; ``None``:
                from all.

        Raises:
            SpecError: There is no such epoch.
            IndexError: There are no such samples.
            DatasetError: The dataset was imported.

        Example:
            >>> ds.at_epoch(7)[0:64].image.shape  # doctest: +SKIP
            (64, 128, 128, 3)
        """
        (number,) = checked_numbers({"epoch": (epoch, 0, EPOCHS)}, "There is no such epoch:")
        made = EpochDataset(self, number, self.drawn_from(indices))
        made.document = replace(made.document, recipe=made.recipe.info)
        return made

    def drawn_from(self, indices: Index | None) -> tuple[int, ...] | None:
        """The foregrounds that further objects of other epochs are drawn from: those that some samples have;
        ``None`` for all.
        """
        if indices is None or not self.has_objects:
            return None
        is_chosen = np.zeros(len(self), np.bool_)
        is_chosen[sample_indices(indices, len(self))] = True
        found = set[int]()
        for rows, made_of in self.sample_parts():
            found.update(np.unique(made_of[OBJECT_FOREGROUND][is_chosen[rows]]).tolist())
        return tuple(sorted(number for number in found if number >= 0))

    # --- what is known of masks without reading them -----------------------------------------------

    @property
    def bbox(self) -> NDArray[np.int32]:
        """(n, 4) int32: top, left, bottom and right of the pixels whose mask is above 0, in pixels.

        Bottom and right are the first row and column that have none any more, so all of the foreground is in
        ``mask[top:bottom, left:right]``. All four are 0 where the mask is empty. No pixel is read for this:
        it is known from the placements and the foregrounds, as are ``area`` and ``visible``. Only where
        samples were imported all masks are read, once, for this and ``area``. Of scenes it encloses the boxes
        of all objects that can be seen, which are of alpha above 127.
        """
        if self.has_objects and self.has_recipe:
            return enclosing(self.objects.box, self.objects.visible > 0)
        return self._outlines.boxes(self.placements) if self.has_recipe else self._mask_measures[0]

    @property
    def area(self) -> NDArray[np.int64]:
        """(n,) int64: how many pixels have a mask above 127."""
        if self.has_objects and self.has_recipe:
            return np.asarray(visible_area(self.recipe.sprites, self.objects).sum(axis=1))
        return self._outlines.area[self.placements.foreground] if self.has_recipe else self._mask_measures[1]

    @property
    def visible(self) -> NDArray[np.float32]:
        """(n,) float32: how much of each foreground is within the picture, by its alpha, 0 to 1.

        It is 1 for foregrounds that are placed inside the picture, as all are so far.

        Raises:
            DatasetError: The dataset was imported: what was outside of its pictures is unknown. Or samples
                are scenes, and ``objects`` says it of each object.
        """
        self.require_recipe("foregrounds, and what was outside of its pictures is unknown")
        return self._outlines.visible[self.placements.foreground]

    @cached_property
    def _outlines(self) -> Outlines:
        return Outlines.of(*self.store.read(*SOURCE_ARRAYS[1:3]))

    @cached_property
    def _mask_measures(self) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """``bbox`` and ``area`` of imported samples, measured on their masks."""
        return measure_masks(self)

    # --- statistics --------------------------------------------------------------------------------

    def stats(self, split: str | None = None, *, on_samples: OnSamples | None = None) -> Stats:
        """Statistics of the samples: mean and standard deviation of the images, how much is foreground, and
        where, sizes, depth, what samples are made of, what is there twice.

        Every pixel is counted, in whole numbers, so that the result depends on nothing but the samples. It is
        taken from the dataset where it was saved there, unless the dataset has changed since. Of one that is
        not complete, the samples that are there are counted.

        Args:
            split: The name of a saved split, each part of which is counted, too.
            on_samples: Called with how many samples were counted so far, and how many there are.

        Raises:
            SpecError: No split of that name is saved.
            IncompleteDatasetError: Not one sample is there yet.
            DatasetError: The dataset is damaged or cannot be read.

        Example:
            >>> stats = ds.stats()  # doctest: +SKIP
            >>> torchvision.transforms.Normalize(stats.mean, stats.std)  # doctest: +SKIP
        """
        found = self.saved_stats
        if split is None:
            return measure(self, None, {}, on_samples) if found is None else found.without_split()
        how = {"name": split, **self.splits.get(split, {})}
        if found is not None and found.split == how:
            return found
        return measure(self, how, self.split(split), on_samples)

    @property
    def saved_stats(self) -> Stats | None:
        """The statistics that are kept in the dataset; ``None`` where there are none of it as it is now. They
        have parts where these are of a split that it has.
        """
        found = kept_stats.kept(self.store, self.document)
        if found is None or found.split is None:
            return found
        how = {name: value for name, value in found.split.items() if name != "name"}
        return found if self.splits.get(found.split["name"]) == how else found.without_split()

    def save_stats(self, stats: Stats) -> None:
        """Keep statistics in the dataset they are of, in an attribute of its root group: ``stats`` then
        returns them at once, and ``fgbgpack info`` shows them.

        Raises:
            SpecError: They are of another dataset, or of one that was not complete or has changed since.
            DatasetError: The dataset cannot be written, or another process is writing it.

        Example:
            >>> ds.save_stats(ds.stats())  # doctest: +SKIP
        """
        kept_stats.keep(self.store, stats)

    # --- what is there -----------------------------------------------------------------------------

    def samples_there(self) -> NDArray[np.bool_] | None:
        """(n,) which samples have all that they are composed to; ``None`` where all have."""
        if self.complete:
            return None
        stored = {name: self._readers[name].layout for name in self.document.planes if name in self._readers}
        there = np.full(len(self), not stored and self.document.pixels.complete)
        if stored:
            shards = [self.store.sound_shards(name, layout) for name, layout in stored.items()]
            for shard in set.intersection(*shards):
                there[stored[IMAGE].samples_of(shard)] = True
        return there

    def written_samples(self) -> dict[str, int]:
        """How many samples of each array of pictures are in shards that are there and sound."""
        written, faulty = dict.fromkeys((*self.document.planes, DEPTH), 0), self.faulty_objects()
        for name, reader in self._readers.items():
            shards = self.store.sound_shards(name, reader.layout) - set(faulty.get(name, ()))
            written[name] = sum(len(reader.layout.samples_of(shard)) for shard in shards)
        return written

    def faulty_objects(self) -> dict[str, list[int]]:
        """The numbers of the objects that are missing, or not what the manifest says, of each array that has
        some, by its path; of metadata and of the manifest itself there are no numbers.

        Nothing is decoded: :func:`fgbgpack.pipeline.verify` finds what this does not.
        """
        manifest = self.store.manifest
        try:
            return sealing.faulty_objects(self.store)
        except DatasetError:
            if manifest is None:
                raise
            return {manifest.path: []}

    @property
    def verified(self) -> Mapping[str, Any] | None:
        """What ``fgbgpack verify --record`` has said of the dataset as it is now: ``date``, ``samples``, how
        many of them were ``recomposed``; ``None`` where that is nothing.
        """
        recorded = self.store.root().get("attributes", {}).get(VERIFIED)
        is_of_this = isinstance(recorded, Mapping) and (
            recorded.get("generation") == self.document.generation
        )
        return recorded if is_of_this else None

    def stored_bytes(self) -> dict[str, int]:
        """Bytes that each array takes in the store, by its path, metadata included."""
        return self.store.stored_bytes()


class EpochDataset(EpochReader, Dataset):
    """The samples of an epoch of a dataset that is open; get one with :meth:`Dataset.at_epoch`.

    It has what a dataset has whose pixels are recomposed. :class:`fgbgpack.dataset.epochs.EpochReader`
    describes its arguments and attributes.
    """

    _stored: Dataset

    def __repr__(self) -> str:
        return f"<epoch {self.epoch} of {self._stored!r}>"

    @property
    def seed(self) -> int:
        """A dataset of the same pictures and options with this seed has these samples."""
        return self.recipe.plan.seed

    def at_epoch(self, epoch: int, *, indices: Index | None = None) -> EpochDataset:
        """Another epoch of the same dataset."""
        return self._stored.at_epoch(epoch, indices=indices)

    def save_split(
        self,
        name: str,
        parts: Mapping[str, float] | Mapping[str, Index],
        *,
        by: By | None = None,
        seed: int = 0,
    ) -> dict[str, NDArray[np.int64]]:
        """Save a split in the dataset, and return the parts of this epoch."""
        self._stored.save_split(name, parts, by=by, seed=seed)
        self.document = replace(self.document, splits=self._stored.document.splits)
        return self.split(name)

    def stats(self, split: str | None = None, *, on_samples: OnSamples | None = None) -> Stats:
        """Statistics of the samples of this epoch, which are not those of the dataset and are not kept."""
        found = super().stats(split, on_samples=on_samples)
        return replace(found, generation=f"{found.generation} epoch {self.epoch}")

    @property
    def saved_stats(self) -> Stats | None:
        """None: the dataset keeps those of its own samples."""
        return None


def open_dataset(
    path: Target,
    *,
    allow_incomplete: bool = False,
    pixels: PixelSource = "auto",
    layout: LayoutPolicy = DEFAULT_POLICY,
    storage_options: Mapping[str, Any] | None = None,
    cache: str | os.PathLike[str] | None = None,
    cache_bytes: int = DEFAULT_BYTES,
) -> Dataset:
    """Open a dataset for reading.

    Args:
        path: A local folder, an HDF5 file, a URL, a Zarr store, or the root group of one.
        allow_incomplete: Open it also while its creation has not finished; what is not written yet
            reads as 0, and depth as NaN.
        pixels: Where image, mask and instance come from, and depth in layers: ``"stored"`` reads them,
            ``"recomposed"`` composes them of the sources, which gives the same bytes, and ``"auto"`` does
            what is cheaper. That is composing, unless the dataset was imported, is not complete, or was
            changed by something else, or its sources take more than 256 MiB of memory, or 16 MiB in a store
            far away. Sources are compared with the digest of the recipe when they are first used.
        layout: How image and mask are cut into chunks where they are not stored.
        storage_options: What a URL is opened with. Of object stores (``s3://``, ``gs://``, ``az://``) these
            are options of obstore, such as ``{"region": "eu-west-1"}`` or ``{"skip_signature": True}``, with
            ``timeout``, ``connect_timeout``, ``max_retries`` and ``retry_timeout``; of other URLs those of
            fsspec. They override those in the environment variable ``FGBGPACK_STORAGE_OPTIONS``, a JSON
            object.
        cache: A folder of this machine that keeps what is read of image, mask and depth of a dataset in a
            store far away, for later epochs and other processes. Of local datasets nothing is kept.
        cache_bytes: How many bytes the folder may take, 20 GiB by default: where there is more, what was
            used least recently is deleted.

    Raises:
        DatasetError: There is no dataset, it is damaged, or its schema is of a newer major version; or pixels
            are to be stored and are not.
        SpecError: An option cannot be used.
        IncompleteDatasetError: Its creation has not finished.

    Example:
        >>> import fgbgpack
        >>> ds = fgbgpack.open_dataset("lobby.zarr")  # doctest: +SKIP
        >>> ds.image[0:8].shape, ds[5].mask.max()  # doctest: +SKIP
        ((8, 128, 128, 3), 255)
    """
    store = DatasetStore.open(path, read_only=True, storage_options=storage_options)
    if cache is not None:
        store.cache = ChunkCache(cache, cache_bytes)
    document = store.existing_document()
    if not (document.complete or allow_incomplete):
        raise IncompleteDatasetError(
            f"{store.name} is not complete: run the command that makes it again to finish it, or open it "
            "in Python with allow_incomplete=True to read what is there."
        )
    return Dataset(store, document, pixels, layout)
