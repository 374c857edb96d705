"""The speed table: what hardware costs, as ratios to plain torch in the same run.

``make bench``. Evaluation is compared with a loop that does the same arithmetic by hand; a noise-aware
training step with a digital one, of one layer in every array too, and with one that adds the same noise by
hand; amplifiers likewise. Wires are compared with one solution of the same nodal equations for one input by
scipy, a mapping with the assignment problem in it. The two sides of a ratio run in turns, because a machine
that is shared changes its speed from one second to the next; quartiles of the ratio say by how much.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from scipy import sparse
from scipy.optimize import linear_sum_assignment
from scipy.sparse.linalg import spsolve
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.utils.benchmark import Timer

from cimlib import Hardware, evaluate, fabricate, fresh, presets, program
from cimlib.arrays import BitSliced, DoubleArray, LevelSpread, SignedArray, SingleArray
from cimlib.circuits import OpAmp, crossbar_currents, effective_conductance
from cimlib.devices import Device, Gaussian, Lognormal, StuckAt
from cimlib.methods import mapped, row_costs
from cimlib.networks import mlp, vgg8
from cimlib.training import Replicas

SIGMA, LOW, HIGH = 0.1, 10.0, 100.0
CHIPS, IMAGES, BATCH = 5, 1000, 128
Run = Callable[[], object]
AMPLIFIERS = OpAmp(gain=1000.0, offset=5e-3, rails=(0.05, 0.95))


def in_turns(runs: Sequence[Run], seconds: float = 3.0, turn: float = 0.02) -> np.ndarray:
    """Times of one call, ms, (rounds, runs): each round gives every run ``turn`` seconds, or one call."""
    timers = [Timer("run()", globals={"run": run}) for run in runs]
    numbers = [max(1, round(turn / timer.timeit(3).median)) for timer in timers]
    rounds, start = list[list[float]](), time.perf_counter()
    while len(rounds) < 9 or time.perf_counter() - start < seconds:
        rounds.append([1e3 * timer.timeit(n).median for timer, n in zip(timers, numbers, strict=True)])
    return np.array(rounds)


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


def amplified(model: nn.Sequential, chip: int, x: torch.Tensor) -> torch.Tensor:
    """A perceptron in pairs of arrays behind amplifiers with rails, written out by hand."""
    generator, gain = torch.Generator().manual_seed(chip), AMPLIFIERS.gain
    low, high = ((rail - AMPLIFIERS.v_0) / AMPLIFIERS.span for rail in AMPLIFIERS.rails)

    def amplify(ideal: torch.Tensor, noise_gain: torch.Tensor | float) -> torch.Tensor:
        offset = AMPLIFIERS.offset / AMPLIFIERS.span * torch.randn(ideal.shape[1], generator=generator)
        return ((ideal + noise_gain * offset) / (1 + noise_gain / gain)).clamp(low, high)

    for layer in model:
        if isinstance(layer, nn.Linear):
            w, peak = layer.weight, layer.weight.detach().abs().max()
            load = (HIGH - LOW) / peak
            sides = [LOW + load * (w.abs() + sign * w) / 2 for sign in (1, -1)]
            plus, minus = (amplify(F.linear(x, -g / load), 1 + g.sum(1) / load) for g in sides)
            x = amplify(minus - plus, 2.0)
        elif isinstance(layer, nn.ReLU):
            offset = AMPLIFIERS.offset / AMPLIFIERS.span * torch.randn(x.shape[1], generator=generator)
            x = amplify(torch.where(x + offset > 0, x, 0.0), 1.0)
        else:
            x = layer(x)
    return x


def cnn() -> nn.Module:
    """A small convolutional network for 28×28 images."""
    layers = [nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU()]
    layers += [nn.MaxPool2d(2), nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(64 * 49, 128), nn.ReLU(), nn.Linear(128, 10))


def step(
    trained: nn.Module,
    forward: Callable[[torch.Tensor], torch.Tensor],
    x: torch.Tensor,
    y: torch.Tensor,
    batch: int = BATCH,
) -> Callable[[], None]:
    """One step of training on the first batch."""
    optimizer = torch.optim.Adam(trained.parameters())

    def run() -> None:
        optimizer.zero_grad()
        F.cross_entropy(forward(x[:batch]), y[:batch]).backward()
        optimizer.step()

    return run


def compare(name: str, model: nn.Module) -> None:
    """Print the rows of one network."""
    x, y = torch.rand(IMAGES, 1, 28, 28), torch.randint(10, (IMAGES,))
    network, generator = program(model, Hardware(Gaussian(SIGMA))), torch.Generator().manual_seed(0)

    @torch.no_grad()
    def by_hand() -> None:
        for _ in range(CHIPS):
            logits = functional_call(model, read(model, generator), (x,))
            F.cross_entropy(logits, y), (logits.argmax(1) == y).float().mean()

    row(f"{name}: evaluation", lambda: evaluate(network, x, y, range(CHIPS)), by_hand, "the same by hand")

    aware = step(fresh(network), network, x, y)
    by_hand_step = step(model, lambda x: functional_call(model, read(model, generator), (x,)), x, y)
    row(f"{name}: noise-aware step", aware, by_hand_step, "the same by hand")
    row(f"{name}: noise-aware step", aware, step(model, model, x, y), "digital step")


def compare_whole_weights() -> None:
    """VGG-8 of a quarter of the width, one error a weight, against the published arithmetic by hand."""
    model, design = vgg8(channels=1, width=0.25), presets("nft-rram1")
    x, y, generator = torch.rand(BATCH, 1, 32, 32), torch.randint(10, (BATCH,)), torch.Generator()

    def by_hand(x: torch.Tensor) -> torch.Tensor:
        weights = {n: p for n, p in model.named_parameters() if p.dim() > 1}
        noise = {
            n: torch.randn(w.shape, generator=generator) * w.abs().max().item() for n, w in weights.items()
        }
        return functional_call(model, {n: w + 0.077763 * noise[n] for n, w in weights.items()}, (x,))

    network = fresh(program(model, design))
    aware = step(network, network, x, y)
    row("VGG-8 / 4: noise-aware step", aware, step(model, by_hand, x, y), "the same by hand")
    row("VGG-8 / 4: noise-aware step", aware, step(model, model, x, y), "digital step")


def compare_amplifiers(name: str, model: nn.Sequential) -> None:
    """Amplifiers with offsets and rails, evaluated chip by chip and trained on one held chip."""
    x, y = torch.rand(IMAGES, 1, 28, 28), torch.randint(10, (IMAGES,))
    network = program(model, Hardware(circuit=AMPLIFIERS))

    @torch.no_grad()
    def by_hand() -> None:
        for chip in range(CHIPS):
            logits = amplified(model, chip, x)
            F.cross_entropy(logits, y), (logits.argmax(1) == y).float().mean()

    chips = range(CHIPS)
    row(
        f"{name}: evaluation, amplifiers", lambda: evaluate(network, x, y, chips), by_hand, "the same by hand"
    )
    ours = step(fabricate(network, 0), network, x, y)
    plain = step(model, lambda x: amplified(model, 0, x), x, y)
    row(f"{name}: step, amplifiers", ours, plain, "the same by hand")
    row(f"{name}: step, amplifiers", ours, step(model, model, x, y), "digital step")


def compare_wires(n: int, ohm: float = 1.0) -> None:
    """An array of n × n cells: a batch of currents, and all its effective conductances."""
    g = 1e-5 + 9e-5 * torch.rand(n, n, dtype=torch.float64)
    v = 0.2 * torch.rand(BATCH, n, dtype=torch.float64)
    line = sparse.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(n, n)).tolil()
    line[-1, -1] = 1.0  # the far end is open
    cell, alone = sparse.diags_array(g.numpy().ravel()), sparse.eye_array(n)
    word, bit = sparse.kron(alone, line) / ohm, sparse.kron(line.tocsr()[::-1, ::-1], alone) / ohm
    matrix = sparse.block_array([[word + cell, -cell], [-cell, bit + cell]]).tocsc()
    driven = np.zeros((2, n, n))
    driven[0, :, 0] = v[0].numpy() / ohm
    volt = spsolve(matrix, driven.ravel()).reshape(2, n, n)
    np.testing.assert_allclose(volt[1, -1] / ohm, crossbar_currents(g, v[:1], ohm, ohm)[0], rtol=1e-6)

    wires, name = f"wires {n}×{n}, {ohm:g} Ω", "one input by spsolve"
    solved = partial(spsolve, matrix, driven.ravel())
    row(f"{wires}: {BATCH} inputs", lambda: crossbar_currents(g, v, ohm, ohm), solved, name)
    row(f"{wires}: effective", lambda: effective_conductance(g, ohm, ohm), solved, name)


def compare_replicas(count: int = 200) -> None:
    """Many Iris networks at once against one after another."""
    chips = [fabricate(program(mlp(4, 8, 3, seed=s), Hardware(Gaussian(SIGMA))), s) for s in range(count)]
    together, x = Replicas(chips), torch.rand(30, count, 4)

    def one_by_one() -> list[torch.Tensor]:
        return [chip(x[:, s]) for s, chip in enumerate(chips)]

    with torch.no_grad():
        row(f"{count} Iris chips at once", partial(together, x), one_by_one, "one after another")


def compare_mapping(n: int) -> None:
    """A layer of n × n weights laid out on its chip: faults alone, and a spread as well."""
    known = {"faults": StuckAt(0.02, 0.09), "faults and spread": Device(Lognormal(0.5), StuckAt(0.02, 0.09))}
    for name, device in known.items():
        chip = fabricate(program(nn.Linear(n, n), Hardware(device)), 0)
        costs = row_costs(chip)[0].double().numpy()
        what = f"mapping {n}×{n}, {name}"
        row(what, partial(mapped, chip), partial(linear_sum_assignment, costs), "the assignment alone")


ARRAYS = {
    "one-sided pair": Hardware(Gaussian(SIGMA)),
    "one-sided pair, not clipped": Hardware(Gaussian(SIGMA, clip=False)),
    "two-sided pair": Hardware(Gaussian(SIGMA), DoubleArray(mapping="two-sided")),
    "disconnected": Hardware(Gaussian(SIGMA), DoubleArray(g_min=0.0, inactive="disconnected")),
    "zero state": Hardware(Gaussian(SIGMA), DoubleArray(zero_state=True)),
    "single, column": Hardware(Gaussian(SIGMA), SingleArray()),
    "single, constant term": Hardware(Gaussian(SIGMA), SingleArray(reference="constant-term")),
    "bit slices": Hardware(Gaussian(SIGMA), BitSliced()),
    "whole weights": Hardware(LevelSpread(SIGMA), SignedArray()),
}


def compare_arrays(inputs: int = 784, outputs: int = 256, batch: int = 256) -> None:
    """One layer with fresh errors in every array, on one thread, against the digital one. The limit is a loop
    by hand that draws as many numbers; aihwkit, where it is installed, is a peer."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    x, y = torch.rand(batch, inputs), torch.randint(outputs, (batch,))
    digital, generator = nn.Linear(inputs, outputs), torch.Generator()

    def limit(cells: int) -> Callable[[torch.Tensor], torch.Tensor]:
        def forward(x: torch.Tensor) -> torch.Tensor:
            z = torch.randn((cells, outputs, inputs), generator=generator)
            error = z[0] - z[1] if cells == 2 else z[0]
            spread = SIGMA * digital.weight.detach().abs().max()
            return F.linear(x, digital.weight + spread * error, digital.bias)

        return forward

    def runs(trained: nn.Module, forward: Callable[[torch.Tensor], torch.Tensor]) -> dict[str, Run]:
        one_step = step(trained, forward, x, y, batch)
        return {"step": one_step, "forward": torch.no_grad()(lambda: forward(x))}

    models = {name: fresh(program(nn.Linear(inputs, outputs), own)) for name, own in ARRAYS.items()}
    measured = {f"limit, {cells} a weight": runs(digital, limit(cells)) for cells in (1, 2)}
    measured |= {name: runs(model, model) for name, model in models.items()}
    try:
        from aihwkit.nn import AnalogLinear
    except ImportError:
        print("aihwkit is not installed: no peer")
    else:
        peer = AnalogLinear(inputs, outputs)
        measured["aihwkit, AnalogLinear"] = runs(peer, peer)
    references = runs(digital, digital)
    for name, ours in measured.items():
        for what, reference in references.items():
            row(f"{name}: {what}", ours[what], reference, f"digital {what}, one thread")
    torch.set_num_threads(threads)


def row(what: str, ours: Run, reference: Run, name: str) -> None:
    """One line of the table: medians, and median and quartiles of the ratio."""
    times = in_turns((ours, reference))
    low, ratio, high = np.quantile(times[:, 0] / times[:, 1], (0.25, 0.5, 0.75))
    ms, by = np.median(times, 0)
    print(f"{what:36s} {ms:9.2f} ms {by:9.2f} ms {ratio:6.2f} ({low:.2f}–{high:.2f}) × {name}", flush=True)


if __name__ == "__main__":
    torch.manual_seed(0)
    print(f"{torch.get_num_threads()} threads, batch {BATCH}, {IMAGES} images; ratios below 1 are faster")
    print("medians of rounds in turns; quartiles of the ratio in parentheses")
    compare_arrays()
    compare("MLP 784-256-10", mlp(784, 256, 10, seed=0))
    compare("CNN 16-32-64", cnn())
    compare_whole_weights()
    compare_amplifiers("MLP 784-256-10", mlp(784, 256, 10, bias="row", seed=0))
    for size in (64, 128):
        compare_wires(size)
    compare_replicas()
    for size in (128, 512):
        compare_mapping(size)
