"""What is wrong with settings, in words: names that nobody has, and which variable cannot be read."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from difflib import get_close_matches

from pydantic import BaseModel, ValidationError

PREFIX = "DONGCHA_"
Sections = Mapping[str, Collection[str]]
"""Names of the settings of each section; of a setting without a section none."""


def sections_of(settings: type[BaseModel]) -> Sections:
    """The sections of a class of settings, in its order."""
    kinds = {name: field.annotation for name, field in settings.model_fields.items()}
    return {
        name: tuple(kind.model_fields) if isinstance(kind, type) and issubclass(kind, BaseModel) else ()
        for name, kind in kinds.items()
    }


def misspelt_variables(names: Iterable[str], sections: Sections) -> list[str]:
    """What is wrong with variables that are meant as settings and that pydantic passes over.

    Others that begin alike are let be: keys, and what Kubernetes sets for a service named `dongcha`.
    """
    found = []
    for name in sorted(names):
        own, _, rest = name.upper().partition(PREFIX)
        if own or not rest:
            continue
        section, dots, _ = rest.lower().partition("__")
        if dots and not sections.get(section):
            found.append(f"{name}: no section `{section}`{_meant(section, [s for s in sections if sections[s]])}")
        elif not dots:
            found += [
                f"{name}: two underscores stand between section and name, {PREFIX}{known.upper()}__{inner.upper()}"
                for known, inners in sections.items()
                for inner in inners
                if rest.lower() == f"{known}_{inner}"
            ]
    return found


def in_words(error: ValidationError, sections: Sections) -> str:
    """Every problem with the setting's name; values stay out, they may be secrets."""
    problems = []
    for problem in error.errors():
        *path, last = map(str, problem["loc"])
        name, said = ".".join([*path, last]), problem["msg"]
        if problem["type"] == "extra_forbidden":
            known = [".".join([*path, other]) for other in (sections.get(path[0], ()) if path else sections)]
            said = f"no such setting{_meant(name, known)}"
        problems.append(f"{name}: {said}")
    return "; ".join(problems)


def not_json(error: BaseException | None, environment: Mapping[str, str]) -> str:
    """Which variable's value made a JSON parser stop with `error`: lists and mappings are JSON there."""
    doc = error.doc if isinstance(error, json.JSONDecodeError) else None
    names = sorted(name for name, value in environment.items() if value == doc and name.upper().startswith(PREFIX))
    return f'{" or ".join(names)}: not JSON ({error}); a list is written as \'["a"]\', a mapping as \'{{"a": "b"}}\''


def _meant(name: str, known: Collection[str]) -> str:
    near = get_close_matches(name, known, n=1)
    return f"; is `{near[0]}` meant?" if near else "; docs/settings.md has them all"
