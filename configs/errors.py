"""One line for what pydantic found: `num_envs=-1: expected an integer greater than 0`.

The expectation and the known keys come from the JSON schema of the sections that the data chose, so
they are always those of the fields.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from .config import BlockError
from .groups import nearest
from .text import brief

Schema = dict[str, Any]
NOUNS = {
    "integer": "an integer",
    "number": "a number",
    "string": "text",
    "boolean": "true or false",
    "null": "null",
    "array": "a list",
    "object": "a mapping {KEY: VALUE}",
}
BOUNDS = {
    "exclusiveMinimum": "greater than",
    "minimum": "of at least",
    "exclusiveMaximum": "less than",
    "maximum": "of at most",
    "minItems": "with a length of at least",
    "maxItems": "with a length of at most",
    "minLength": "with a length of at least",
}


def schema_of(model: type[BaseModel]) -> Schema:
    """JSON schema of a model with every reference replaced by what it refers to."""
    schema = model.model_json_schema()
    definitions = schema.pop("$defs", {})

    def resolve(node: Any) -> Any:
        if isinstance(node, dict):
            if "$ref" in node:
                return resolve(definitions[node["$ref"].rsplit("/", 1)[1]])
            return {key: resolve(value) for key, value in node.items()}
        return [resolve(value) for value in node] if isinstance(node, list) else node

    return resolve(schema)


def expected(schema: Schema) -> str:
    """The values that a schema allows, in words."""
    if options := schema.get("anyOf", schema.get("oneOf")):
        return " or ".join(dict.fromkeys(expected(option) for option in options))
    if "const" in schema:
        return brief(schema["const"])
    if "enum" in schema:
        return "one of " + ", ".join(brief(value) for value in schema["enum"])
    noun = NOUNS.get(str(schema.get("type")), "another value")
    if schema.get("type") == "array" and "items" in schema:
        noun = f"a list [...], each {expected(schema['items'])},"
    if "minimum" in schema and "maximum" in schema:
        return f"{noun} from {schema['minimum']} to {schema['maximum']}"
    bounds = [f"{word} {schema[key]}" for key, word in BOUNDS.items() if key in schema]
    return f"{noun} {' and '.join(bounds)}".strip(" ,")


def explain(
    error: ValidationError, schema: Schema, texts: Mapping[str, str], path: tuple[str, ...] = ()
) -> tuple[str, str]:
    """Key that the first error is about, and the line about it.

    `texts` has the values as they were typed, by dotted key; `schema` that of the whole `Config`.
    """
    first = error.errors(include_url=False)[0]
    parts, kind = first["loc"], first["type"]
    path, node = _walk(schema, path, parts[:-1] if kind == "extra_forbidden" else parts)
    inner = first.get("ctx", {}).get("error")
    if isinstance(inner, BlockError):
        path, node = _walk(schema, path, ("blocks", inner.index))
        inner = inner.error
    if isinstance(inner, ValidationError):
        return explain(inner, schema, texts, path)
    key = ".".join(path)
    if kind == "extra_forbidden":
        key = ".".join([*path, str(parts[-1])])
        return key, f"{_typed(key, first['input'], texts)}: {_unknown(key, path, node, schema)}"
    if kind == "value_error":
        line = _own_words(key, str(inner), first["input"], node, texts)
        return key or line.partition("=")[0], line
    if kind == "missing":
        return key, f"{key}: missing; expected {expected(node)}"
    return key, f"{_typed(key, first['input'], texts)}: expected {expected(node)}"


def _walk(
    schema: Schema, path: tuple[str, ...], parts: tuple[int | str, ...]
) -> tuple[tuple[str, ...], Schema]:
    """Follow path and parts; names of union members, which pydantic puts between, are left out."""
    node, kept = schema, []
    for part in (*path, *parts):
        below = _child(node, str(part))
        if below is not None:
            node = below
            kept.append(str(part))
    return tuple(kept), node


def _child(node: Schema, part: str) -> Schema | None:
    if part in node.get("properties", {}):
        return node["properties"][part]
    if part.isdigit():
        if int(part) < len(node.get("prefixItems", [])):
            return node["prefixItems"][int(part)]
        if "items" in node:
            return node["items"]
    if isinstance(below := node.get("additionalProperties"), dict):  # any key, values of one kind
        return below
    options = node.get("anyOf", [])
    found = (_child(option, part) for option in options)
    return next((child for child in found if child is not None), None)


def _typed(key: str, value: Any, texts: Mapping[str, str]) -> str:
    return f"{key}={texts.get(key, brief(value))}"


def _own_words(key: str, message: str, value: Any, node: Schema, texts: Mapping[str, str]) -> str:
    """A validator's sentence; it may open with a key of its own section (`batch_size=3: ...`)."""
    message = " ".join(message.split())
    if not key:
        return message
    opening = message.partition("=")[0]
    if opening in node.get("properties", {}):
        return f"{key}.{message}"
    if isinstance(value, dict | list | BaseModel):
        return message if message.startswith(key) else f"{key}: {message}"
    typed = _typed(key, value, texts)
    return message if message.startswith(typed) else f"{typed}: {message}"


def _unknown(key: str, path: tuple[str, ...], node: Schema, schema: Schema) -> str:
    """What an unknown key could have been: a slip, that name elsewhere, or a similar one."""
    leaf, prefix = key.rsplit(".", 1)[-1], "".join(f"{part}." for part in path)
    own = list(node.get("properties", {}))
    here = [prefix + name for name in own]
    every = _keys(schema)
    same = [other for other in every if other.rsplit(".", 1)[-1] == leaf]
    hint = nearest(key, here, 0.9) or (f"; did you mean {same[0]}?" if same else "")
    hint = hint or nearest(key, here) or nearest(key, every)
    return f"unknown key{hint} ({'.'.join(path) or 'it'} takes: {', '.join(own)})"


def _keys(schema: Schema, prefix: str = "") -> list[str]:
    found = []
    for name, below in schema.get("properties", {}).items():
        found += [prefix + name, *_keys(below, f"{prefix}{name}.")]
    for index, below in enumerate(schema.get("prefixItems", [])):
        found += _keys(below, f"{prefix}{index}.")
    return found
