"""One line for an error of pydantic: `num_envs=-1: expected an integer greater than 0`.

What was expected and the known keys come from the JSON schema of the sections that the data chose,
so they always agree with the fields.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from ..core.errors import listed
from ..core.secret_values import masked
from .config import BlockError
from .schema import Schema, child
from .text import brief
from .unknown_keys import meant

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
    """The key of the first error, and the line that explains it.

    `texts` has the values as they were typed, by dotted key; `schema` describes all of `Config`.
    """
    first = error.errors(include_url=False)[0]
    parts, kind = first["loc"], first["type"]
    path, node = _walk(schema, path, parts[:-1] if kind == "extra_forbidden" else parts)
    inner = first.get("ctx", {}).get("error")
    if isinstance(inner, BlockError):
        path, node = _walk(schema, path, (inner.key, inner.index))
        inner = inner.error
    if isinstance(inner, ValidationError):
        return explain(inner, schema, texts, path)
    key = ".".join(path)
    if kind == "extra_forbidden":
        key = ".".join([*path, str(parts[-1])])
        below = [f"{word}={text}" for word, text in texts.items() if word.startswith(f"{key}.")]
        typed = " ".join(below) or _typed(key, first["input"], texts)
        own = listed(node.get("properties", {}), 350)
        takes = f"{'.'.join(path) or 'it'} takes: {own}"
        return key, f"{typed}: unknown key{meant(key, path, schema)} ({takes})"
    if kind == "value_error":
        line = _own_words(key, str(inner), first["input"], node, texts)
        return key or line.partition("=")[0], line
    if kind == "missing":
        return key, f"{key}: missing; expected {expected(node)}"
    return key, f"{_typed(key, first['input'], texts)}: expected {expected(node)}"


def _walk(
    schema: Schema, path: tuple[str, ...], parts: tuple[int | str, ...]
) -> tuple[tuple[str, ...], Schema]:
    """Follow path and parts, without the names of union members that pydantic puts between."""
    node, kept = schema, []
    for part in (*path, *parts):
        below = child(node, str(part))
        if below is not None:
            node = below
            kept.append(str(part))
    return tuple(kept), node


def _typed(key: str, value: Any, texts: Mapping[str, str]) -> str:
    return f"{key}={texts.get(key, brief(masked(value, key)))}"


def _own_words(key: str, message: str, value: Any, node: Schema, texts: Mapping[str, str]) -> str:
    """The message of a validator; it may begin with a key of its section (`batch_size=3: ...`)."""
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
