"""A training that stops in time, and goes on from its checkpoint as if it had not stopped.

It is the training of every other task: epoch by epoch the one loop, :func:`~.fit`, with an optimiser, a
schedule, an order of the images and an objective that last from epoch to epoch. A checkpoint holds all of
them, so that a training in several sittings gives bit for bit what it gives in one; on a graphics processor
it does so as far as that repeats itself at all.
"""

from __future__ import annotations

import io
import math
import os
import pickle
import time
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from cimlib.chip import Evaluation
from cimlib.chip.crossbar import Crossbar
from cimlib.training import Batch, History, Objective, fit
from companion.tasks.results import stacked
from companion.tasks.task import Task

Draws = Literal["cpu", "device"]
_CHECK = 4  # bytes of the checksum at the end of a file


class OutOfTime(Exception):
    """The time is up. What it says is how far the training has come, which stands in its checkpoint."""


@dataclass(frozen=True)
class Resumable(Task):
    """A task whose network is trained and read until a time is up, from where its checkpoint stands.

    Args:
        checkpoint: the file, which belongs to one training. One that is damaged is put aside, as
            ``<name>.damaged``, and the training begins anew.
        until: when the time is up, s, as :func:`time.time` counts it.
        every: s between checkpoints; when the time is up there is one in any case.
        draws: ``"cpu"``: errors in training are those of the same training anywhere else. ``"device"``: drawn
            where the weights are, see :class:`DrawnThere`.

    Training and reading raise :class:`OutOfTime` when the time is up. A task trains one network once: a
    second training would go on from the checkpoint of the first.
    """

    checkpoint: str = ""
    until: float = math.inf
    every: float = 60.0
    draws: Draws = "cpu"

    def train(
        self, model: nn.Module, objective: Objective, batch: Batch, *, epochs: int, lr: float
    ) -> History:
        """As :meth:`~.Budget.train`."""
        wanted = self.objective(objective)
        wanted.setup(model)
        try:
            with self.autocast():
                return _Sitting(self, model, wanted, batch, epochs, lr).rest()
        finally:
            wanted.teardown(model)

    def read(self, model: nn.Module, batch: Batch, chips: Iterable[int]) -> Evaluation:
        """As :meth:`~.Budget.read`, chip by chip; what was read is not kept when the time is up."""
        found, longest = list[Evaluation](), 0.0
        for chip in chips:
            start = time.time()
            if start + longest > self.until:
                raise OutOfTime("trained, not yet read")
            found.append(super().read(model, batch, [chip]))
            longest = max(longest, time.time() - start)
        numbers = tuple(chip for one in found for chip in one.chips)
        values, ekl = (np.concatenate([getattr(one, name) for one in found]) for name in ("values", "ekl"))
        return Evaluation(numbers, values, ekl, stacked(found))

    def seconds(self) -> float:
        """How long the training took until its last checkpoint, in all sittings, s; 0 without one."""
        kept = restored(Path(self.checkpoint))
        return 0.0 if kept is None else float(kept["seconds"])


class DrawnThere(Crossbar):
    """A layer whose fresh errors are drawn on the device of its weights.

    At each pass the layer's own generator gives a seed, and a generator of the device gives the errors: the
    same distribution, other numbers than elsewhere. A checkpoint needs the layer's generator alone. Drawn on
    a processor core the 12.9 million errors of a VGG-8 take longer than the rest of a step on a graphics
    processor. A held chip is not concerned.
    """

    def draws(self) -> dict[str, Tensor]:
        if self.generator is None:
            return super().draws()
        return self.passes.drawn(self.name, self.generator, self._drawn)

    def _drawn(self, own: torch.Generator) -> dict[str, Tensor]:
        like = self.like()
        there = torch.Generator(like.device).manual_seed(int(torch.randint(2**62, (), generator=own)))
        samplers = {"normal": torch.randn, "uniform": torch.rand}
        return {
            name: samplers[kind](shape, generator=there, dtype=torch.float32, device=like.device).to(like)
            for name, (kind, shape) in self.slots().items()
        }


class _Sitting:
    """What lasts from epoch to epoch of a training, and how it goes on."""

    def __init__(
        self, task: Resumable, model: nn.Module, objective: Objective, batch: Batch, epochs: int, lr: float
    ) -> None:
        self.task, self.model, self.epochs, self.lr = task, model, epochs, lr
        self.path = Path(task.checkpoint)
        self.objective = _Underway(objective)
        self.modules, self.generators = list(_modules(objective)), list(_generators(objective))
        parameters = list(objective.parameters(model))
        factory = task.optimizer(model, lr)
        self.optimizer = torch.optim.Adam(parameters, lr) if factory is None else factory(parameters)
        self.images = _Shuffled(batch, task.batch, task.seed, task.until)
        steps = epochs * len(self.images)
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, steps)
        self.optimizer.register_step_post_hook(lambda *_: self.schedule.step())
        self.history, self.seconds, self.kept = History(), 0.0, 0
        if task.draws == "device":
            for module in [each for root in (model, *self.modules) for each in root.modules()]:
                if type(module) is Crossbar:
                    module.__class__ = DrawnThere  # the same object: objectives and optimisers know it

    def rest(self) -> History:
        """Train for the epochs that are left. Raises :class:`OutOfTime` when the time is up."""
        if (kept := restored(self.path)) is not None:
            self._load(kept)
        longest, saved = 0.0, -math.inf
        while len(self.history.loss) < self.epochs:
            start = time.time()
            if start + longest > self.task.until:
                raise self._out_of_time()
            self._epoch()
            self.seconds += time.time() - start
            near = time.time() + 2 * longest > self.task.until  # the next epoch may be cut short
            if near or time.time() - saved >= self.task.every or len(self.history.loss) == self.epochs:
                self._save()
                saved = time.time()
            longest = max(longest, time.time() - start)
        return self.history

    def _out_of_time(self) -> OutOfTime:
        return OutOfTime(f"trained for {self.kept} of {self.epochs} epochs")

    def _epoch(self) -> None:
        try:
            one = fit(
                self.model,
                self.objective,
                self.images,
                epochs=1,
                lr=self.lr,
                seed=self.task.seed,
                validation=self.task.watched(),
                optimizer=lambda _: self.optimizer,
            )
        except OutOfTime:  # within an epoch, of which nothing is kept
            raise self._out_of_time() from None
        except FloatingPointError as error:  # it counts from 0 within this epoch
            raise FloatingPointError(f"epoch {len(self.history.loss)}: {error}") from error
        self.history.loss += one.loss
        self.history.validation += one.validation

    def _save(self) -> None:
        kept = {
            "name": self.path.stem,
            "loss": self.history.loss,
            "validation": self.history.validation,
            "seconds": self.seconds,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "shuffle": self.images.generator.get_state(),
            "modules": [module.state_dict() for module in self.modules],
            "generators": [generator.get_state() for generator in self.generators],
        }
        store(self.path, kept)
        self.kept = len(self.history.loss)

    def _load(self, kept: dict[str, Any]) -> None:
        self.model.load_state_dict(kept["model"])
        self.optimizer.load_state_dict(kept["optimizer"])
        self.schedule.load_state_dict(kept["schedule"])
        self.images.generator.set_state(kept["shuffle"])
        for module, state in zip(self.modules, kept["modules"], strict=True):
            module.load_state_dict(state)
        for generator, state in zip(self.generators, kept["generators"], strict=True):
            generator.set_state(state)
        self.history, self.seconds = History(kept["loss"], kept["validation"]), kept["seconds"]
        self.kept = len(self.history.loss)


class _Underway(Objective):
    """An objective that was set up before an epoch, and stays so behind it."""

    def __init__(self, objective: Objective) -> None:
        self.objective = objective

    def parameters(self, model: nn.Module) -> Iterable[nn.Parameter]:
        return self.objective.parameters(model)

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        return self.objective(model, batch)


class _Shuffled:
    """The batches of each epoch, in the order in which :func:`~.fit` takes images, until the time is up."""

    def __init__(self, batch: Batch, size: int, seed: int, until: float) -> None:
        self.batch, self.size, self.until = batch, size, until
        self.generator = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return -(-len(self.batch[1]) // self.size)

    def __iter__(self) -> Iterator[Batch]:
        x, y = self.batch
        order = torch.randperm(len(x), generator=self.generator).to(x.device)
        for index in torch.split(order, self.size):
            if time.time() > self.until:
                raise OutOfTime
            yield x[index], y[index]


def _modules(objective: Objective) -> Iterator[nn.Module]:
    """What an objective that is set up trains beside the network: its own modules, such as heads."""
    for value in vars(objective).values():
        if isinstance(value, nn.Module):
            yield value
        elif isinstance(value, Objective):
            yield from _modules(value)


def _generators(value: object) -> Iterator[torch.Generator]:
    """The generators that an objective that is set up draws from, in lists and pairs too."""
    if isinstance(value, torch.Generator):
        yield value
    elif isinstance(value, Objective):
        yield from _generators(list(vars(value).values()))
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from _generators(each)


def store(path: Path, kept: dict[str, Any]) -> None:
    """Write ``kept``, of tensors, numbers and their lists and mappings, to ``path``, whole or not at all."""
    file = io.BytesIO()
    torch.save(kept, file)
    content = file.getbuffer()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    with partial.open("wb") as opened:
        opened.write(content)
        opened.write(zlib.crc32(content).to_bytes(_CHECK, "big"))
    os.replace(partial, path)


def restored(path: Path) -> dict[str, Any] | None:
    """What :func:`store` wrote to ``path``, on the CPU; ``None`` where there is no such file. One that is
    damaged, or another's copy, is put aside, which a line says."""
    if not path.exists():
        return None
    content = path.read_bytes()
    try:
        if zlib.crc32(content[:-_CHECK]).to_bytes(_CHECK, "big") != content[-_CHECK:]:
            raise ValueError("its checksum is another")
        kept: dict[str, Any] = torch.load(
            io.BytesIO(content[:-_CHECK]), map_location="cpu", weights_only=True
        )
        if kept["name"] != path.stem:
            raise ValueError(f"it is a copy of {kept['name']}")
    except (ValueError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        aside = path.with_suffix(".damaged")
        os.replace(path, aside)
        print(f"{path} cannot be used ({error}): put aside as {aside.name}, the training begins anew")
        return None
    return kept
