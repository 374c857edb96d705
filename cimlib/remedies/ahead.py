"""What is done before any chip is made: training for chips of a kind."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

import torch
from torch import nn

from cimlib.chip.checkpoint import plain_state
from cimlib.chip.crossbar import crossbars
from cimlib.chip.fabrication import fresh
from cimlib.devices.effects import require_kind
from cimlib.remedies.base import Remedy
from cimlib.remedies.budget import Budget, Costs, require_training
from cimlib.remedies.chips import Kind
from cimlib.training.objectives import CrossEntropy, Objective


@dataclass(frozen=True)
class NoiseTraining(Remedy):
    """The network trained, or trained on, with the errors of a fresh chip at every pass.

    The method is the objective: :class:`~.CrossEntropy` is noise injection, :class:`~.OVF` and
    :class:`~.IRS` are negative feedback training.

    Args:
        epochs, lr: ≥ 0; > 0, of Adam.
        images: how many are trained on; 0: all.
        objective: what is minimised.
        kind: of the chips that are trained for; ``None``: those that the network will be on.

    Raises ``ValueError`` for arguments out of range, ``TypeError`` for arguments of another kind.
    """

    epochs: int = 10
    lr: float = 1e-3
    images: int = 0
    objective: Objective = field(default_factory=CrossEntropy)
    kind: Kind | None = None

    steps = ("train",)
    knows = frozenset({"the kind of chip", "images", "labels"})

    def __post_init__(self) -> None:
        require_training(self.epochs, self.lr, self.images)
        require_kind("objective", self.objective, Objective, "CrossEntropy()")
        if self.kind is not None:
            require_kind("kind", self.kind, Kind, "Kind(hardware)")

    def prepare(self, network: nn.Module, kind: Kind, budget: Budget, costs: Costs) -> nn.Module:
        """The digital network after training: its weights end where the ranges of the arrays end."""
        batch = budget.images(self.images)
        model = fresh((self.kind or kind).program(network), budget.seed)
        with costs.timed("train"):
            history = budget.train(model, self.objective, batch, epochs=self.epochs, lr=self.lr)
        costs.histories.append(history)
        costs.passes_ahead += self.epochs * len(batch[1])
        trained = copy.deepcopy(network)
        trained.load_state_dict(plain_state(model))
        for layer in crossbars(model):
            if (w_max := layer.hardware.array.w_max) is not None:
                with torch.no_grad():
                    trained.get_submodule(layer.name).get_parameter("weight").clamp_(-w_max, w_max)
        return trained
