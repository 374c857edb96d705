"""What must hold of the data sets: the right data, split once and for all, or a clear refusal."""

from __future__ import annotations

import hashlib
import json
import pickle
import random
import re
import shutil
from collections import defaultdict
from pathlib import Path
from typing import Any
from urllib.error import URLError

import filelock
import numpy as np
import pytest
import torch
from torchvision import datasets

from cimlib.datasets import DataError, digest, load
from cimlib.datasets import loading as data

FOLDER = Path(__file__).resolve().parents[2] / "data"
README = (FOLDER / "README.md").read_text(encoding="utf-8")
SPLITS = FOLDER.parent / "cimlib" / "datasets" / "splits.json"
SHIPPED = ("iris", "digits", "mnist")
SIZES = {
    "iris": (90, 30, 30),
    "digits": (1077, 360, 360),
    "mnist": (50_000, 10_000, 10_000),
}
SHAPES = {"iris": (4,), "digits": (1, 8, 8), "mnist": (1, 28, 28)}


@pytest.fixture(autouse=True)
def no_data_of_the_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Only what the project ships is there, and nothing can be downloaded."""

    def offline(*args: object, **kwargs: object) -> None:
        raise URLError("no network")

    monkeypatch.delenv("CIMLIB_DATA", raising=False)
    monkeypatch.setattr(data, "CACHE", tmp_path / "cache")
    monkeypatch.setattr("torchvision.datasets.cifar.download_and_extract_archive", offline)
    monkeypatch.setattr("torchvision.datasets.mnist.download_and_extract_archive", offline)


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty $CIMLIB_DATA."""
    path = tmp_path / "chosen"
    path.mkdir()
    monkeypatch.setenv("CIMLIB_DATA", str(path))
    return path


def numbers(*shape: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Bytes in which neighbours along every axis differ."""
    return (np.arange(np.prod(shape)) % 251).astype(np.uint8).reshape(shape)


def write_idx(path: Path, array: np.ndarray[Any, np.dtype[np.uint8]]) -> None:
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, dtype=">i4").tobytes()
    path.write_bytes(header + array.tobytes())


def write_fashion(root: Path) -> tuple[Any, Any]:
    """Fashion-MNIST in torchvision's layout, with images of 2 x 3 pixels."""
    raw = root / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for stem, size in (("train", 10_020), ("t10k", 30)):
        write_idx(raw / f"{stem}-images-idx3-ubyte", numbers(size, 2, 3))
        write_idx(raw / f"{stem}-labels-idx1-ubyte", numbers(size) % 10)
    return numbers(10_020, 2, 3), numbers(10_020) % 10


def write_cifar100(root: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """CIFAR-100 in torchvision's layout, with 5,010 training and 10 test images."""
    below = root / "cifar-100-python"
    below.mkdir(parents=True)
    contents: dict[str, Any] = {
        name: {"data": numbers(size, 3072), "fine_labels": [i % 100 for i in range(size)]}
        for name, size in (("train", 5_010), ("test", 10))
    }
    contents["meta"] = {"fine_label_names": [str(label) for label in range(100)]}
    md5 = {}
    for name, content in contents.items():
        (below / name).write_bytes(pickle.dumps(content))
        md5[name] = hashlib.md5((below / name).read_bytes()).hexdigest()
    monkeypatch.setattr(datasets.CIFAR100, "train_list", [["train", md5["train"]]])
    monkeypatch.setattr(datasets.CIFAR100, "test_list", [["test", md5["test"]]])
    monkeypatch.setitem(datasets.CIFAR100.meta, "md5", md5["meta"])
    return contents["train"]["data"]


def write_npz(path: Path, name: str, monkeypatch: pytest.MonkeyPatch, *shape: int) -> str:
    """An npz file whose digest is accepted, with ``shape`` training images and 10 for testing."""
    x_test, y_test = numbers(10, *shape[1:]), numbers(10)
    np.savez_compressed(
        path, x_train=numbers(*shape), y_train=numbers(shape[0]) % 10, x_test=x_test, y_test=y_test
    )
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setitem(data.FILE_DIGESTS, name, (sha256,))
    return sha256


# --- what is loaded -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SHIPPED)
def test_every_split_has_its_size_shape_type_and_every_class(name: str) -> None:
    for split, size in zip(("train", "val", "test"), SIZES[name], strict=True):
        x, y = load(name, split)
        assert x.shape == (size, *SHAPES[name])
        assert x.dtype == torch.float32
        assert x.is_contiguous()
        assert y.shape == (size,)
        assert y.dtype == torch.int64
        assert set(y.tolist()) == set(range(3 if name == "iris" else 10))


@pytest.mark.parametrize("name", ["digits", "mnist"])
def test_pixels_fill_zero_to_one(name: str) -> None:
    x, _ = load(name, "all")
    assert x.min() == 0
    assert x.max() == 1


def test_iris_is_scaled_by_the_range_of_its_training_split() -> None:
    from sklearn.datasets import load_iris

    train, _ = load("iris")
    assert torch.equal(train.amin(0), torch.zeros(4))
    assert torch.equal(train.amax(0), torch.ones(4))
    centimetres = torch.tensor(load_iris().data)
    picked = centimetres[json.loads(SPLITS.read_text(encoding="utf-8"))["iris"]["train"]]
    low, high = picked.amin(0), picked.amax(0)
    everything, _ = load("iris", "all")
    torch.testing.assert_close(everything.double() * (high - low) + low, centimetres, rtol=1e-6, atol=1e-6)
    assert everything.min() == pytest.approx(-0.09, abs=0.005)
    assert everything.max() == pytest.approx(1.04, abs=0.005)


def test_digits_are_the_images_of_scikit_learn_in_their_order() -> None:
    from sklearn.datasets import load_digits

    x, y = load("digits", "all")
    assert np.array_equal(x[:, 0].numpy() * 16, load_digits().images)
    assert np.array_equal(y.numpy(), load_digits().target)


def test_mnist_has_the_mean_and_spread_everyone_quotes() -> None:
    pixels = torch.cat([load("mnist", "train")[0], load("mnist", "val")[0]]).double()
    assert pixels.mean().item() == pytest.approx(0.1307, abs=5e-5)
    assert pixels.std().item() == pytest.approx(0.3081, abs=5e-5)


# --- splits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["iris", "digits"])
def test_committed_splits_are_disjoint_cover_everything_and_keep_class_shares(name: str) -> None:
    stored = json.loads(SPLITS.read_text(encoding="utf-8"))[name]
    positions = stored["train"] + stored["val"] + stored["test"]
    x, y = load(name, "all")
    assert sorted(positions) == list(range(len(y)))
    for split, index in stored.items():
        assert torch.equal(load(name, split)[0], x[index])
        assert torch.equal(load(name, split)[1], y[index])
        share = y[index].bincount() / len(index)
        torch.testing.assert_close(share, y.bincount() / len(y), rtol=0, atol=0.005)


def test_image_splits_follow_each_other_in_file_order() -> None:
    parts = [load("mnist", split) for split in ("train", "val", "test")]
    x, y = load("mnist", "all")
    assert torch.equal(torch.cat([part[0] for part in parts]), x)
    assert torch.equal(torch.cat([part[1] for part in parts]), y)


def test_the_readme_snippet_makes_the_committed_splits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (snippet,) = re.findall(r"```python\n(import json.*?)```", README, re.DOTALL)
    exec(snippet, {})
    assert Path("splits.json").read_text(encoding="utf-8") == SPLITS.read_text(encoding="utf-8")


# --- n examples -----------------------------------------------------------------------------------


def in_turn(labels: list[int], n: int) -> list[int]:
    """Positions dealt out by hand: one of each class a round, in file order."""
    waiting = defaultdict(list)
    for position, label in enumerate(labels):
        waiting[label].append(position)
    dealt: list[int] = []
    while any(waiting.values()):
        dealt += [waiting[label].pop(0) for label in sorted(waiting) if waiting[label]]
    return sorted(dealt[:n])


@pytest.mark.parametrize("n", [1, 7, 10, 95, 350, 355, 360])
def test_n_takes_classes_in_turn_in_file_order(n: int) -> None:
    x, y = load("digits", "test")
    picked = in_turn(y.tolist(), n)
    assert torch.equal(load("digits", "test", n)[0], x[picked])
    assert torch.equal(load("digits", "test", n)[1], y[picked])


@pytest.mark.parametrize("n", [10, 1_000, 8_925])
def test_n_is_class_balanced_while_no_class_has_run_out(n: int) -> None:
    counts = load("mnist", "test", n)[1].bincount(minlength=10)
    assert counts.sum() == n
    assert counts.max() - counts.min() <= (0 if n % 10 == 0 else 1)


# --- the same every time --------------------------------------------------------------------------


@pytest.mark.parametrize("name", SHIPPED)
def test_loading_neither_reads_nor_changes_a_global_generator(name: str) -> None:
    def state() -> tuple[Any, ...]:
        legacy = str(np.random.get_state())  # noqa: NPY002
        return random.getstate(), legacy, torch.get_rng_state().tolist()

    loaded = []
    for seed in (1, 2):
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        torch.manual_seed(seed)
        before = state()
        data._read.cache_clear()
        loaded.append(load(name, "train", 50))
        assert state() == before
    assert torch.equal(loaded[0][0], loaded[1][0])
    assert torch.equal(loaded[0][1], loaded[1][1])


def test_writing_into_what_was_loaded_leaves_the_next_load_alone() -> None:
    for name in SHIPPED:
        x, y = load(name, "val", 20)
        kept = x.clone(), y.clone()
        x.fill_(7)
        y.fill_(7)
        assert torch.equal(load(name, "val", 20)[0], kept[0])
        assert torch.equal(load(name, "val", 20)[1], kept[1])


def test_the_shipped_data_are_found_from_any_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data._read.cache_clear()
    assert len(load("mnist", "val")[0]) == 10_000
    assert len(load("digits", "val")[0]) == 360


# --- digests --------------------------------------------------------------------------------------


def test_the_digest_of_mnist_is_that_of_the_file_the_readme_and_the_code() -> None:
    sha256 = hashlib.sha256((FOLDER / "mnist.npz").read_bytes()).hexdigest()
    assert digest("mnist") == sha256
    assert data.FILE_DIGESTS["mnist"] == (sha256,)
    assert f"| `mnist.npz` | `{sha256}` |" in README


def test_readme_and_code_pin_the_same_digests() -> None:
    pinned = [*data.FILE_DIGESTS.values(), *data.ARRAY_DIGESTS.values()]
    assert sorted(re.findall(r"\b[0-9a-f]{64}\b", README)) == sorted(sum(pinned, ()))


def test_mnist_from_torchvision_would_have_to_equal_the_shipped_arrays() -> None:
    with np.load(FOLDER / "mnist.npz") as arrays:
        content = [arrays[key] for key in data.KEYS]
    assert data.ARRAY_DIGESTS["mnist"] == (data._verified("mnist", "the shipped file", content),)


@pytest.mark.parametrize("name", ["iris", "digits"])
def test_other_data_from_scikit_learn_are_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = digest(name)
    assert data.ARRAY_DIGESTS[name] == (expected,)
    original = getattr(__import__("sklearn.datasets").datasets, f"load_{name}")()
    original.data[3, 2] += 1
    monkeypatch.setattr(f"sklearn.datasets.load_{name}", lambda: original)
    data._read.cache_clear()
    with pytest.raises(DataError, match=rf"(?s)scikit-learn's {name}.*{expected}.*requirements"):
        load(name)


# --- files: search order and refusals -------------------------------------------------------------


def test_the_chosen_folder_comes_before_the_project(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sha256 = write_npz(folder / "mnist.npz", "mnist", monkeypatch, 10_007, 4, 4)
    assert load("mnist", "train")[0].shape == (7, 1, 4, 4)
    assert digest("mnist") == sha256


def test_without_a_file_in_the_chosen_folder_the_project_s_own_is_used(folder: Path) -> None:
    assert digest("mnist") == data.FILE_DIGESTS["mnist"][0]


@pytest.mark.parametrize("damage", ["cut short", "one bit"])
def test_a_damaged_file_is_named_with_digests_and_places_and_nothing_is_used_instead(
    folder: Path, damage: str
) -> None:
    content = bytearray((FOLDER / "mnist.npz").read_bytes())
    if damage == "cut short":
        content = content[:-100]
    else:
        content[5_000_000] ^= 1
    damaged = folder / "mnist.npz"
    damaged.write_bytes(content)
    with pytest.raises(DataError) as refusal:
        load("mnist")
    text = str(refusal.value)
    assert f"{damaged} is corrupt" in text
    assert hashlib.sha256(content).hexdigest() in text
    assert data.FILE_DIGESTS["mnist"][0] in text
    assert f"  {FOLDER / 'mnist.npz'}\n" in text
    assert f"  {folder} (MNIST files of torchvision)\n" in text
    assert "git checkout -- data/mnist.npz" in text
    assert "not set" not in text


def test_a_library_without_the_book_looks_beside_nothing_and_says_how_to_get_mnist(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data, "FOLDER", None)
    data._read.cache_clear()
    with pytest.raises(DataError) as refusal:
        load("mnist")
    text = str(refusal.value)
    assert f"in this order\n  {tmp_path / 'cache'} (MNIST files of torchvision)\n" in text
    assert "the book's mnist.npz into $CIMLIB_DATA" in text


def test_a_file_that_cannot_be_read_is_named(folder: Path) -> None:
    (folder / "mnist.npz").mkdir()
    with pytest.raises(DataError, match=re.escape(str(folder / "mnist.npz"))) as refusal:
        load("mnist")
    assert isinstance(refusal.value.__cause__, OSError)


def test_a_file_of_a_data_set_without_known_files_is_refused(folder: Path) -> None:
    shutil.copy(FOLDER / "mnist.npz", folder / "fashion-mnist.npz")
    with pytest.raises(DataError, match="expected none: no such file is known"):
        load("fashion-mnist")


def test_colour_files_become_channels_first_and_the_last_5000_validate(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_npz(folder / "cifar10.npz", "cifar10", monkeypatch, 5_020, 32, 32, 3)
    x, y = load("cifar10", "train")
    assert x.shape == (20, 3, 32, 32)
    assert x.is_contiguous()
    expected = numbers(5_020, 32, 32, 3).transpose(0, 3, 1, 2)
    assert np.array_equal(x.numpy(), expected[:20] / np.float32(255))
    assert torch.equal(load("cifar10", "val")[0][:, 0, 0, 0] * 255, torch.tensor(expected[20:, 0, 0, 0]))
    assert load("cifar10", "test")[0].shape == (10, 3, 32, 32)
    assert y.tolist() == [i % 10 for i in range(20)]


# --- torchvision ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "get"),
    [
        ("fashion-mnist", "dataset-fashion-mnist"),
        ("cifar10", "cifar-10-python.tar.gz"),
        ("cifar100", "cifar-100-python.tar.gz"),
    ],
)
def test_a_failed_download_says_where_it_looked_and_how_to_get_it(
    name: str, get: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError) as refusal:
        load(name)
    text = str(refusal.value)
    assert f"{name} cannot be loaded" in text
    assert "no network" in text
    assert f"  {FOLDER / name}.npz\n" in text
    assert f"  {tmp_path / 'cache'} (" in text
    assert "$CIMLIB_DATA is not set" in text
    assert get in text
    assert refusal.value.__cause__ is not None


def test_fashion_mnist_is_read_from_torchvision_s_layout(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, labels = write_fashion(folder)
    monkeypatch.delitem(data.ARRAY_DIGESTS, "fashion-mnist")
    x, y = load("fashion-mnist", "train")
    assert np.array_equal(x[:, 0].numpy(), images[:20] / np.float32(255))
    assert y.tolist() == labels[:20].tolist()
    assert len(load("fashion-mnist", "val")[0]) == 10_000
    assert load("fashion-mnist", "test")[0].shape == (30, 1, 2, 3)
    assert re.fullmatch(r"[0-9a-f]{64}", digest("fashion-mnist"))


def test_other_content_in_torchvision_s_unchecked_files_is_refused(folder: Path) -> None:
    write_fashion(folder)
    expected = data.ARRAY_DIGESTS["fashion-mnist"][0]
    with pytest.raises(DataError, match=rf"(?s)FashionMNIST below {folder}.*{expected}"):
        load("fashion-mnist")


def test_cifar100_is_read_from_torchvision_s_layout(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = write_cifar100(folder, monkeypatch)
    x, y = load("cifar100", "train")
    assert np.array_equal(x.numpy(), rows[:10].reshape(10, 3, 32, 32) / np.float32(255))
    assert y.tolist() == list(range(10))
    assert len(load("cifar100", "val")[0]) == 5_000


def test_a_damaged_cifar100_file_is_not_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar100(folder, monkeypatch)
    file = folder / "cifar-100-python" / "train"
    content = bytearray(file.read_bytes())
    content[1_000_000] ^= 1
    file.write_bytes(content)
    with pytest.raises(DataError, match="Delete a damaged copy"):
        load("cifar100")


def test_one_process_at_a_time_downloads(monkeypatch: pytest.MonkeyPatch) -> None:
    def another(*args: object, **kwargs: object) -> None:
        filelock.FileLock(data.CACHE / "cifar100.lock").acquire(timeout=0)

    monkeypatch.setattr(datasets, "CIFAR100", another)
    with pytest.raises(DataError) as refusal:
        load("cifar100")
    assert isinstance(refusal.value.__cause__, filelock.Timeout)


# --- arguments ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["MNIST", "cifar-10", "", "imagenet"])
def test_an_unknown_name_is_refused_with_the_valid_ones(name: str) -> None:
    listed = "iris, digits, mnist, fashion-mnist, cifar10, cifar100"
    for call in (load, digest):
        with pytest.raises(ValueError, match=f"^name: '{name}' is not one of {listed}$"):
            call(name)


@pytest.mark.parametrize("split", ["validation", "Test", ""])
def test_an_unknown_split_is_refused_with_the_valid_ones(split: str) -> None:
    with pytest.raises(ValueError, match=f"^split: '{split}' is not one of train, val, test, all$"):
        load("iris", split)


@pytest.mark.parametrize("n", [0, -1, 31, 2.0, "10"])
def test_n_outside_the_split_is_refused_with_its_range(n: Any) -> None:
    with pytest.raises(ValueError, match=rf"^n: {n!r} is not an integer in 1\.\.30 \(iris test\)$"):
        load("iris", "test", n)
