"""What may go on hardware: everything that is computed there, and nothing that would be gone round."""

import copy
import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune
from torch.optim.swa_utils import AveragedModel

from cimlib import Hardware, evaluate, fabricate, fit, fresh, program, summary, using
from cimlib.arrays import DoubleArray
from cimlib.chip import crossbars
from cimlib.devices import Gaussian
from cimlib.networks import mlp
from cimlib.training import CrossEntropy

NOISY = Hardware(Gaussian(0.1))
X = torch.randn(20, 4, generator=torch.Generator().manual_seed(0))
Y = torch.randint(0, 3, (20,), generator=torch.Generator().manual_seed(1))


class Net(nn.Module):
    """A network whose forward is given."""

    def __init__(self, forward, **modules):
        super().__init__()
        for name, module in modules.items():
            setattr(self, name, module)
        self.how = forward

    def forward(self, x):
        return self.how(self, x)


# --- weights that are no parameters ---------------------------------------------------------------

LAYERS = {
    "Linear": lambda: nn.Linear(4, 3),
    "Conv2d": lambda: nn.Conv2d(1, 2, 2),
    "Conv1d": lambda: nn.Conv1d(2, 2, 1),
}
NOT_PARAMETERS = {
    "pruned": (lambda layer: prune.l1_unstructured(layer, "weight", 0.5), ValueError, "prune.remove"),
    "pruned bias": (lambda layer: prune.random_unstructured(layer, "bias", 0.5), ValueError, "prune.remove"),
    "spectral": (nn.utils.spectral_norm, ValueError, "remove_spectral_norm"),
    "weight norm": (nn.utils.weight_norm, ValueError, "remove_weight_norm"),
    "spectral, parametrised": (parametrizations.spectral_norm, TypeError, "remove_parametrizations"),
    "weight norm, parametrised": (parametrizations.weight_norm, TypeError, "remove_parametrizations"),
    "orthogonal": (parametrizations.orthogonal, TypeError, "remove_parametrizations"),
}


@pytest.mark.filterwarnings("ignore:.*torch.nn.utils.weight_norm.*")
@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("how", NOT_PARAMETERS)
def test_a_weight_that_is_no_parameter_is_refused_with_the_remedy(kind, how):
    change, error, remedy = NOT_PARAMETERS[how]
    model = nn.Sequential(change(LAYERS[kind]()))
    with pytest.raises(error, match=rf"layer '0'.*{remedy}"):
        program(model, NOISY)


@pytest.mark.filterwarnings("ignore:.*torch.nn.utils.weight_norm.*")
def test_the_remedies_that_are_named_work():
    layers = [nn.Linear(4, 4) for _ in range(4)]
    prune.l1_unstructured(layers[0], "weight", 0.5), prune.remove(layers[0], "weight")
    nn.utils.remove_spectral_norm(nn.utils.spectral_norm(layers[1]))
    nn.utils.remove_weight_norm(nn.utils.weight_norm(layers[2]))
    parametrizations.weight_norm(layers[3])
    nn.utils.parametrize.remove_parametrizations(layers[3], "weight")
    model = nn.Sequential(*layers)
    chip = fabricate(program(model, Hardware()), 0)
    assert torch.equal(chip(X), model(X))
    before = [layer.weight.detach().clone() for layer in crossbars(chip)]
    fit(chip, CrossEntropy(), (X, Y), epochs=1, lr=0.1, seed=0)
    assert not any(torch.equal(old, layer.weight) for old, layer in zip(before, crossbars(chip), strict=True))


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (
            lambda m: setattr(m[0].weight, "data", m[0].weight.data * float("nan")),
            ValueError,
            "weight of layer '0'.*not finite",
        ),
        (lambda m: m[0].bias.data.fill_(float("inf")), ValueError, "bias of layer '0'.*not finite"),
        (lambda m: m.half(), ValueError, r"dtype of weight of layer '0'.*float16.*model\.float\(\)"),
        (lambda m: m.bfloat16(), ValueError, r"dtype of weight of layer '0'.*bfloat16.*model\.float\(\)"),
        (lambda m: m.to("meta"), ValueError, "layer '0'.*meta device"),
        (lambda m: setattr(m[0], "forward", lambda x: x), TypeError, "layer '0'.*forward of its own"),
    ],
)
def test_a_layer_that_cannot_be_computed_with_is_refused(change, error, words):
    model = mlp(4, 3, seed=0)
    model = nn.Sequential(model[1])
    change(model)
    with pytest.raises(error, match=words):
        program(model, NOISY)


def test_a_lazy_layer_is_refused_until_its_size_is_known():
    model = nn.Sequential(nn.LazyLinear(3))
    with pytest.raises(TypeError, match="call the model once"):
        program(model, NOISY)
    model(X)
    assert fabricate(program(model, NOISY), 0)(X).shape == (20, 3)


def test_tied_weights_stay_one_parameter_on_two_arrays_and_cannot_become_conductances():
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    model[1].weight = model[0].weight
    chip = fabricate(program(model, NOISY), 0)
    assert chip[0].weight is chip[1].weight
    assert not torch.equal(chip[0].read()[0], chip[1].read()[0])
    with pytest.raises(ValueError, match=r"weight of layer '1' = \"the weight of '0'\""):
        program(model, Hardware(array=DoubleArray(w_max=1.0)), train="conductance")


def test_a_weight_tied_to_a_table_stays_tied():
    model = Net(
        lambda m, x: m.out(m.table(x).mean(1)), table=nn.Embedding(7, 4), out=nn.Linear(4, 7, bias=False)
    )
    model.out.weight = model.table.weight
    chip = fabricate(program(model, Hardware()), 0)
    words = torch.tensor([[1, 2], [3, 4]])
    assert chip.out.weight is chip.table.weight and torch.equal(chip(words), model(words))


# --- arrays gone round ----------------------------------------------------------------------------

ROUND = {
    "reads the weight": Net(lambda m, x: F.linear(x, m.a.weight, m.a.bias), a=nn.Linear(4, 3)),
    "reads it besides": Net(lambda m, x: m.a(x) + F.linear(x, m.a.weight), a=nn.Linear(4, 3)),
    "never called": Net(lambda m, x: m.a(x), a=nn.Linear(4, 3), b=nn.Linear(3, 3)),
    "by another name": Net(lambda m, x: m.a(x) + F.linear(x, m.w), a=nn.Linear(4, 3)),
    "in a module of its own": nn.Sequential(Net(lambda m, x: F.linear(x, m.a.weight), a=nn.Linear(4, 3))),
    "only the bias": Net(lambda m, x: m.a(x) + m.b.bias, a=nn.Linear(4, 3), b=nn.Linear(3, 3)),
}
HIDDEN = {
    "reads it besides": lambda m, x: (
        m.b(x) + F.linear(m.a(x) @ m.a.weight, m.a.weight) if bool(x.isfinite().all()) else x
    ),
    "by value": lambda m, x: m.a(x) if bool(x.isfinite().all()) else m.b(x),
    "reads the weight": lambda m, x: F.linear(x, m.b.weight) if float(x.sum()) < 1e9 else m.b(m.a(x)),
}


ROUND["by another name"].w = ROUND["by another name"].a.weight


@pytest.mark.parametrize("how", ROUND)
def test_what_can_be_seen_to_go_round_an_array_is_refused_by_program(how):
    with pytest.raises(ValueError, match=r"layers = \['(0\.)?[ab]'\].*leave others digital"):
        program(ROUND[how], NOISY)


@pytest.mark.parametrize("how", HIDDEN)
def test_what_cannot_is_refused_by_evaluate_and_fit_with_the_layers(how):
    chip = program(Net(HIDDEN[how], a=nn.Linear(4, 3), b=nn.Linear(4, 3)), NOISY)
    with pytest.raises(RuntimeError, match=r"(did not call|goes round): \['.*unfused.*layers="):
        evaluate(chip, X, Y, chips=range(3))
    with pytest.raises(RuntimeError, match=r"(did not call|goes round): \['"):
        fit(fabricate(chip, 0), CrossEntropy(), (X, Y), epochs=1, lr=0.1, seed=0)
    other = program(Net(HIDDEN["by value"], a=nn.Linear(4, 3), b=nn.Linear(4, 3)), NOISY, layers=["a"])
    assert 0 <= evaluate(other, X, Y, chips=range(3)).mean <= 100


@pytest.mark.parametrize("held", [lambda m: [m] * 3, lambda m: {"x": m}, lambda m: ((m,),), lambda m: {m}])
def test_a_layer_that_an_object_keeps_besides_is_refused_with_the_attribute(held):
    model = Net(lambda m, x: m.a(x), a=nn.Linear(4, 3))
    model.steps = held(model.a)
    with pytest.raises(ValueError, match=r"0\.steps = \"layer '0\.a' besides\".*ModuleList"):
        program(nn.Sequential(model), NOISY, layers=["0.a"])


@pytest.mark.parametrize(
    "hardware", ["iris-double", None, Gaussian(0.1), {"0": "iris-double"}, {"0": None}], ids=repr
)
def test_what_is_no_design_is_refused_with_what_is(hardware):
    for call in (lambda: program(nn.Sequential(nn.Linear(4, 3)), hardware), lambda: swapped(hardware)):
        with pytest.raises(TypeError, match=r"hardware = .*presets\('iris-double'\)"):
            call()


def swapped(hardware):
    with using(program(nn.Sequential(nn.Linear(4, 3)), NOISY), hardware):
        pass


@pytest.mark.parametrize("peak", [1e-36, 1e-31])
def test_weights_so_small_that_their_scale_overflows_are_refused(peak):
    model = nn.Sequential(nn.Linear(4, 3, bias=False))
    model[0].weight.data.mul_(peak)
    with pytest.raises(ValueError, match="largest of weight of layer '0'.*scale the network"):
        program(model, NOISY)


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_a_layer_without_weights_is_refused():
    with pytest.raises(ValueError, match="size of weight of layer '0'"):
        program(nn.Sequential(nn.Linear(4, 0)), NOISY)


def test_two_programmed_networks_with_layers_of_one_name_are_no_network_to_fabricate():
    both = nn.ModuleList([program(mlp(4, 3, seed=n), NOISY) for n in range(2)])
    for call in (lambda m: fabricate(m, 0), fresh):
        with pytest.raises(ValueError, match=r"several programmed networks, all with layers \['1'\]"):
            call(both)
    whole = fabricate(program(nn.ModuleList([mlp(4, 3, seed=n) for n in range(2)]), NOISY), 0)
    assert not torch.equal(whole[0][1].draws()["cells/programming"], whole[1][1].draws()["cells/programming"])


def test_asking_a_weight_for_its_dtype_device_or_shape_is_no_way_round():
    def forward(m, x):
        return m.a(x.to(m.a.weight.dtype).to(m.a.weight.device)).reshape(-1, m.a.weight.shape[0])

    model = Net(forward, a=nn.Linear(4, 3))
    assert torch.equal(fabricate(program(model, Hardware()), 0)(X), model(X))


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("layers", [None, ["layers.0.linear1"]])
def test_the_fused_path_of_an_encoder_is_refused_for_any_of_its_layers(norm_first, layers):
    encoder = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=norm_first),
        1,
        enable_nested_tensor=False,
    )
    with pytest.raises((TypeError, ValueError), match="unfused"):
        program(encoder, NOISY, layers=layers)


def test_looking_at_a_forward_leaves_no_trace():
    model, seen = Net(lambda m, x: F.dropout(m.a(x), 0.5), a=nn.Linear(4, 3)), []
    state = torch.get_rng_state()
    model.register_forward_hook(lambda module, inputs, output: seen.append(output))
    model.a.register_forward_pre_hook(lambda module, inputs: seen.append(inputs))
    program(model, NOISY)
    assert seen == [] and torch.equal(torch.get_rng_state(), state) and model.training


# --- wrappers -------------------------------------------------------------------------------------

WRAPPERS = {
    "DataParallel": (nn.DataParallel, "module"),
    "compiled": (lambda m: torch.compile(m, backend="eager"), "_orig_mod"),
    "averaged": (AveragedModel, "module"),
}


@pytest.mark.parametrize(
    "how", [pytest.param(how, marks=pytest.mark.compiles if how == "compiled" else ()) for how in WRAPPERS]
)
def test_wrappers_come_after_programming_and_do_not_change_the_chip(how):
    wrap, attribute = WRAPPERS[how]
    model = mlp(4, 8, 3, seed=0)
    with pytest.raises(TypeError, match=attribute):
        program(wrap(model), NOISY)
    with pytest.raises(TypeError, match=f"'0'.*{attribute}"):
        program(nn.Sequential(wrap(model)), NOISY)
    expected = fabricate(program(model, NOISY), 7)(X)
    wrapped = fabricate(wrap(program(model, NOISY)), 7)
    torch.testing.assert_close(wrapped(X), expected, rtol=0, atol=0)
    found = evaluate(wrapped, X, Y, chips=range(3))
    assert (found.accuracy == evaluate(program(model, NOISY), X, Y, chips=range(3)).accuracy).all()


@pytest.mark.filterwarnings("ignore:.*torch.jit.trace.*")
def test_a_script_is_refused():
    with pytest.raises(TypeError, match="script"):
        program(torch.jit.trace(mlp(4, 3, seed=0), X), NOISY)


# --- what stays digital ---------------------------------------------------------------------------

LEFT = {
    "LSTM": (nn.LSTM(4, 8), "rnn"),
    "GRU": (nn.GRU(4, 8), "rnn"),
    "GRUCell": (nn.GRUCell(4, 8), "rnn"),
    "Bilinear": (nn.Bilinear(4, 4, 8), "rnn"),
}


@pytest.mark.parametrize("kind", LEFT)
def test_weights_that_stay_digital_are_listed_once_in_a_warning(kind):
    module, name = LEFT[kind]
    model = nn.ModuleDict({name: module, "out": nn.Linear(8, 3)})
    with pytest.warns(UserWarning, match=f"stay digital: {name} \\({kind}.*unfused") as said:
        chip = program(model, NOISY)
    assert len(said) == 1
    table = summary(chip)
    assert list(table.digital) == [name] and table.weights == 24
    assert table.left == sum(p.numel() for p in module.parameters() if p.dim() > 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        program(model, NOISY, layers=["out"])  # asked for


def test_a_matrix_of_a_module_of_ones_own_is_listed_and_tables_and_biases_are_not():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.w, self.position_bias = nn.Parameter(torch.ones(4, 4)), nn.Parameter(torch.ones(4, 4))
            self.table, self.out, self.norm = nn.Embedding(5, 4), nn.Linear(4, 3), nn.LayerNorm(4)

        def forward(self, x):
            return self.out(self.norm(x @ self.w + self.table(torch.tensor(0))))

    with pytest.warns(UserWarning, match=r"stay digital: model \(Own, 16 weights\)\."):
        chip = program(Own(), NOISY)
    assert summary(chip).digital == {"model": "Own, 16 weights"}


def test_a_network_without_a_layer_for_an_array_is_told_which_are():
    with pytest.raises(ValueError, match=r"Linear, Conv1d … Conv3d or ConvTranspose1d"):
        program(nn.Sequential(nn.ReLU()), NOISY)


def test_programming_does_not_change_the_model_whatever_is_refused():
    model = nn.Sequential(nn.Linear(4, 4), nn.utils.spectral_norm(nn.Linear(4, 3)))
    before, hooks = copy.deepcopy(model.state_dict()), len(model[1]._forward_pre_hooks)
    with pytest.raises(ValueError, match="spectral"):
        program(model, NOISY)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert isinstance(model[0], nn.Linear) and len(model[1]._forward_pre_hooks) == hooks
