"""Intermediate representation snapshots: negative feedback from small heads on inner layers."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from itertools import chain
from typing import Literal

import torch
from torch import Tensor, nn

from cimlib.chip.fabrication import fresh
from cimlib.chip.hardware import Hardware
from cimlib.chip.programming import program
from cimlib.devices.draws import seeded
from cimlib.devices.effects import require
from cimlib.methods.negative_feedback import Decay, NegativeFeedback, Sign

Hook = Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]


class IRS(NegativeFeedback):
    r"""Intermediate representation snapshot: feedback from small heads on inner layers.

    :math:`O_n` is the output of a head that sees what the n-th of the named modules gives, counted from
    the input. The shallowest counts most, :math:`\gamma_n = 10^{1-n}` (released code, n inferred). Heads are
    trained with the network, each from its own copy, and dropped when training ends; the network itself
    is never changed. After: the IRS columns of the paper's accuracy figure, Table 1 (number of feedbacks),
    and its ablations with reversed factors (``decay="rising"``) and clean heads (``hardware=None``).

    The minus sign is vacuous (derived): a head ends in a linear layer with symmetric initial weights and no
    initial bias, which trains to the mirrored head, with the same network, if the sign is turned. So
    ``sign=+1``, deep supervision through one softmax, must give the same accuracies but for chance.

    Args:
        heads: for each module, by its name in the network and in the order in which they run, the head
            that turns its output into logits (batch, classes): see :func:`snapshot_heads`.
        beta: β ≥ 0.
        hardware: of the heads, fresh at every pass; ``None`` leaves them digital, without errors. The
            released code gives them the network's own spread.
        seed: of the heads' errors.
        decay, sign: see :class:`NegativeFeedback`.

    Raises ``ValueError`` for arguments out of range, before training for names that the network does not
    have, and at the first batch for modules that do not run once each in the order given.
    """

    def __init__(
        self,
        heads: Mapping[str, nn.Module],
        *,
        beta: float,
        hardware: Hardware | None,
        seed: int = 0,
        decay: Decay = "falling",
        sign: Sign = -1,
    ) -> None:
        super().__init__(len(heads), beta, decay, sign)
        self.heads = dict(heads)
        self.hardware = hardware
        self.seed = seed
        self._heads: nn.ModuleList | None = None

    def setup(self, model: nn.Module) -> None:
        named = [name for name, _ in model.named_modules() if name]
        require(set(self.heads) <= set(named), "heads", list(self.heads), f"modules among {named}")
        like = next(model.parameters())
        copies = [self._head(n, head) for n, head in enumerate(self.heads.values(), 1)]
        self._heads = nn.ModuleList(copies).to(like.device, like.dtype).train()

    def _head(self, n: int, head: nn.Module) -> nn.Module:
        """A copy of head n, on hardware unless it is clean."""
        if self.hardware is None:
            return copy.deepcopy(head)
        # a layer's errors are seeded by its name: the heads' are to be no other layer's
        named = nn.Sequential(OrderedDict({f"snapshot{n}": head}))
        return fresh(program(named, self.hardware), self.seed)

    @property
    def trained(self) -> nn.ModuleList:
        """The heads in training, in order. Raises ``RuntimeError`` if there is no training."""
        if self._heads is None:
            raise RuntimeError("IRS is not set up for a network: call setup(model)")
        return self._heads

    def parameters(self, model: nn.Module) -> Iterable[nn.Parameter]:
        return chain(model.parameters(), self.trained.parameters())

    def outputs(self, model: nn.Module, x: Tensor) -> list[Tensor]:
        seen: list[tuple[str, Tensor]] = []
        with ExitStack() as hooks:
            for name in self.heads:
                hook = self._recorder(name, seen)
                hooks.enter_context(model.get_submodule(name).register_forward_hook(hook))
            base = model(x)
        ran = [name for name, _ in seen]
        require(ran == list(self.heads), "heads", list(self.heads), f"modules that run once each; ran: {ran}")
        return [base, *(head(features) for head, (_, features) in zip(self.trained, seen, strict=True))]

    @staticmethod
    def _recorder(name: str, seen: list[tuple[str, Tensor]]) -> Hook:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            seen.append((name, output))

        return hook

    def teardown(self, model: nn.Module) -> None:
        self._heads = None


def snapshot_heads(
    places: Mapping[str, tuple[int, int]],
    classes: int,
    hidden: int = 512,
    seed: int = 0,
    dims: Literal[1, 2, 3] = 2,
) -> dict[str, nn.Module]:
    """The heads of the released code for :class:`IRS`: average pooling, Linear, ReLU, Linear.

    Args:
        places: name of the module → (channels of its output, side of the square it is pooled to). The
            paper's, at full width: for VGG-8, (64, 6) after the first convolution, (128, 4) after the
            second and its pooling, (256, 3) after the fourth and its pooling; for ResNet-18, (64, 6)
            after the stem, then (64, 6), (128, 4), (256, 3) after the first three stages.
        classes: outputs.
        hidden: width of the hidden layer, 512 in the released code.
        seed: of the initial weights, Kaiming normal by fan-out with no bias (released code).
        dims: of the modules' outputs behind batch and channels: 1 behind ``Conv1d``, where the side is a
            length, 3 behind ``Conv3d`` (derived).

    Raises ``ValueError`` for sizes that are not integers ≥ 1, and other ``dims``.
    """
    pools = {1: nn.AdaptiveAvgPool1d, 2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}
    require(dims in pools, "dims", dims, "1, 2, 3")
    sizes = {"classes": classes, "hidden": hidden}
    sizes |= {f"places[{name!r}]": min(place) for name, place in places.items()}
    for name, size in sizes.items():
        whole = isinstance(size, int) and not isinstance(size, bool)
        require(whole and size >= 1, name, size, "integers ≥ 1")
    heads: dict[str, nn.Module] = {}
    for name, (channels, side) in places.items():
        generator = seeded("snapshot head", seed, name)
        first = _linear(channels * side**dims, hidden, generator)
        last = _linear(hidden, classes, generator)
        heads[name] = nn.Sequential(pools[dims](side), nn.Flatten(), first, nn.ReLU(), last)
    return heads


def _linear(fan_in: int, fan_out: int, generator: torch.Generator) -> nn.Linear:
    layer = nn.Linear(fan_in, fan_out, device="meta").to_empty(device="cpu")  # draws nothing
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", generator=generator)
    nn.init.zeros_(layer.bias)
    return layer
