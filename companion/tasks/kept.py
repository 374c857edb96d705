"""The digital network that several experiments put on chips: trained for perfect cells, and kept on disk.

Whoever asks for a network that was trained before is given the same weights, in another process too. They are
kept under :data:`FOLDER` by all that decides their bits: the :class:`~.Task`, the code, the version of torch
and its number of threads. Two processes that want the same one at once both train it, and the files of both
are the same; a damaged file is trained anew, with a note in the log; where nothing can be written, nothing is
kept.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import torch
from joblib import Memory
from torch import Tensor, nn

from cimlib.arrays import LevelSpread, SignedArray
from cimlib.chip import Hardware
from cimlib.remedies import Chip, Costs, Kind, NoiseTraining
from cimlib.training import CrossEntropy, fit
from companion import definitions
from companion.tasks.results import Right, stacked
from companion.tasks.task import Task

Trained = TypeVar("Trained", bound=Hashable)
FOLDER = Path(__file__).resolve().parents[2] / "_build" / "networks"
CODE = definitions.digest(__name__, "_weights")  # at import: what will train, whatever becomes of its files
BEFORE = definitions.digest(__name__, "_just_programmed")


@lru_cache(maxsize=1)
def digital(task: Task) -> nn.Module:
    """The network, trained for perfect cells, in evaluation mode; one and the same object for all who ask."""
    model = task.started()
    weights = _memory().cache(_weights)(task, CODE, torch.__version__, torch.get_num_threads())
    model.load_state_dict(weights)
    return model.eval()


def weights(
    train: Callable[[Trained, str, str, int], dict[str, Tensor]], params: Trained, code: str
) -> dict[str, Tensor]:
    """The weights that ``train`` makes of ``params``, by the ``code`` of that digest: made once, and kept."""
    kept: dict[str, Tensor] = _memory().cache(train)(params, code, torch.__version__, torch.get_num_threads())
    return kept


def just_programmed(
    task: Task, kind: Kind, network: nn.Module, number: int, images: int, trained: Hashable
) -> Right:
    """Which of the first test ``images`` a network is right about on a chip just programmed, (1, images).

    Kept, too, as many remedies of one chip are compared with it. ``network``: the digital one of ``task``, or
    what became of it, all of which ``trained`` tells.
    """
    read = _memory().cache(_just_programmed, ignore=["network"])
    here = (BEFORE, torch.__version__, torch.get_num_threads())
    found: Right = read(task, kind, network, number, images, trained, here)
    return found


def _just_programmed(
    task: Task, kind: Kind, network: nn.Module, number: int, images: int, trained: Hashable, here: Hashable
) -> Right:
    return stacked([task.read(Chip(kind, number).holds(network), task.split("test", images), [number])])


def _memory() -> Memory:
    """What was trained, compressed for the checksum that comes with it; none where nothing can be written."""
    try:
        FOLDER.mkdir(parents=True, exist_ok=True)
        writable = os.access(FOLDER, os.W_OK)
    except OSError:
        writable = False
    return Memory(FOLDER if writable else None, compress=True, verbose=0)


def _weights(task: Task, code: str, version: str, threads: int) -> dict[str, Tensor]:
    """Train the network; the rest is what else decides the bits of its weights."""
    if task.network != "mlp":
        plain = NoiseTraining(task.epochs, task.lr, task.n_train)
        perfect = Kind(Hardware(LevelSpread(0.0, 1.0, slices=4), SignedArray()))
        return plain.prepare(task.started(), perfect, task, Costs()).state_dict()
    model = task.blank().to(task.device)
    fit(
        model,
        CrossEntropy(),
        task.images(task.n_train),
        epochs=task.epochs,
        lr=task.lr,
        seed=task.seed,
        batch_size=task.batch,
        cosine=True,
    )
    return model.state_dict()


def ranged(task: Task, hardware: Hardware, w_range: float = 1.0) -> dict[str, Hardware]:
    """``hardware`` of each layer, its range fixed by the digital network.

    Args:
        w_range: weight of the full range over the largest one of that layer in the digital network.
    """
    weights = {name: p.detach() for name, p in digital(task).named_parameters() if p.dim() > 1}
    found = {}
    for name, weight in weights.items():
        w_max = w_range * float(weight.abs().max())
        found[name.removesuffix(".weight")] = replace(hardware, array=replace(hardware.array, w_max=w_max))
    return found
