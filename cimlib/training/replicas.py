"""Many copies of one small network and of its data: hundreds of trainings in seconds.

Worth it only for tiny layers and batches (Iris, digits); for anything larger a loop is as fast.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state


class Replicas(nn.Module):
    """``S`` networks of one shape as one module, their parameters stacked in a leading dimension.

    Args:
        models: the networks, alike but for the values of parameters and buffers.

    Forward: x (batch, S, ...) → (batch, S, ...): replica ``s`` sees ``x[:, s]`` alone. Batches come
    first so that whatever splits or shuffles batches needs not know of replicas.
    Raises ``ValueError`` if there are none, if they are on different hardware or draw fresh errors,
    ``RuntimeError`` (torch) if they differ in shape.
    """

    _skeleton: nn.Module

    def __init__(self, models: Sequence[nn.Module]) -> None:
        super().__init__()
        if not models:
            raise ValueError("models is empty; at least one network is needed")
        for model in models:
            self._require_alike(models[0], model)
        parameters, buffers = stack_module_state(list(models))
        self._names = {name.replace(".", "|"): name for name in (*parameters, *buffers)}
        for name, value in parameters.items():
            self.register_parameter(name.replace(".", "|"), nn.Parameter(value.detach().clone()))
        for name, value in buffers.items():
            self.register_buffer(name.replace(".", "|"), value.detach().clone())
        object.__setattr__(self, "_skeleton", copy.deepcopy(models[0]).to("meta"))
        self.train(models[0].training)

    @staticmethod
    def _require_alike(first: nn.Module, other: nn.Module) -> None:
        for a, b in zip(first.modules(), other.modules(), strict=False):
            if getattr(a, "hardware", None) != getattr(b, "hardware", None):
                raise ValueError(f"models are on different hardware: {a.hardware} and {b.hardware}")
            if getattr(b, "generator", None) is not None:
                raise ValueError("models draw fresh errors; allowed: held chips, fabricate(model, chip)")

    def train(self, mode: bool = True) -> Replicas:
        """Training or evaluation mode of all replicas."""
        super().train(mode)
        self._skeleton.train(mode)
        return self

    def forward(self, x: Tensor) -> Tensor:
        state = {name: getattr(self, flat) for flat, name in self._names.items()}

        def one(state: dict[str, Tensor], x: Tensor) -> Tensor:
            y: Tensor = functional_call(self._skeleton, state, (x,))
            return y

        return torch.vmap(one, in_dims=(0, 1), out_dims=1)(state, x)

    def member(self, index: int, into: nn.Module) -> nn.Module:
        """A copy of ``into`` with the parameters of replica ``index``."""
        model = copy.deepcopy(into)
        own = {self._names[flat]: p[index] for flat, p in self.named_parameters()}
        model.load_state_dict(own, strict=False)
        return model


def resample(
    x: Tensor, y: Tensor, seeds: Iterable[int], sizes: tuple[int, int, int]
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """A stratified train / validation / test split of one data set for every seed.

    Args:
        x: (n, ...); y: (n,) int64.
        seeds: one split each.
        sizes: samples for training, validation and test; they add to n.

    Returns three pairs x (size, S, ...), y (size, S), ready for :class:`Replicas`.
    Raises ``ValueError`` if the sizes do not add up or a class would be missing.
    """
    if sum(sizes) != len(x):
        raise ValueError(f"sizes = {sizes} is not allowed; allowed: three integers that add to {len(x)}")
    parts: list[list[Tensor]] = [[], [], []]
    for seed in seeds:
        rest, test = train_test_split(np.arange(len(x)), test_size=sizes[2], random_state=seed, stratify=y)
        train, val = train_test_split(rest, test_size=sizes[1], random_state=seed, stratify=y[rest])
        for part, index in zip(parts, (train, val, test), strict=True):
            part.append(torch.as_tensor(index))
    train_i, val_i, test_i = (torch.stack(part, 1) for part in parts)
    return (x[train_i], y[train_i]), (x[val_i], y[val_i]), (x[test_i], y[test_i])
