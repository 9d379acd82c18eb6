"""What the configuration takes, key by key: the JSON schema of the sections that the data chose."""

import functools
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from ..agents.choices import agent_class
from ..networks import block_class
from .config import BLOCKS, Config
from .text import brief

Schema = dict[str, Any]
TYPES = {bool: {"boolean"}, int: {"integer", "number"}, float: {"number"}}
"""The JSON types that a Python number can be."""


@functools.cache
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


def schema_for(data: Mapping[str, Any]) -> Schema:
    """Schema of the configuration with the agent and the blocks that its data chose."""
    schema = schema_of(Config)
    try:
        agent = schema_of(agent_class(data["agent"]["name"]).Config)
        lists = {key: data["network"][key] for key in BLOCKS if data["network"].get(key)}
        chosen = {
            key: {
                "type": "array",
                "prefixItems": [schema_of(block_class(block["name"]).Config) for block in blocks],
            }
            for key, blocks in lists.items()
        }
    except (ValueError, KeyError, TypeError):  # no such choice: `Config` will say so
        return schema
    network = schema["properties"]["network"]
    network = network | {"properties": network["properties"] | chosen}
    return schema | {"properties": schema["properties"] | {"agent": agent, "network": network}}


def child(node: Schema, part: str) -> Schema | None:
    """Schema of what a part of a dotted key leads to; None if there is no such part."""
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
    found = (child(option, part) for option in options)
    return next((below for below in found if below is not None), None)


def keys(schema: Schema, prefix: str = "") -> list[str]:
    """Every dotted key, sections included."""
    found = []
    for name, below in schema.get("properties", {}).items():
        found += [prefix + name, *keys(below, f"{prefix}{name}.")]
    for index, below in enumerate(schema.get("prefixItems", [])):
        found += keys(below, f"{prefix}{index}.")
    return found


def fitted(value: Any, node: Schema, texts: Mapping[str, str], key: str = "") -> Any:
    """The value with its numbers as their fields take them, where nothing is lost.

    A whole float is an integer (W&B's sweeps write 2000.0), a number where text is expected is the
    text that was typed (`run_dir=2024`). What has no type, env.kwargs for instance, stays.

    Args:
        value: Of the data, with all that is below it.
        node: Its schema.
        texts: Values as they were typed, by dotted key.
        key: Its dotted key.
    """
    if isinstance(value, dict | list):
        parts = value.items() if isinstance(value, dict) else enumerate(value)
        below = {
            part: fitted(inner, child(node, str(part)) or {}, texts, f"{key}.{part}".strip("."))
            for part, inner in parts
        }
        return below if isinstance(value, dict) else list(below.values())
    types = {option.get("type") for option in node.get("anyOf", [node])}
    if type(value) not in TYPES or types & TYPES[type(value)]:
        return value
    if isinstance(value, float) and "integer" in types:
        return int(value) if value.is_integer() and abs(value) < 2**53 else value
    return texts.get(key, brief(value)) if "string" in types else value
