"""What trainers get of a loader: run as a script, once for each process that a trainer starts.

``python trainer_runs.py RUN DATASET OUTPUT`` writes the samples that each rank saw to OUTPUT.RANK as JSON:
the batches of each of several epochs, by the name of what was tried.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import torch

from fgbgpack.torch import FgBgLoader, make_loader

warnings.simplefilter("ignore")
EPOCHS = 2


def loader(workers: int = 0, **options: Any) -> FgBgLoader:
    return make_loader(sys.argv[2], 8, workers=workers, seed=3, window=2, **options)


def write(found: dict[str, Any], rank: int) -> None:
    Path(f"{sys.argv[3]}.{rank}").write_text(json.dumps(found))


def batches(some: Any) -> list[list[int]]:
    return [batch["index"].tolist() for batch in some]


def flat(epochs: list[list[list[int]]]) -> list[list[int]]:
    return list(itertools.chain(*epochs))


def lightning_model(stop: int | None = None, checkpoint: str = "") -> Any:
    import pytorch_lightning

    class Model(pytorch_lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(1, 1)
            self.by_epoch: dict[int, list[list[int]]] = {}

        @property
        def seen(self) -> list[list[list[int]]]:
            return list(self.by_epoch.values())

        def training_step(self, batch: Any, number: int) -> Any:
            self.by_epoch.setdefault(self.current_epoch, []).append(batch["index"].tolist())
            return self.layer(batch["image"].float().mean((1, 2, 3))[:, None]).mean()

        def on_train_batch_end(self, *_: Any) -> None:
            if self.global_step == stop:
                self.trainer.save_checkpoint(checkpoint)

        def predict_step(self, batch: Any, number: int) -> Any:
            return batch["index"]

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), 0.0)

    return Model()


def lightning_trainer(**options: Any) -> Any:
    import pytorch_lightning

    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    options = quiet | {"accelerator": "cpu", "enable_checkpointing": False, "max_epochs": EPOCHS} | options
    return pytorch_lightning.Trainer(default_root_dir=str(Path(sys.argv[3]).parent), **options)


def lightning() -> None:
    found: dict[str, Any] = {}
    tries: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "fit": ({}, {}),
        "fit with workers": ({}, {"workers": 2}),
        "limited": ({"limit_train_batches": 4}, {}),
        "steps": ({}, {"steps_per_epoch": 8}),
        "stream": ({"max_epochs": -1, "max_steps": 30}, {"steps_per_epoch": math.inf}),
        "overfit": ({"overfit_batches": 2}, {}),
    }
    for name, (of_trainer, of_loader) in tries.items():
        model = lightning_model()
        lightning_trainer(**of_trainer).fit(model, loader(**of_loader))
        found[name] = model.seen
    for name, options in {"predict": {}, "predict all": {"drop_last": True}}.items():
        predicted = lightning_trainer().predict(lightning_model(), loader(**options))
        found[name] = [[part.tolist() for part in predicted]]
    checkpoint = f"{sys.argv[3]}.ckpt"
    for stop in (5, 15):
        model = lightning_model(stop, checkpoint)
        lightning_trainer().fit(model, loader())
        again = lightning_model()
        # The seed comes with the state.
        lightning_trainer().fit(
            again, make_loader(sys.argv[2], 8, workers=0, window=2), ckpt_path=checkpoint, weights_only=False
        )
        found[f"resume {stop}"] = [flat(model.seen)[stop:], flat(again.seen)]
    write(found, 0)


def lightning_ddp() -> None:
    from pytorch_lightning.callbacks import BasePredictionWriter

    predicted: list[Any] = []

    class Keeping(BasePredictionWriter):
        def write_on_epoch_end(self, trainer: Any, model: Any, predictions: Any, batch_indices: Any) -> None:
            predicted.extend([[part.tolist() for part in predictions], batch_indices[0]])

    model = lightning_model()
    # The loader is made before there is a process group.
    train, test = loader(), loader()
    trainer = lightning_trainer(devices=2, strategy="ddp", callbacks=[Keeping("epoch")])
    trainer.fit(model, train)
    trainer.predict(model, test, return_predictions=False)
    write(
        {"fit": model.seen, "predict": predicted[:1], "predicted indices": predicted[1:]}, trainer.global_rank
    )


def accelerate() -> None:
    from accelerate import Accelerator
    from accelerate.utils import DataLoaderConfiguration

    found: dict[str, Any] = {}
    accelerator: Any = None
    for even in (True, False):
        accelerator = Accelerator(cpu=True, dataloader_config=DataLoaderConfiguration(even_batches=even))
        prepared = accelerator.prepare(loader())
        found[f"prepared, even {even}"] = [batches(prepared) for _ in range(EPOCHS)]
        cut = accelerator.prepare(loader())
        found[f"cut, even {even}"] = [batches(itertools.islice(cut, 2)) for _ in range(EPOCHS)]
        steps = accelerator.prepare(loader(steps_per_epoch=3))
        found[f"steps, even {even}"] = [batches(steps) for _ in range(EPOCHS)]
        if even:
            gathered = [accelerator.gather_for_metrics(batch["index"]).tolist() for batch in prepared]
            found["gathered"] = [gathered]
    own = loader()
    found["not prepared"] = [batches(own) for _ in range(EPOCHS)]
    write(found, accelerator.process_index)


def accelerate_two() -> None:
    from accelerate import debug_launcher

    debug_launcher(accelerate, num_processes=2)


def ignite() -> None:
    from ignite.engine import Engine
    from ignite.engine.deterministic import DeterministicEngine

    found: dict[str, Any] = {}
    for kind in (Engine, DeterministicEngine):
        for length in (None, 4):
            seen: list[Any] = [[] for _ in range(EPOCHS)]

            def step(engine: Any, batch: Any, seen: Any = seen) -> None:
                seen[engine.state.epoch - 1].append(batch["index"].tolist())

            kind(step).run(loader(), max_epochs=EPOCHS, epoch_length=length)
            found[f"{kind.__name__} {length}"] = seen
    write(found, 0)


RUNS = {run.__name__: run for run in (lightning, lightning_ddp, accelerate, accelerate_two, ignite)}

if __name__ == "__main__":
    os.environ["ACCELERATE_USE_CPU"] = "1"
    RUNS[sys.argv[1]]()
