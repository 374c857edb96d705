"""Each row of the table in ``pages/your_own_network.md``: what works, what is rewritten, what is refused."""

import copy
import io
import re
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.distributed
from fused import flat
from in_order import text
from torch import nn
from torch.ao.quantization import quantize_dynamic
from torch.nn import functional as F
from torch.nn.utils import parametrizations, parametrize, prune
from torch.optim.swa_utils import AveragedModel
from torch.utils.checkpoint import checkpoint
from torchvision.models import VisionTransformer, googlenet, swin_t, swin_v2_t

from cimlib import Hardware, evaluate, fabricate, fit, fresh, program, summary
from cimlib.arrays import DoubleArray
from cimlib.chip import VeRA, attach, crossbars, plain_state, projections
from cimlib.devices import Gaussian, StuckAt
from cimlib.methods import mapped
from cimlib.networks import unfused
from cimlib.training import CrossEntropy

NOISY = Hardware(Gaussian(0.2))
ROWS = {}


def row(name, verdict, mark=()):
    """The test of the row called ``name``."""

    def kept(test):
        assert name not in ROWS
        ROWS[name] = SimpleNamespace(verdict=verdict, test=test, mark=mark)
        return test

    return kept


def drawn(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).eval()


X, Y = drawn(24, 4), torch.arange(24) % 3


def on_chip(model=None, chip=3):
    return fabricate(program(network() if model is None else model, NOISY), chip)


@torch.no_grad()
def works(model, *inputs, arrays=None):
    """Without effects bit for bit the digital network; errors of every single layer reach the output."""
    model = model.eval()
    digital = flat(model(*inputs))
    ideal = fabricate(program(model, Hardware()), 0)
    assert all(map(torch.equal, flat(ideal(*inputs)), digital))
    names = [layer.name for layer in crossbars(ideal)]
    assert arrays is None or len(names) == arrays
    for name in names[:: max(1, len(names) // 6)]:
        found = flat(fabricate(program(model, NOISY, layers=[name]), 0)(*inputs))
        assert not torch.allclose(found[0], digital[0], rtol=1e-4, atol=1e-7), name


@torch.no_grad()
def rewritten(model, *inputs, arrays):
    """The rewritten network computes the same up to rounding, and works."""
    model = model.eval()
    made = unfused(model)
    for found, expected in zip(flat(made(*inputs)), flat(model(*inputs)), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    works(made, *inputs, arrays=arrays)


def refused(call, *words, error=ValueError):
    with pytest.raises(error) as caught:
        call()
    assert all(word in str(caught.value) for word in words), str(caught.value)


def saved(model):
    """What a file of its ``state_dict`` gives back."""
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def gradients_of(model, call=None):
    """Of the input and the parameters, after two passes."""
    inputs = X.clone().requires_grad_()
    for _ in range(2):
        (model if call is None else call)(inputs).square().sum().backward()
    return [inputs.grad, *(p.grad for p in model.parameters())]


# --- modules --------------------------------------------------------------------------------------


@row("`nn.Linear`", "works")
def _():
    works(nn.Linear(4, 3), X, arrays=1)
    works(nn.Linear(4, 3, bias=False), drawn(2, 5, 4), arrays=1)


@row("`nn.Conv1d`, `nn.Conv2d`, `nn.Conv3d`", "works")
def _():
    for dims, kind in enumerate((nn.Conv1d, nn.Conv2d, nn.Conv3d), 1):
        works(kind(4, 6, 3, padding=1), drawn(2, 4, *[5] * dims), arrays=1)


@row("`nn.ConvTranspose1d`, `nn.ConvTranspose2d`, `nn.ConvTranspose3d`", "works")
def _():
    for dims, kind in enumerate((nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d), 1):
        works(kind(4, 6, 3, stride=2), drawn(2, 4, *[5] * dims), arrays=1)


@row("a grouped or depthwise convolution", "works")
def _():
    for kind in (nn.Conv2d, nn.ConvTranspose2d):
        works(kind(4, 6, 3, groups=2), drawn(2, 4, 5, 5))
        works(kind(4, 4, 3, groups=4), drawn(2, 4, 5, 5))
    assert summary(on_chip(nn.Conv2d(4, 4, 3, groups=4))).rows[0].arrays == 4 * 2


@row("`nn.Embedding`, `nn.BatchNorm2d`, `nn.LayerNorm`", "works")
def _():
    works(nn.Sequential(nn.Embedding(9, 4), nn.LayerNorm(4), nn.Linear(4, 3)), torch.tensor([1, 8]), arrays=1)
    normed = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    works(normed, drawn(2, 1, 5, 5), arrays=1)
    assert summary(on_chip(normed)).digital == {}


@row("`nn.LSTM`, `nn.GRU`, `nn.RNN`", "rewritten")
def _():
    for kind in (nn.LSTM, nn.GRU, nn.RNN):
        rewritten(kind(4, 5, 2, bidirectional=True), drawn(3, 2, 4), arrays=8)
        with pytest.warns(UserWarning, match=rf"stay digital: 1 \({kind.__name__}.*unfused"):
            program(nn.Sequential(nn.Linear(4, 4), kind(4, 5)), NOISY)


class Steps(nn.Module):
    def __init__(self, cell):
        super().__init__()
        self.cell = cell

    def forward(self, x):
        return self.cell(x, self.cell(x))


@row("`nn.LSTMCell`, `nn.GRUCell`, `nn.RNNCell`", "rewritten")
def _():
    for kind in (nn.LSTMCell, nn.GRUCell, nn.RNNCell):
        rewritten(Steps(kind(4, 5)), drawn(2, 4), arrays=2)
        with pytest.warns(UserWarning, match=rf"stay digital: 1 \({kind.__name__}.*unfused"):
            program(nn.Sequential(nn.Linear(4, 4), kind(4, 5)), NOISY)


@row("`nn.MultiheadAttention`", "rewritten")
def _():
    attention = nn.MultiheadAttention(4, 2)
    refused(lambda: program(attention, NOISY), "program(unfused(model), hardware)", error=TypeError)
    rewritten(attention, *[drawn(3, 2, 4)] * 3, arrays=4)


@row("`nn.TransformerEncoder`, `nn.TransformerEncoderLayer`", "rewritten")
def _():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    for model, arrays in ((layer, 6), (nn.TransformerEncoder(layer, 2), 12)):
        refused(lambda model=model: program(model, NOISY), "program(unfused(model), hardware)")
        rewritten(model, drawn(2, 3, 8), arrays=arrays)


@row("`nn.Transformer`, `nn.TransformerDecoderLayer`", "rewritten")
def _():
    rewritten(nn.TransformerDecoderLayer(8, 2, 16), drawn(3, 2, 8), drawn(5, 2, 8), arrays=10)
    model = nn.Transformer(8, 2, 1, 1, 16, batch_first=True)
    rewritten(model, drawn(2, 3, 8), drawn(2, 5, 8), arrays=16)


@row("torchvision's `swin_t`, `swin_v2_t`", "rewritten")
def _():
    for make in (swin_t, swin_v2_t):
        model = make(weights=None, num_classes=3)
        refused(lambda model=model: program(model, NOISY), "program(unfused(model), hardware)")
        with torch.no_grad():
            assert fabricate(program(unfused(model), NOISY), 0)(drawn(1, 3, 32, 32)).shape == (1, 3)


@row("torchvision's `vit_b_16`", "rewritten")
def _():
    model = VisionTransformer(32, 16, 2, 4, 16, 32, num_classes=3)  # vit_b_16 with other sizes
    nn.init.normal_(model.heads.head.weight)
    refused(lambda: program(model, NOISY), "program(unfused(model), hardware)", error=TypeError)
    rewritten(model, drawn(1, 3, 32, 32), arrays=14)


@row("`unfused` of a subclass of one of these", "refused")
def _():
    own = type("Own", (nn.LSTM,), {})(4, 5)
    refused(lambda: unfused(own), "Own", "rewrite it with nn.Linear", error=TypeError)


@row("a layer that is called twice", "works")
def _():
    layer = nn.Linear(4, 4)
    works(nn.Sequential(layer, nn.ReLU(), layer), X, arrays=1)


def tied():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.Sigmoid(), nn.Linear(4, 4))
    model[2].weight = model[0].weight
    return model


@row("two layers with one weight", "works")
def _():
    works(tied(), X, arrays=2)
    chip = on_chip(tied())
    assert chip[0].weight is chip[2].weight
    assert not torch.equal(chip[0].read()[0], chip[2].read()[0])


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.words, self.tags = nn.Embedding(9, 4), nn.Linear(4, 9, bias=False)
        self.tags.weight = self.words.weight

    def forward(self, x):
        return self.tags(self.words(x))


@row("a `Linear` with the weight of an `nn.Embedding`", "works")
def _():
    works(Tagger(), torch.tensor([1, 8]), arrays=1)
    chip = on_chip(Tagger())
    assert chip.words.weight is chip.tags.weight


@row("two layers with one weight, trained in the array", "refused")
def _():
    hardware = Hardware(Gaussian(0.2), DoubleArray(w_max=1.0))
    refused(lambda: program(tied(), hardware, train="conductance"), "'0'", "its own")
    apart = tied()
    apart[2].weight = nn.Parameter(apart[2].weight.detach().clone())
    program(apart, hardware, train="conductance")


@row("a pruned layer", "refused")
def _():
    model = network()
    prune.random_unstructured(model[0], "weight", 0.5)
    refused(lambda: program(model, NOISY), "'0'", "prune.remove")
    prune.remove(model[0], "weight")
    works(model, X, arrays=2)


@row("a layer pruned after `program`", "works")
def _():
    chip, model = on_chip(), network()
    for pruned in (chip, model):
        prune.l1_unstructured(pruned[0], "weight", 0.5)
    prune.remove(model[0], "weight")
    assert torch.equal(chip(X), on_chip(model)(X))
    found, expected = (evaluate(m, X, Y, chips=range(3)) for m in (chip, on_chip(model)))
    assert (found.ekl == expected.ekl).all()


@row("`weight_norm`, `spectral_norm` as hooks", "refused")
def _():
    for normed, remove in (("weight_norm", "remove_weight_norm"), ("spectral_norm", "remove_spectral_norm")):
        model = network()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            getattr(nn.utils, normed)(model[0])
        refused(lambda model=model: program(model, NOISY), "'0'", f"torch.nn.utils.{remove}(layer)")
        getattr(nn.utils, remove)(model[0])
        works(model, X, arrays=2)


@row("`weight_norm`, `spectral_norm` as parametrisations", "refused")
def _():
    for normed in (parametrizations.weight_norm, parametrizations.spectral_norm):
        model = network()
        normed(model[0])
        call = "torch.nn.utils.parametrize.remove_parametrizations(layer, 'weight')"
        refused(lambda model=model: program(model, NOISY), "'0'", call, error=TypeError)
        parametrize.remove_parametrizations(model[0], "weight")
        works(model, X, arrays=2)


@row("a lazy layer", "refused")
def _():
    model = nn.Sequential(nn.LazyLinear(3))
    refused(lambda: program(model, NOISY), "LazyLinear", "call the model once before", error=TypeError)
    model(X)
    works(model, X, arrays=1)


@row("a quantised layer", "refused")
def _():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        inner = quantize_dynamic(nn.Sequential(nn.Linear(4, 4)), {nn.Linear})
    for model, name in ((inner, "'0'"), (nn.Sequential(inner, nn.Linear(4, 3)), "'0.0'")):
        refused(lambda model=model: program(model, NOISY), name, "quantised", error=TypeError)


@row("a subclass of `nn.Linear`", "refused")
def _():
    own = type("Own", (nn.Linear,), {})(4, 3)
    refused(lambda: program(nn.Sequential(own), NOISY), "'0'", "Own", "a plain Linear", error=TypeError)


class Around(nn.Module):
    """Computes with the weight of a layer that it does not call, or not at all with it."""

    def __init__(self, uses, traced):
        super().__init__()
        self.a, self.b, self.uses, self.traced = nn.Linear(4, 4), nn.Linear(4, 3), uses, traced

    def forward(self, x):
        if not self.traced and float(x.sum()) == 0:  # on which torch.fx gives up
            return x
        return self.b(F.linear(x, self.a.weight, self.a.bias) if self.uses else x)


def going_round(uses):
    refused(lambda: program(Around(uses, traced=True), NOISY), "'a'", "program(..., layers=...)")
    unseen = program(Around(uses, traced=False), NOISY)
    for call in (
        lambda: evaluate(unseen, X, Y, chips=[0]),
        lambda: fit(fresh(unseen), CrossEntropy(), (X, Y), epochs=1, lr=0.1, seed=0),
    ):
        refused(call, "['a']", "program(..., layers=...)", error=RuntimeError)
    for traced in (True, False):
        assert evaluate(program(Around(uses, traced), NOISY, layers=["b"]), X, Y, chips=[0]).chips == (0,)


@row("`F.linear` with `layer.weight`", "refused")
def _():
    going_round(uses=True)


@row("a layer that is never called", "refused")
def _():
    going_round(uses=False)


@row("a layer that an object keeps besides, in a plain list or dictionary", "refused")
def _():
    class Steps(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = nn.Linear(4, 4)
            self.steps = [self.cell] * 3

        def forward(self, x):
            for step in self.steps:
                x = step(x)
            return self.cell(x)

    refused(lambda: program(Steps(), NOISY), "steps = ", "layer 'cell' besides", "nn.ModuleList")
    model = Steps()
    model.steps = nn.ModuleList(model.steps)
    chip, ideal = on_chip(model), fabricate(program(model, Hardware()), 0)
    assert torch.equal(ideal(X), model(X)) and not torch.allclose(chip(X), model(X))


@row("auxiliary heads, as in `googlenet`", "refused")
def _():
    images, labels = drawn(1, 3, 32, 32), torch.tensor([0])
    model = googlenet(weights=None, num_classes=3, init_weights=False)
    refused(
        lambda: evaluate(program(model, NOISY), images, labels, chips=[0]), "'aux1.fc1'", error=RuntimeError
    )
    called = [layer.name for layer in crossbars(program(model, NOISY)) if "aux" not in layer.name]
    assert evaluate(program(model, NOISY, layers=called), images, labels, chips=[0]).chips == (0,)


@row("`torch.jit.script` and `torch.jit.trace`", "refused")
def _():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripts = torch.jit.script(network()), nn.Sequential(torch.jit.trace(nn.Linear(4, 3), X))
    for script in scripts:
        refused(
            lambda script=script: program(script, NOISY),
            "script",
            "the module that it was made from",
            error=TypeError,
        )


# --- wrappers, hooks, checkpointing ---------------------------------------------------------------


@pytest.fixture
def one_process(tmp_path):
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/s", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@row("`nn.DataParallel`, `DistributedDataParallel`, `AveragedModel` before `program`", "refused")
def _():
    for wrap in (nn.DataParallel, nn.parallel.DistributedDataParallel, AveragedModel):
        wrapped = wrap(network())
        refused(
            lambda wrapped=wrapped: program(wrapped, NOISY), wrap.__name__, "program that", error=TypeError
        )
        works(wrapped.module, X, arrays=2)


@row("`torch.compile` before `program`", "refused")
def _():
    compiled = torch.compile(network(), backend="eager")
    refused(lambda: program(compiled, NOISY), "OptimizedModule", "(._orig_mod)", error=TypeError)
    works(compiled._orig_mod, X, arrays=2)


def replica(model):
    """``model``, a layer, as ``nn.DataParallel`` copies it to another device."""
    copied = model._replicate_for_data_parallel()
    for name, parameter in model._parameters.items():
        setattr(copied, name, parameter.detach().clone())
    for name, buffer in model._buffers.items():
        copied._buffers[name] = buffer.clone()
    return copied


@row("`nn.DataParallel` around a held chip", "works")
def _():
    chip, layer = on_chip(), on_chip(nn.Linear(4, 3))
    assert torch.equal(nn.DataParallel(chip)(X), chip(X))
    assert torch.equal(replica(layer)(X), layer(X))


@row("`nn.DataParallel` around fresh errors", "refused")
def _():
    layer = fresh(program(nn.Linear(4, 3), NOISY))
    refused(
        lambda: replica(layer)(X), "DistributedDataParallel", "fabricate(model, chip)", error=RuntimeError
    )


@row("`DistributedDataParallel` around the programmed network", "works")
def _():
    chip, noisy, alone = on_chip(), *(fresh(program(network(), NOISY), 1) for _ in range(2))
    parallel = [nn.parallel.DistributedDataParallel(model) for model in (chip, noisy)]
    assert torch.equal(parallel[0](X), chip(X))
    for model in (parallel[1], alone):
        F.cross_entropy(model(X), Y).backward()
    gradients = [[p.grad for p in model.parameters()] for model in (noisy, alone)]
    torch.testing.assert_close(*gradients)
    assert (evaluate(parallel[1].module, X, Y, [0, 1]).ekl == evaluate(chip, X, Y, [0, 1]).ekl).all()


@row("`torch.compile` of the programmed network", "works", pytest.mark.compiles)
def _():
    chip, alone = on_chip(), fresh(program(network(), NOISY), 1)
    compiled = torch.compile(chip, backend="eager")
    expected = evaluate(on_chip(), X, Y, chips=range(3))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The .grad attribute")  # torch's compiler looks at it
        for number in (3, 4):
            assert torch.equal(fabricate(compiled, number)(X), on_chip(chip=number)(X))
        assert (evaluate(compiled, X, Y, chips=range(3)).ekl == expected.ekl).all()
        fresh(compiled, 1)
        torch.testing.assert_close(gradients_of(compiled), gradients_of(alone))
        assert torch.equal(compiled(X), alone(X))


@row("`AveragedModel` of the programmed network", "works")
def _():
    noisy, mean = fresh(program(network(), NOISY)), network()
    averaged = AveragedModel(noisy)
    for factor in (1.0, 3.0):
        noisy[0].weight.data.copy_(factor * network()[0].weight)
        averaged.update_parameters(noisy)
    mean[0].weight.data.mul_(2.0)
    expected = evaluate(on_chip(mean), X, Y, chips=range(3))
    np.testing.assert_allclose(evaluate(averaged, X, Y, chips=range(3)).ekl, expected.ekl, rtol=1e-5)


class Twice(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return 2 * self.inner(x)


@row("a module of your own around the programmed network", "works")
def _():
    assert torch.equal(Twice(on_chip())(X), 2 * on_chip()(X))
    own, alone = Twice(fresh(program(network(), NOISY), 1)), fresh(program(network(), NOISY), 1)
    for _ in range(3):
        assert torch.equal(own(X), 2 * alone(X))
    found = evaluate(own, X, Y, chips=range(3)).accuracy
    assert (found == evaluate(on_chip(), X, Y, chips=range(3)).accuracy).all()


class Saving(nn.Module):
    """Its hidden part is computed again in the backward pass."""

    def __init__(self, options):
        super().__init__()
        torch.manual_seed(0)
        self.hidden, self.out, self.options = nn.Linear(4, 8), nn.Linear(8, 3), options

    def forward(self, x):
        again = checkpoint(self.hidden, x, **self.options) if self.options else self.hidden(x)
        return self.out(again.relu())


@row("gradient checkpointing", "works")
def _():
    for held in (True, False):
        found = []
        for options in ({}, {"use_reentrant": False}, {"use_reentrant": True}):
            model = program(Saving(options), NOISY)
            found.append(gradients_of(fabricate(model, 3) if held else fresh(model, 1)))
        torch.testing.assert_close(found[1:], [found[0]] * 2)


@row("gradient checkpointing of the whole network, from outside", "works")
def _():
    for prepare, reentrant in ((fabricate, True), (fabricate, False), (fresh, False)):
        model, plain = (prepare(program(network(), NOISY), 1) for _ in range(2))
        found = gradients_of(model, lambda x, m=model, r=reentrant: checkpoint(m, x, use_reentrant=r))
        torch.testing.assert_close(found, gradients_of(plain))


@row(
    "several passes whose parts are checkpointed with `use_reentrant=True`, or chips held in between",
    "refused",
)
def _():
    for reentrant in (True, False):
        model = nn.Sequential(network(), nn.Linear(3, 3))
        chip = fresh(program(Parts(model, reentrant), NOISY), 1)
        loss = (chip(X) + chip(X)).sum()
        if reentrant:
            refused(loss.backward, "use_reentrant=False", error=RuntimeError)
        else:
            loss.backward()


class Parts(nn.Module):
    """The first part of a network checkpointed, the second not."""

    def __init__(self, parts, reentrant):
        super().__init__()
        self.parts, self.reentrant = parts, reentrant

    def forward(self, x):
        x = x.clone().requires_grad_()
        return self.parts[1](checkpoint(self.parts[0], x, use_reentrant=self.reentrant))


@row("two networks programmed apart, in one model", "refused")
def _():
    apart = nn.ModuleList([program(network(), NOISY) for _ in range(2)])
    refused(lambda: fabricate(apart, 3), "several programmed networks", "program them as one")
    together = fabricate(program(nn.ModuleList([network(), network()]), NOISY), 3)
    assert not torch.equal(together[0](X), together[1](X))
    each = [fabricate(one, chip) for chip, one in enumerate(apart)]
    assert not torch.equal(each[0](X), each[1](X))


@row("hooks and buffers on a layer", "works")
def _():
    model, seen = network(), []
    model[0].register_forward_hook(lambda layer, x, y: seen.append(y))
    model[0].register_buffer("mine", torch.ones(2))
    chip = on_chip(model)
    chip(X)
    assert len(seen) == 1 and torch.equal(chip[0].mine, torch.ones(2)) and "0.mine" in chip.state_dict()


# --- precisions and values ------------------------------------------------------------------------


@row("float64", "works")
def _():
    works(network().double(), X.double(), arrays=2)
    torch.testing.assert_close(on_chip(network().double())(X.double()).float(), on_chip()(X))


@row("float16 and bfloat16", "refused")
def _():
    for dtype in (torch.float16, torch.bfloat16):
        refused(lambda dtype=dtype: program(network().to(dtype), NOISY), str(dtype), "model.float()")
        late = on_chip().to(dtype)
        refused(lambda late=late, dtype=dtype: late(X.to(dtype)), "model.float()", "torch.autocast")
        assert torch.equal(late.float()(X), late(X))


@row("`torch.autocast`", "works")
def _():
    chip = on_chip()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, weight = chip(X), chip[0].read()[0]
        coarse = evaluate(chip, X, Y, chips=range(3))
    assert found.dtype == torch.bfloat16 and torch.equal(weight, chip[0].read()[0])
    torch.testing.assert_close(found.float(), chip(X), rtol=0.02, atol=0.02)
    np.testing.assert_allclose(coarse.ekl, evaluate(chip, X, Y, chips=range(3)).ekl, rtol=0.05)


@row("another default dtype", "works")
def _():
    expected = on_chip()(X)
    model = network()
    torch.set_default_dtype(torch.float64)
    try:
        assert torch.equal(on_chip(model)(X), expected)
    finally:
        torch.set_default_dtype(torch.float32)


@row("NaN or infinite weights, inputs or outputs", "refused")
def _():
    for value in (float("nan"), float("inf")):
        model, chip, x = network(), on_chip(), X.clone()
        model[2].bias.data[0] = value
        refused(lambda model=model: program(model, NOISY), "bias of layer '2'", "finite")
        chip[0].weight.data[0, 0] = value
        refused(lambda chip=chip: evaluate(chip, X, Y, chips=[3]), "weight of layer '0'", "finite")
        x[5] = value
        refused(
            lambda x=x: evaluate(on_chip(), x, Y, chips=[3]), "input of batch 0", error=FloatingPointError
        )
    huge = program(nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 3)), NOISY)
    for layer in huge:
        layer.weight.data.fill_(1e30)
    refused(lambda: evaluate(huge, X, Y, chips=[3]), "output of chip 3", error=FloatingPointError)


# --- files ----------------------------------------------------------------------------------------


@row("the plain network, into a network on hardware", "works")
def _():
    chip = on_chip(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)))
    chip.load_state_dict(saved(network()))
    assert torch.equal(chip(X), on_chip()(X))


@row("a network on hardware, into the plain one", "refused")
def _():
    chip, plain = on_chip(), nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    refused(lambda: plain.load_state_dict(saved(chip)), "0._extra_state", error=RuntimeError)
    plain.load_state_dict(plain_state(chip))
    assert torch.equal(plain(X), network()(X))


@row("a chip, into a network that holds none", "works")
def _():
    chip, other = on_chip(), program(network(), NOISY)
    other.load_state_dict(saved(chip))
    assert [layer.chip for layer in crossbars(other)] == [3, 3] and torch.equal(other(X), chip(X))


@row("a chip, into a network that holds another", "works")
def _():
    model = network()
    model[0].weight.data.mul_(0.5)
    other = on_chip(chip=9)
    other.load_state_dict(saved(on_chip(model)))
    assert torch.equal(other(X), on_chip(model, chip=9)(X))


@row("a network with fresh errors", "works")
def _():
    noisy = fresh(program(network(), NOISY), 1)
    noisy(X)
    blank, other = program(network(), NOISY), fresh(program(network(), NOISY), 2)
    for resumed in (blank, other):
        resumed.load_state_dict(saved(noisy))
    for _ in range(3):
        expected = noisy(X)
        assert torch.equal(blank(X), expected) and torch.equal(other(X), expected)


@row("a chip with its weights rearranged, `mapped`", "works")
def _():
    stuck = Hardware(StuckAt(on=0.1, off=0.1))
    better = mapped(fabricate(program(network(), stuck), 3))
    other = program(network(), stuck)
    other.load_state_dict(saved(better))
    assert torch.equal(other(X), better(X))
    assert not torch.equal(better(X), fabricate(program(network(), stuck), 3)(X))


@row("a chip with stages of `VeRA`", "works")
def _():
    def staged(seed):
        chip = program(network(), NOISY)
        shared = projections(chip, 2, seed)
        return attach(chip, lambda layer: VeRA(layer, shared))

    chip = fabricate(staged(0), 3)
    for layer in crossbars(chip):
        layer.digital.b.data.fill_(0.5)
    other = staged(1)
    other.load_state_dict(saved(chip))
    assert torch.equal(other(X), chip(X)) and not torch.equal(chip(X), on_chip()(X))


@row("the plain network, into the unfused one", "refused")
def _():
    plain, x = nn.LSTM(4, 5), drawn(3, 2, 4)
    refused(lambda: unfused(nn.LSTM(4, 5)).load_state_dict(saved(plain)), "weight_ih_l0", error=RuntimeError)
    loaded = nn.LSTM(4, 5)
    loaded.load_state_dict(saved(plain))
    torch.testing.assert_close(unfused(loaded)(x)[0], plain(x)[0])


@row("conductances of another array", "refused")
def _():
    made, other = (
        program(network(), Hardware(array=DoubleArray(w_max=w_max)), train="conductance")
        for w_max in (1.0, 4.0)
    )
    refused(lambda: other.load_state_dict(saved(made)), "w_max=1.0", "w_max=4.0", error=RuntimeError)


@row("an average of checkpoints", "refused")
def _():
    one, two = (saved(on_chip(chip=chip)) for chip in (3, 5))
    mean = {key: ((one[key].double() + two[key].double()) / 2).to(one[key].dtype) for key in one}
    refused(lambda: on_chip().load_state_dict(mean), "taken whole, not averaged", error=RuntimeError)
    plain = {key: value for key, value in mean.items() if not key.endswith("_extra_state")}
    assert plain.keys() == plain_state(on_chip()).keys()
    on_chip().load_state_dict(plain)


@row("conductances in S", "refused")
def _():
    hardware = Hardware(Gaussian(0.2), DoubleArray(w_max=1.0))
    chip = fabricate(program(network(), hardware, train="conductance"), 3)
    wrong = copy.deepcopy(chip)
    scaled = {key: value * 1e-6 if "conductance" in key else value for key, value in saved(chip).items()}
    with pytest.raises(RuntimeError, match="conductance of layer '0'.*these look like S"):
        wrong.load_state_dict(scaled)
    for call in (
        lambda: evaluate(wrong, X, Y, chips=[3]),
        lambda: fit(wrong, CrossEntropy(), (X, Y), epochs=1, lr=1.0, seed=0),
    ):
        refused(call, "conductance of layer '0'", "these look like S")
    assert evaluate(chip, X, Y, chips=[3]).chips == (3,)


# --- the table ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [pytest.param(name, marks=one.mark) for name, one in ROWS.items()])
def test_a_row_of_the_table_holds(name, one_process):
    ROWS[name].test()


def test_the_rows_of_the_table_are_the_rows_that_are_tested_with_their_verdicts():
    table = re.findall(r"^\| (.+?) \| (works|rewritten|refused) \| (.+?) \|$", text("your_own_network"), re.M)
    assert [(name, verdict) for name, verdict, _ in table] == [(n, one.verdict) for n, one in ROWS.items()]
    lines = re.findall(r"^\| .*\|$", text("your_own_network"), re.MULTILINE)
    assert len(lines) == len(table) + 4  # and a head for each of four parts
