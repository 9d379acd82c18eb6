import errno
import json
import math
import sys
import tracemalloc
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from neuraxis.core.errors import RunError
from neuraxis.training.storage import checkpoint


def same(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return type(b) is dict and list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and np.array_equal(a, b)
    return type(a) is type(b) and (a == b or (a != a and b != b))


@pytest.mark.parametrize(
    "tree",
    [
        None,
        {"none": None, "bool": True, "big": 2**127 + 1, "negative": -(2**70), "text": "é\ud800\n"},
        [math.inf, -math.inf, math.nan, 0.1, -0.0, 5e-324, 1, 1.0],
        {"empty": [{}, [], (), ""], "nested": ({"a": (1, [2])},), 3: "int key", "3": "text key"},
        np.random.default_rng(0).bit_generator.state,
        {"a/b": np.zeros(2), "a": {"b": np.ones(2)}, "": np.full(2, 2.0)},
    ],
)
def test_scalars_and_structure_survive(tmp_path: Path, tree: Any) -> None:
    checkpoint.write(tmp_path / "c", tree)
    assert same(tree, checkpoint.read(tmp_path / "c"))


@pytest.mark.parametrize(
    "dtype",
    "bool uint8 uint16 uint32 uint64 int8 int16 int32 int64 float16 float32 float64 complex64 "
    "complex128 >f8 >i2 <U3 S2 datetime64[s]".split(),
)
def test_arrays_survive(tmp_path: Path, dtype: str) -> None:
    array = np.arange(12).astype(dtype).reshape(3, 4)
    tree = [array, array[:, ::2], array.T, array[:0], array[0, 0], np.asarray(array[1, 1])]
    checkpoint.write(tmp_path / "c", tree)
    read = checkpoint.read(tmp_path / "c")
    assert same(tree, read)
    read[0][0] = read[0][1]  # writable


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.uint16, torch.complex128])
def test_tensors_survive(tmp_path: Path, dtype: torch.dtype) -> None:
    flat = torch.arange(12).to(dtype)
    weight = torch.nn.Parameter(torch.ones(2, 2))
    image = torch.rand(2, 3, 4, 4).to(memory_format=torch.channels_last)
    tree = {"views": (flat[:6], flat[3:]), "scalar": flat[5], "empty": flat[:0], "image": image}
    checkpoint.write(tmp_path / "c", {**tree, "weight": weight})
    read = checkpoint.read(tmp_path / "c")
    assert torch.equal(read.pop("weight"), weight)
    assert same(tree, read)


def test_what_it_cannot_hold_is_named(tmp_path: Path) -> None:
    for leaf in (object(), {1, 2}, np.array([None]), {(1, 2): 3}):
        with pytest.raises(TypeError, match=r"^/agent/x: a checkpoint cannot hold"):
            checkpoint.write(tmp_path / "c", {"agent": {"x": leaf}})
    assert not list(tmp_path.iterdir())


def test_a_large_replay_is_not_copied(tmp_path: Path) -> None:
    replay = np.zeros(50_000_000, np.uint8)
    tracemalloc.start()
    checkpoint.write(tmp_path / "c", {"replay": replay})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000_000


def test_a_branch_is_read_alone(tmp_path: Path) -> None:
    weights = {"w": torch.ones(3), "count": 2}
    tree = {"agent": {"policy": weights, "replay": np.zeros(50_000_000, np.uint8)}, "steps": 1}
    checkpoint.write(tmp_path / "c", tree)
    tracemalloc.start()
    assert same(weights, checkpoint.read(tmp_path / "c", "agent", "policy"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000_000


def test_a_checkpoint_takes_the_place_of_another(tmp_path: Path) -> None:
    for value in (1, 2):
        checkpoint.write(tmp_path / "c", {"x": value, "y": torch.tensor(value)})
    assert checkpoint.read(tmp_path / "c") == {"x": 2, "y": torch.tensor(2)}
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", [checkpoint.ARRAYS, checkpoint.STRUCTURE])
@pytest.mark.parametrize("harm", [truncate, flip, Path.unlink, lambda path: path.write_bytes(b"")])
def test_harm_is_found(tmp_path: Path, name: str, harm: Any) -> None:
    for step in (1, 2, 3):
        checkpoint.write(tmp_path / f"step_{step:09d}", {"x": np.arange(9), "y": 123})
    last = tmp_path / "step_000000003"
    harm(last / name)
    with pytest.raises(RunError) as caught:
        checkpoint.read(last)
    assert str(last / name) in str(caught.value)
    assert "take another one, step_000000002 (resume --from" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    checkpoint.write(tmp_path / "c", 1)
    path = tmp_path / "c" / checkpoint.STRUCTURE
    document = json.loads(path.read_text())
    path.write_text(json.dumps(document | {"format": 99}))
    with pytest.raises(RunError, match="format 99, this neuraxis reads 1: update neuraxis"):
        checkpoint.read(tmp_path / "c")


def test_a_full_disk_leaves_the_old_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint.write(tmp_path / "c", "old")

    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint, "fsync", full)
    with pytest.raises(RunError, match=f"^{tmp_path}/c: No space left on device$"):
        checkpoint.write(tmp_path / "c", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["c"]
    assert checkpoint.read(tmp_path / "c") == "old"


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="Not a directory"):
        checkpoint.write(tmp_path / "file" / "c", 1)


def forge(folder: Path, body: str, **head: Any) -> None:
    """Writes a checkpoint that somebody made by hand, with sums that are right."""
    checkpoint.write(folder, {"x": np.zeros(4, np.float32)})
    arrays = (folder / checkpoint.ARRAYS).read_bytes()
    sums = {"body": sha256(body.encode()).hexdigest(), "safetensors": sha256(arrays).hexdigest()}
    document = {"format": 1, "sha256": sums} | head
    (folder / checkpoint.STRUCTURE).write_text(f'{json.dumps(document)[:-1]},"body":{body}}}')


FORGED = {
    "no sums": ("{}", {"sha256": None}),
    "sums of another form": ("{}", {"sha256": [1, 2]}),
    "another format": ("{}", {"format": {"a": [1] * 9999}}),
    "deep JSON": ("[" * 10**5 + "]" * 10**5, {}),
    "JSON that is deep enough": ("[" * 900 + "]" * 900, {}),
    "an integer of 5,000 digits": ("1" * 5_000, {}),
    "nothing in a mapping": ("{}", {}),
    "a dict that is none": ('{"dict":[["x"]]}', {}),
    "keys that are no keys": ('{"dict":[[[1],2]]}', {}),
    "a float that is none": ('{"float":"much"}', {}),
    "a tensor that is not there": ('{"tensor":"y"}', {}),
    "a name that is none": ('{"tensor":{"a":1}}', {}),
    "a dtype that is none": ('{"tensor":"x","dtype":"nn","shape":[1]}', {}),
    "an array of objects": ('{"array":"x","dtype":"O","shape":[2]}', {}),
    "a shape of all the memory": ('{"tensor":"x","dtype":"bfloat16","shape":[99999999999]}', {}),
    "a shape of more": ('{"tensor":"x","dtype":"bfloat16","shape":[99999999,99999999999]}', {}),
    "a negative shape": ('{"array":"x","dtype":"<i8","shape":[-7,3]}', {}),
    "a shape that is none": ('{"tensor":"x","dtype":"bfloat16","shape":null}', {}),
}


@pytest.mark.parametrize("kind", FORGED)
def test_what_is_forged_is_refused_in_one_line(tmp_path: Path, kind: str) -> None:
    body, head = FORGED[kind]
    forge(tmp_path / "c", body, **head)
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(1_000)  # Python's own; libraries raise it for the whole process
    try:
        with pytest.raises(RunError) as caught:
            checkpoint.read(tmp_path / "c")
    finally:
        sys.setrecursionlimit(limit)
    assert str(tmp_path / "c") in str(caught.value)
    assert len(str(caught.value)) < 500 and "\n" not in str(caught.value)


def test_a_lack_of_memory_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def decode(*_: Any) -> None:
        raise MemoryError("too much")

    checkpoint.write(tmp_path / "c", 1)
    monkeypatch.setattr(checkpoint, "decode", decode)
    with pytest.raises(MemoryError, match="too much"):
        checkpoint.read(tmp_path / "c")
