"""What digital stages store and compute beside the networks of the papers: counted, nothing is trained.

Used by *DoRA calibration* and *Sets trained ahead*.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import nn
from torchvision.models import resnet50

from cimlib import Hardware, program
from cimlib.chip import DoRA, LoRA, VeRA, attach, cost, projections
from cimlib.networks import thin_resnet
from companion.fields import STRICT, Count, Scale, one_of

NETWORKS: dict[str, Callable[[int], nn.Module]] = {
    "resnet20": lambda classes: thin_resnet(20, classes),
    "resnet32": lambda classes: thin_resnet(32, classes),
    "resnet50": lambda classes: resnet50(num_classes=classes),
}
STAGES = ("dora", "lora", "vera")


@dataclass(frozen=True, config=STRICT)
class Params:
    """``network``: of He et al., for CIFAR (20, 32) or ImageNet (50), with so many ``classes``, on images of
    ``side`` × ``side``. ``stage``: behind every layer, of that ``rank``; VeRA's projections are shared."""

    scale: Scale = "quick"
    network: Annotated[str, one_of(NETWORKS)] = "resnet20"
    stage: Annotated[str, one_of(STAGES)] = "vera"
    rank: Count = 1
    classes: Count = 10
    side: Annotated[int, Field(ge=16)] = 16


SCALES: dict[str, dict[str, Any]] = {
    "quick": {},
    "desk": {"side": 32},
    "paper": {"network": "resnet50", "classes": 1000, "side": 224},
}


def data(params: Params) -> dict[str, int]:
    """Data sets used: none."""
    return {}


def run(params: Params) -> dict[str, Any]:
    """Give the network its stages, and count.

    Returns, (1,) each: ``stored``, numbers of one set, as ``kilobytes`` (32 bits each, 1,000 bytes) and as a
    ``fraction`` of the ``parameters`` of the network, %; ``overhead``, operations of the stages over the
    ``operations`` of the network for an image, %; ``statistics`` of BatchNorm, a mean and a variance a
    channel, numbers.
    """
    with torch.random.fork_rng(devices=()):
        model = NETWORKS[params.network](params.classes)
    channels = sum(part.num_features for part in model.modules() if isinstance(part, nn.BatchNorm2d))
    model = program(model, Hardware())
    shared = projections(model, params.rank)
    if params.stage == "vera":
        attach(model, lambda layer: VeRA(layer, shared))
    else:
        kind = DoRA if params.stage == "dora" else LoRA
        attach(model, lambda layer: kind(layer, params.rank))
    found = cost(model, torch.zeros(1, 3, params.side, params.side))
    return {
        "stored": [found.stored],
        "kilobytes": [found.size() / 1000],
        "parameters": [found.network],
        "fraction": [round(100 * found.fraction, 4)],
        "operations": [found.network_operations],
        "overhead": [round(100 * found.overhead, 4)],
        "statistics": [2 * channels],
    }
