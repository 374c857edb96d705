"""The speed table: what hardware costs, as ratios to plain torch in the same run.

``make bench``. Evaluation is compared with a loop that does the same arithmetic by hand; a
noise-aware training step with a digital one, and with one that adds the same noise by hand.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.utils.benchmark import Timer

from cimlib import Hardware, evaluate, fabricate, fresh, program
from cimlib.devices import Gaussian
from cimlib.models import mlp
from cimlib.replicas import Replicas

SIGMA, LOW, HIGH = 0.1, 10.0, 100.0
CHIPS, IMAGES, BATCH = 5, 1000, 128


def milliseconds(run: Callable[[], object]) -> float:
    """Median time of one call, ms."""
    return 1e3 * Timer("run()", globals={"run": run}).blocked_autorange(min_run_time=2).median


def noisy(weight: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A pair of clipped cells with additive spread, written out by hand."""
    span, peak = HIGH - LOW, weight.detach().abs().max()
    sides = [
        (LOW + span * (weight.abs() + sign * weight) / 2 / peak)
        + SIGMA * span * torch.randn(weight.shape, generator=generator)
        for sign in (1, -1)
    ]
    plus, minus = (side.clamp(LOW, HIGH) for side in sides)
    return (plus - minus) / span * peak


def read(model: nn.Module, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """All parameters of one chip, by hand."""
    return {n: noisy(p, generator) if p.dim() > 1 else p for n, p in model.named_parameters()}


def cnn() -> nn.Module:
    """A small convolutional network for 28×28 images."""
    layers = [nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU()]
    layers += [nn.MaxPool2d(2), nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(64 * 49, 128), nn.ReLU(), nn.Linear(128, 10))


def compare(name: str, model: nn.Module) -> None:
    """Print the rows of one network."""
    x, y = torch.rand(IMAGES, 1, 28, 28), torch.randint(10, (IMAGES,))
    network, generator = program(model, Hardware(Gaussian(SIGMA))), torch.Generator().manual_seed(0)

    @torch.no_grad()
    def by_hand() -> None:
        for _ in range(CHIPS):
            logits = functional_call(model, read(model, generator), (x,))
            F.cross_entropy(logits, y), (logits.argmax(1) == y).float().mean()

    ours, plain = milliseconds(lambda: evaluate(network, x, y, range(CHIPS))), milliseconds(by_hand)
    row(f"{name}: evaluation, per chip", ours / CHIPS, plain / CHIPS, "the same by hand")

    def step(trained: nn.Module, forward: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[], None]:
        optimizer = torch.optim.Adam(trained.parameters())

        def run() -> None:
            optimizer.zero_grad()
            F.cross_entropy(forward(x[:BATCH]), y[:BATCH]).backward()
            optimizer.step()

        return run

    aware = milliseconds(step(fresh(network), network))
    by_hand_step = step(model, lambda x: functional_call(model, read(model, generator), (x,)))
    row(f"{name}: noise-aware step", aware, milliseconds(by_hand_step), "the same by hand")
    row(f"{name}: noise-aware step", aware, milliseconds(step(model, model)), "digital step")


def compare_replicas(count: int = 200) -> None:
    """Many Iris networks at once against one after another."""
    chips = [fabricate(program(mlp(4, 8, 3, seed=s), Hardware(Gaussian(SIGMA))), s) for s in range(count)]
    together, x = Replicas(chips), torch.rand(30, count, 4)
    with torch.no_grad():
        ours = milliseconds(lambda: together(x))
        loop = milliseconds(lambda: [chip(x[:, s]) for s, chip in enumerate(chips)])
    row(f"{count} Iris chips at once", ours, loop, "one after another")


def row(what: str, ours: float, reference: float, name: str) -> None:
    """One line of the table."""
    print(f"{what:36s} {ours:9.2f} ms {reference:9.2f} ms {ours / reference:6.2f} × {name}")


if __name__ == "__main__":
    torch.manual_seed(0)
    print(f"{torch.get_num_threads()} threads, batch {BATCH}, {IMAGES} images; ratios below 1 are faster")
    compare("MLP 784-256-10", mlp(784, 256, 10, seed=0))
    compare("CNN 16-32-64", cnn())
    compare_replicas()
    sys.stdout.flush()
