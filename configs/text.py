"""Text to values and back: YAML with YAML 1.2's scalars.

PyYAML follows YAML 1.1, in which `1e-3` is a string, `1:30` is 90, `010` is 8 and `no` is false.
Here numbers are what they look like: `3e-4` a float, `1e6` and `100_000` integers (a whole number
with an exponent is a count, and a float field takes it too), `true`/`false` booleans, `null`/`~`
nothing, all else text. Python's `True`, `False` and `None` are what they are in Python.
"""

import json
import re
from os import PathLike, fspath
from typing import Any

import numpy as np
import yaml

MOST_VALUES = 100_000
"""Of a YAML document."""
_BOOL = re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$")
_NULL = re.compile(r"^(?:null|Null|NULL|None|~|)$")
_INT = re.compile(r"^[-+]?(?:0|[1-9][0-9_]*)$")
_WHOLE = re.compile(r"^[-+]?[1-9][0-9]*[eE]\+?[0-9]{1,2}$")
_FLOAT = re.compile(
    r"^[-+]?(?:[0-9][0-9_]*\.[0-9]*|\.[0-9]+|[0-9][0-9_]*(?=[eE]))(?:[eE][-+]?[0-9]+)?$"
    r"|^[-+]?\.(?:inf|Inf|INF)$|^\.(?:nan|NaN|NAN)$"
)


class Loader(yaml.SafeLoader):
    """Safe YAML with the scalars above; a key given twice in one mapping is an error."""


class Dumper(yaml.SafeDumper):
    """Writes YAML that `Loader` and YAML 1.1 read alike: ambiguous strings get quotes."""


def _whole(loader: yaml.SafeLoader, node: yaml.Node) -> int:
    digits, exponent = re.split("[eE]", str(node.value))
    return int(digits) * 10 ** int(exponent)


def _mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, str):
            raise ValueError(f"{key}: keys must be text, write '{key}'")
        if key in result:
            raise ValueError(f"{key}: given twice (line {key_node.start_mark.line + 1})")
        result[key] = loader.construct_object(value_node, deep=True)
    return result


Loader.yaml_implicit_resolvers = {}  # without YAML 1.1's
for _tag, _pattern, _first in (
    ("tag:yaml.org,2002:bool", _BOOL, "tTfF"),
    ("tag:yaml.org,2002:null", _NULL, ("n", "N", "~", "")),
    ("tag:yaml.org,2002:int", _INT, "-+0123456789"),
    ("!whole", _WHOLE, "-+0123456789"),
    ("tag:yaml.org,2002:float", _FLOAT, "-+.0123456789"),
):
    Loader.add_implicit_resolver(_tag, _pattern, list(_first))
    Dumper.add_implicit_resolver(_tag, _pattern, list(_first))
Loader.add_constructor("!whole", _whole)
Loader.add_constructor("tag:yaml.org,2002:map", _mapping)


def parse(text: str) -> Any:
    """Read one YAML document. Raises ValueError with one line if it isn't one."""
    try:
        data = yaml.load(text, Loader)
        _check_plain(data)
        return data
    except RecursionError:
        raise ValueError("not valid YAML: nested too deeply") from None
    except yaml.YAMLError as error:
        problem = getattr(error, "problem", None) or "cannot be read"
        mark = getattr(error, "problem_mark", None)
        place = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        raise ValueError(f"not valid YAML: {problem}{place}") from error


def _check_plain(data: Any) -> None:
    """Raises ValueError for values that JSON lacks, and for too many, as aliases of aliases make.

    A value that stands in several places is counted in each.
    """
    left, count = [data], 0
    while left:
        value = left.pop()
        count += 1
        if count > MOST_VALUES:
            raise ValueError(f"more than {MOST_VALUES:,} values")
        if isinstance(value, dict | list):
            left.extend(value.values() if isinstance(value, dict) else value)
        elif not isinstance(value, str | int | float | None):
            raise ValueError(f"{value!r:.60}: expected a number, text, true, false or null")


def parse_value(text: str) -> Any:
    """Read the value of a word: YAML if it opens with a bracket or a quote, else one scalar.

    In a scalar `#` and `:` are what they are: `run_dir=trial #1` has no comment.
    """
    text = text.strip()
    if text.startswith(("[", "{", "'", '"')):
        return parse(text)
    loader = Loader("")
    tag = loader.resolve(yaml.ScalarNode, text, (True, False))
    return loader.construct_object(yaml.ScalarNode(tag, text))


def dump(data: Any) -> str:
    """Write a tree of mappings, lists and scalars as YAML that `parse` reads back unchanged."""
    return yaml.dump(data, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=100)


def brief(value: Any) -> str:
    """One line of a value as one would type it: `[64, 64]`, `true`, `0.001`, `lstm`."""
    return value if isinstance(value, str) else one_line(value)


def one_line(value: Any) -> str:
    """One line of YAML that `parse` reads back unchanged."""
    text = yaml.dump(value, Dumper=Dumper, default_flow_style=True, sort_keys=False, width=10**6)
    return text.removesuffix("\n...\n").strip()


def plain(value: Any) -> Any:
    """Reduce tuples, paths and NumPy numbers to YAML's types. Raises ValueError."""
    return json.loads(json.dumps(value, default=_default))


def _default(value: Any) -> Any:
    if isinstance(value, PathLike):
        return fspath(value)
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise ValueError(f"{value!r}: expected a number, text, true, false, null, a list or a mapping")
