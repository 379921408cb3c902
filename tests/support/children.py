"""What other processes do. This module imports little: a process that starts anew waits for it."""

from __future__ import annotations

import os
import time

import numpy as np
from builders import stages_to
from killed_runs import SHARDS

from fgbgpack import DatasetSpec, create, create_part, fill_depth, open_dataset
from fgbgpack.pipeline import Progress, materialize


def send_arrays(sender, dataset, samples=slice(None)):
    """Read some samples of a dataset, and send all of their arrays."""
    sender.send(dataset.to_numpy(indices=samples))


def put_samples(queue, reader, samples):
    """Read three samples one by one and all together, and tell how many chunks were decoded for it."""
    found = [reader.read([i]) for i in samples[:3]]
    found.append(reader.read(samples, threads=3))
    queue.put((np.concatenate(found), reader.chunks_decoded))


def read_with_cache(results, path, cache, limit, seed, passes):
    """Read all samples as from a store far away, in orders of one's own, and put sums of image and mask."""
    from obstore.store import LocalStore
    from zarr.storage import ObjectStore

    store = ObjectStore(LocalStore(path), read_only=True)
    ds = open_dataset(store, cache=cache, cache_bytes=limit)
    rng = np.random.default_rng(seed)
    for _ in range(passes):
        sums = np.zeros(len(ds), np.int64)
        for some in np.array_split(rng.permutation(len(ds)), 20):
            batch = ds.read(some)
            sums[some] = batch.image.sum((1, 2, 3), dtype=np.int64) + batch.mask.sum((1, 2), dtype=np.int64)
    results.put(sums)


def send_composites(sender, recipe, samples, image, mask):
    """Compose some samples, and send the digest of the recipe as well."""
    recipe.compose(samples, image, mask)
    sender.send((recipe.info, image, mask))


def stop_while_saving(sender, path, number):
    """Save a split in an HDF5 file, and stop in the middle of one of the six writes that this takes."""
    write, left = os.pwrite, iter(range(1, number))

    def write_half(file, content, offset):
        if next(left, None) is None:
            write(file, content[: len(content) // 2], offset)
            sender.send("half")
            time.sleep(600)
        return write(file, content, offset)

    os.pwrite = write_half
    open_dataset(path).save_split("mine", {"train": 0.5, "test": 0.5})


def store_pixels(sender, source, target):
    """Store the pixels of a virtual dataset, or finish that."""
    materialize(source, target, workers=2, layout=SHARDS, on_event=stages_to(sender))


def make_dataset(sender, path, spec, workers, depth_later):
    """Make a dataset, or finish it, and send each stage that it comes to."""
    tell = stages_to(sender)
    spec = DatasetSpec.from_dict(spec)
    if depth_later:
        pixels = DatasetSpec.from_dict({**spec.to_dict(), "depth": None})
        create(path, pixels, workers=workers, layout=SHARDS, on_event=tell)
        fill_depth(path, spec.depth, workers=workers, layout=SHARDS, on_event=tell)
    else:
        create(path, spec, workers=workers, layout=SHARDS, on_event=tell)


def replace_depth(sender, path, depth):
    """The same for a dataset that is to get another model's depth."""

    def tell(event):
        if isinstance(event, Progress):
            sender.send(event.stage)

    fill_depth(path, depth, overwrite=True, workers=2, layout=SHARDS, on_event=tell)


def stop_at(sender, call, stage, n, *arguments):
    """Call a function of the pipeline; at the n-th event of a stage, say so and stand still.

    The last of the arguments are the options of the call.
    """
    left = [n]

    def tell(event):
        if isinstance(event, Progress) and event.stage == stage:
            if left[0] == 0:
                sender.send("there")
                time.sleep(600)
            left[0] -= 1

    *arguments, options = arguments
    call(*arguments, on_event=tell, **options)


def write_parts(sender, path, order, parts):
    """Write parts of a dataset, one after the other."""
    for part in order:
        create_part(path, part, parts, workers=1)
