"""The name of a search's study, which covers all that its values depend on."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from vididi.config import Config
from vididi.dotted_keys import flatten
from vididi.introduced import Introduced, introduced_in, without_introduced
from vididi.search import digest
from vididi.sweep import Sweep
from vididi.sweep_keys import by_full_names, full_name

SEARCH_IN_STUDY, SWEEP_IN_STUDY = {"name", "seed", "metrics", "space"}, {"base", "exclude", "seeds"}


def study_name(
    sweep: Sweep, changes: Mapping[str, Any], data_checksum: str, example: Config | None = None
) -> str:
    """The name of a search's study.

    It covers all that the study's values depend on; how many trials there are to be is no part of
    it.

    Args:
        changes: values that win over the file's, as ``--set`` gives them.
        example: a resolved configuration of the search. A key that came later (vididi.introduced)
            and is not drawn counts with its value there, written or not; without an example only
            if it is written.
    """
    search = without_introduced(
        type(sweep.search), sweep.search.model_dump(include=SEARCH_IN_STUDY)
    )
    definition = sweep.model_dump(include=SWEEP_IN_STUDY)
    written = by_full_names(definition["base"]) | by_full_names(changes)
    values = flatten(example.result_content()) if example else written
    late = {
        key: about
        for key, about in _introduced_here(sweep, example or Config()).items()
        if key in values
    }
    before = {key for key, about in late.items() if about.means(values[key])}
    definition["base"] = _without(definition["base"], before)
    more = {key: values[key] for key in late if key not in before and key not in written}
    content = [search, definition, _without(changes, before), data_checksum]
    return f"{sweep.name}-{digest([*content, more] if more else content)}"


def _introduced_here(sweep: Sweep, config: Config) -> dict[str, Introduced]:
    """Keys that came later and have one value in all cells of a search, dotted."""
    drawn = {full_name(name) for name in sweep.search.space}
    late = {
        ".".join(path): about
        for path, about in introduced_in(type(config), config.result_content()).items()
    }
    return {
        key: about
        for key, about in late.items()
        if not drawn & {key, f"{key.rpartition('.')[0]}.name"}
    }


def _without(values: Mapping[str, Any], keys: Collection[str], prefix: str = "") -> dict[str, Any]:
    """Values, nested or dotted, without these keys and without sections that hold only these."""
    others = {}
    for name, value in values.items():
        full = full_name(f"{prefix}{name}")
        left = _without(value, keys, f"{full}.") if isinstance(value, Mapping) else value
        if full not in keys and (left != {} or value == {}):
            others[name] = left
    return others
