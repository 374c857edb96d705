"""What a remedy may spend, and what it has spent."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor, nn

from cimlib.chip.montecarlo import Evaluation, evaluate
from cimlib.devices.effects import require
from cimlib.training.fit import History, fit
from cimlib.training.objectives import Batch, Objective


@dataclass
class Costs:
    """What was spent on a network and its chip.

    ``passes_ahead``: images that were trained on before the chip, counted once an epoch; ``passes``: those
    for this chip. ``tests``: times that all its cells or amplifiers were measured; ``readings``: passes of
    inputs through its arrays. ``pulses``, ``writes``: mean of a cell. ``images``: those that must be kept
    beside the chip. ``sets``: of digital stages that are stored, whose size
    :func:`~.cost` tells, and ``set_times``, s, at which those of a schedule come into use; ``stored``:
    numbers beside those. ``seconds``, by step; ``histories`` of trainings, in their order.
    """

    passes_ahead: int = 0
    passes: int = 0
    tests: int = 0
    readings: int = 0
    pulses: float = 0.0
    writes: float = 0.0
    sets: int = 0
    set_times: list[float] = field(default_factory=list)
    stored: int = 0
    images: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    histories: list[History] = field(default_factory=list)

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Count the time spent within the context for ``step``."""
        start = time.perf_counter()
        yield
        self.seconds[step] = self.seconds.get(step, 0.0) + time.perf_counter() - start


READ = 250  # images per forward pass of a reading, unless a budget says otherwise


class Budget:
    """What remedies may use: images, and the one way in which networks are trained and chips are read.

    Subclasses say where the images are from; see :class:`Samples`. ``batch``: images of a batch in all
    training; ``seed`` of all shuffling, and of errors drawn in training.
    """

    batch: int
    seed: int
    #: Images per forward pass of a reading; ``None``: all at once.
    reading: ClassVar[int | None] = READ

    def images(self, n: int = 0) -> Batch:
        """``n`` training images (n, ...) with their labels (n,); 0: all. Raises ``ValueError`` if there are
        fewer."""
        raise NotImplementedError

    def validation(self, n: int = 0) -> Batch:
        """``n`` images with labels by which remedies choose, never trained on; 0: all."""
        raise NotImplementedError

    def autocast(self) -> AbstractContextManager[object]:
        """The context in which networks are trained and read: here nothing special."""
        return nullcontext()

    def train(
        self, model: nn.Module, objective: Objective, batch: Batch, *, epochs: int, lr: float
    ) -> History:
        """Train ``model`` in place; the rate falls along a half cosine."""
        with self.autocast():
            return fit(
                model,
                objective,
                batch,
                epochs=epochs,
                lr=lr,
                seed=self.seed,
                batch_size=self.batch,
                cosine=True,
            )

    def read(self, model: nn.Module, batch: Batch, chips: Iterable[int]) -> Evaluation:
        """``model``, which is on hardware, on each of ``chips``."""
        with self.autocast():
            return evaluate(model, *batch, chips, self.reading)


@dataclass(frozen=True, eq=False)
class Samples(Budget):
    """A budget of images at hand.

    Args:
        x, y: training images (n, ...) and their labels (n,).
        batch: images of a batch in all training, ≥ 1.
        seed: ≥ 0.
        held_out: images and labels for :meth:`validation`; ``None``: there are none.

    Raises ``ValueError`` for arguments out of range.
    """

    x: Tensor
    y: Tensor
    batch: int = 128
    seed: int = 0
    held_out: Batch | None = None

    def __post_init__(self) -> None:
        require(len(self.x) == len(self.y) > 0, "len(x), len(y)", (len(self.x), len(self.y)), "equal and > 0")
        require(self.batch >= 1, "batch", self.batch, "an integer ≥ 1")
        require(self.seed >= 0, "seed", self.seed, "an integer ≥ 0")

    def images(self, n: int = 0) -> Batch:
        return _first(n, (self.x, self.y))

    def validation(self, n: int = 0) -> Batch:
        if self.held_out is None:
            raise ValueError("held_out = None is not allowed; allowed: images and labels to choose by")
        return _first(n, self.held_out)


def _first(n: int, batch: Batch) -> Batch:
    x, y = batch
    require(0 <= n <= len(x), "n", n, f"0 ≤ n ≤ {len(x)} (images)")
    return (x[:n], y[:n]) if n else batch
