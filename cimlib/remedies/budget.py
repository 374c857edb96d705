"""What a remedy may spend, and what it has spent."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor, nn

from cimlib.chip.montecarlo import Evaluation, evaluate
from cimlib.devices.effects import require, require_whole
from cimlib.training.fit import History, OptimizerFactory, fit
from cimlib.training.objectives import Batch, Objective, labelled


@dataclass
class Costs:
    """What was spent on a network and its chip.

    ``passes_ahead``: images that were trained on before the chip, counted once an epoch; ``passes``: those
    for this chip, once more where their gradients were found to weigh weights. ``tests``: times that all its
    cells or amplifiers were measured; ``readings``: passes of inputs through its arrays, of which training on
    the chip needs one for each image of each epoch. ``pulses``, ``writes``: mean of a cell. ``images``: those
    that must be kept beside the chip. ``sets``: of digital stages that are stored, whose size
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


def require_training(epochs: int, lr: float, images: int, least: int = 0) -> None:
    """Raise ``ValueError`` for ``epochs`` < ``least``, a rate ``lr`` ≤ 0, or ``images`` < 0."""
    require_whole("epochs", epochs, least)
    real = isinstance(lr, (int, float)) and not isinstance(lr, bool) and 0 < lr < float("inf")
    require(real, "lr", lr, "0 < lr < ∞")
    require_whole("images", images, 0)


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

    def objective(self, wanted: Objective) -> Objective:
        """What is minimised in training where ``wanted`` is asked for: here the same."""
        return wanted

    def optimizer(self, model: nn.Module, lr: float) -> OptimizerFactory | None:
        """What trains ``model`` at the rate ``lr``; ``None``: what :func:`~.fit` takes by default."""
        return None

    def watched(self) -> Batch | None:
        """Images with labels that are read after every epoch; ``None``: none."""
        return None

    def train(
        self, model: nn.Module, objective: Objective, batch: Batch, *, epochs: int, lr: float
    ) -> History:
        """Train ``model`` in place; the rate falls along a half cosine."""
        with self.autocast():
            return fit(
                model,
                self.objective(objective),
                batch,
                epochs=epochs,
                lr=lr,
                seed=self.seed,
                batch_size=self.batch,
                validation=self.watched(),
                optimizer=self.optimizer(model, lr),
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

    Raises ``ValueError`` for arguments out of range and samples that are not finite, ``TypeError`` for what
    are no tensors.
    """

    x: Tensor
    y: Tensor
    batch: int = 128
    seed: int = 0
    held_out: Batch | None = None

    def __post_init__(self) -> None:
        labelled((self.x, self.y))
        require_whole("batch", self.batch, 1)
        require_whole("seed", self.seed, 0)
        if self.held_out is not None:
            labelled(self.held_out)

    def images(self, n: int = 0) -> Batch:
        return _first(n, (self.x, self.y))

    def validation(self, n: int = 0) -> Batch:
        if self.held_out is None:
            raise ValueError("held_out = None is not allowed; allowed: images and labels to choose by")
        return _first(n, self.held_out)


def _first(n: int, batch: Batch) -> Batch:
    x, y = batch
    require_whole("n", n, 0)
    require(0 <= n <= len(x), "n", n, f"0 ≤ n ≤ {len(x)} (images)")
    return (x[:n], y[:n]) if n else batch
