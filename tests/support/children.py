"""What other processes do. This module imports little: a process that starts anew waits for it."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import numpy as np
from builders import stages_to
from killed_runs import SHARDS

from fgbgpack import open_dataset
from fgbgpack.pipeline import materialize


def send_arrays(sender, dataset, samples=slice(None)):
    """Read some samples of a dataset, and send all of their arrays."""
    sender.send(dataset.to_numpy(indices=samples))


def put_samples(queue, reader, samples):
    """Read three samples one by one and all together, and tell how many chunks were decoded for it."""
    found = [reader.read([i]) for i in samples[:3]]
    found.append(reader.read(samples, threads=3))
    queue.put((np.concatenate(found), reader.chunks_decoded))


def send_composites(sender, recipe, samples, image, mask):
    """Compose some samples, and send the digest of the recipe as well."""
    recipe.compose(samples, image, mask)
    sender.send((recipe.info, image, mask))


def stop_while_saving(sender, path):
    """Save a split in an HDF5 file, and stop when half of the new file is written."""
    copy = shutil.copyfile

    def copy_half(source, target):
        copy(source, target)
        with Path(target).open("r+b") as file:
            file.truncate(Path(source).stat().st_size // 2)
        sender.send("half")
        time.sleep(600)

    shutil.copyfile = copy_half
    open_dataset(path).save_split("mine", {"train": 0.5, "test": 0.5})


def store_pixels(sender, source, target):
    """Store the pixels of a virtual dataset, or finish that."""
    materialize(source, target, workers=2, layout=SHARDS, on_event=stages_to(sender))
