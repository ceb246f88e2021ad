"""Changes of JSON that stay JSON, so that a fuzzer gets past the parser."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

_VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 1, 0.5, 1e308, 2**63, 10**40, "", "a", "0" * 64, "../x", "\ud800", "\0", [], {}, [0], [None] * 50, {"a": 1},
)  # fmt: skip


def mutate_json(data: bytes, size_max: int, seed: int, mutate: Callable[[bytes, int], bytes]) -> bytes:
    """Two times of three a value or a key is replaced, removed, doubled or moved; else bytes are changed."""
    generator = random.Random(seed)
    if generator.random() < 1 / 3:
        return mutate(data, size_max)
    try:
        content = json.loads(data)
        places = list(_places(content))
        for _ in range(generator.choice((1, 1, 1, 2, 4))):
            holder, key = generator.choice(places)
            _change(holder, key, generator, places, mutate)
        text = json.dumps(content, indent=generator.choice((None, 2)), sort_keys=generator.random() < 0.5)
        return text.encode()[:size_max]
    except (ValueError, RecursionError, KeyError, IndexError, TypeError):
        return mutate(data, size_max)


def _places(value: Any) -> Any:
    keys = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield value, key
        yield from _places(value[key])


def _change(
    holder: Any, key: Any, generator: random.Random, places: Any, mutate: Callable[[bytes, int], bytes]
) -> None:
    what = generator.randrange(6)
    if what == 0:
        holder[key] = generator.choice(_VALUES)
    elif what == 1:
        del holder[key]
    elif what == 2:
        other, other_key = generator.choice(places)
        holder[key] = json.loads(json.dumps(other[other_key]))
    elif what == 3 and isinstance(holder, dict):
        holder[generator.choice((f"{key}x", "files", "name", "extensions"))] = holder.pop(key)
    elif what == 4 and isinstance(holder, list):
        holder.insert(generator.randrange(len(holder) + 1), holder[key])
    elif isinstance(holder[key], str):
        holder[key] = mutate(holder[key].encode(errors="replace") or b"a", 256).decode(errors="replace")
    elif isinstance(holder[key], int | float):
        holder[key] = generator.choice(
            (holder[key] + 1, -holder[key], holder[key] * 2, float(holder[key]), str(holder[key]))
        )
