"""An entry of a component or a data source with one more option."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any


def with_option(
    entry: Callable[..., Any], name: str, kind: Any, default: Any
) -> Callable[..., Any]:
    """An entry that has one more option, which changes nothing."""

    def make(*arguments: Any, **options: Any) -> Any:
        options.pop(name, None)
        return entry(*arguments, **options)

    own = inspect.signature(entry)
    more = inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
    make.__signature__ = own.replace(parameters=[*own.parameters.values(), more])  # type: ignore[attr-defined]
    make.__annotations__ = {**inspect.get_annotations(entry, eval_str=True), name: kind}
    return make
