"""Versions of a taxonomy, and which of them is in force on a night.

The file that `label.taxonomy` names is the first approved version. Every later one is a file of its own under
`var/taxonomies/versions`, written once and never changed; a block `approval` in it says who approved it, when, and from
which night on it holds. Old nights keep the version of their time, so that running one again gives the same tables.
"""

from __future__ import annotations

import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from jobs.errors import InputError
from jobs.settings import Settings
from jobs.storage import check_ds
from jobs.taxonomies.lineage import asks_all
from jobs.taxonomy import Taxonomy, check_ids, dump_taxonomy, load_taxonomy, parse_taxonomy

_FILE = re.compile(r"^v(\d+)\.yaml$", re.ASCII)


@dataclass(frozen=True, slots=True)
class Approval:
    """Who approved a version, when (UTC, ISO 8601), the first night it holds for, and the proposal it came from."""

    by: str
    at: str
    from_ds: str
    proposal: str | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Version:
    """An approved version; the first one has no approval on record, it is the file of the settings."""

    taxonomy: Taxonomy
    path: Path
    approval: Approval | None

    @property
    def from_ds(self) -> str:
        """The first night that this version holds for; empty: since ever."""
        return self.approval.from_ds if self.approval else ""


def versions_folder(settings: Settings) -> Path:
    """Where the versions after the first one lie."""
    return settings.var_dir / "taxonomies" / "versions"


def _stored(path: Path) -> Version:
    taxonomy = load_taxonomy(path)
    raw = yaml.safe_load(path.read_text("utf-8")).get("approval")
    names = ("by", "at", "from_ds", "proposal", "note")
    if not isinstance(raw, dict) or not set(raw) <= set(names) or not {"by", "at", "from_ds"} <= set(raw):
        raise InputError(f"{path}: its block `approval` is missing or damaged; restore the file from a backup")
    return Version(taxonomy, path, Approval(**raw))


def all_versions(settings: Settings) -> list[Version]:
    """Every approved version, oldest first.

    Raises:
        InputError: a file cannot be read, or the file of the settings was given the number of a stored version.
    """
    path = settings.resolve(settings.label.taxonomy)
    first = Version(load_taxonomy(path), path, None)
    folder = versions_folder(settings)
    found = {int(m[1]): p for p in folder.glob("v*.yaml") if (m := _FILE.match(p.name))} if folder.is_dir() else {}
    later = [_stored(found[number]) for number in sorted(found)]
    if not later:
        check_ids(first.taxonomy, str(path))
    if later and later[0].taxonomy.version <= first.taxonomy.version:
        raise InputError(
            f"{path} is version {first.taxonomy.version}, but {later[0].path} was approved after an earlier one: "
            "change a taxonomy by `python -m jobs taxonomy approve --file`, or start with an empty `var`"
        )
    return [first, *later]


def version_of(settings: Settings, number: int) -> Version:
    """The version of this number.

    Raises:
        InputError: there is none; the message lists those there are.
    """
    there = all_versions(settings)
    for version in there:
        if version.taxonomy.version == number:
            return version
    known = ", ".join(str(v.taxonomy.version) for v in there)
    raise InputError(f"taxonomy version {number} does not exist; approved so far: {known}")


def latest_version(settings: Settings) -> Version:
    """The newest approved version, whatever night it begins with."""
    return all_versions(settings)[-1]


def versions_asking_all(settings: Settings, taxonomy: Taxonomy) -> frozenset[int]:
    """Numbers of the approved versions whose `none` says that no tag of `taxonomy` applies."""
    return frozenset(v.taxonomy.version for v in all_versions(settings) if asks_all(v.taxonomy, taxonomy))


def version_in_force(settings: Settings, ds: str) -> Version:
    """The newest version that holds for night `ds`."""
    check_ds(ds)
    return [v for v in all_versions(settings) if v.from_ds <= ds][-1]


def approved_taxonomy(settings: Settings, ds: str) -> Taxonomy:
    """The taxonomy that every stage of night `ds` uses.

    Raises:
        InputError: its file is missing or cannot be read.
    """
    return version_in_force(settings, ds).taxonomy


def dump_with(head: dict[str, Any], taxonomy: Taxonomy) -> str:
    """The YAML text of a taxonomy under a block of its own."""
    return yaml.safe_dump(head, allow_unicode=True, sort_keys=False, width=110) + dump_taxonomy(taxonomy)


def add_version(settings: Settings, taxonomy: Taxonomy, approval: Approval) -> Version:
    """Store an approved version; the file appears whole or not at all, and is never overwritten.

    Raises:
        InputError: it breaks a rule of taxonomy files, or somebody else stored this version in the meantime.
    """
    text = dump_with({"approval": asdict(approval)}, taxonomy)
    try:
        # Every stage reads every version: one that cannot be read would stop them all.
        parse_taxonomy(yaml.safe_load(text), "its file")
    except InputError as error:
        raise InputError(
            f"version {taxonomy.version} would not be readable ({error}): change the taxonomy, then approve it again"
        ) from error
    path = versions_folder(settings) / f"v{taxonomy.version}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(f".{os.getpid()}.tmp")
    draft.write_text(text, "utf-8")
    try:
        # Unlike a rename, a hard link fails where the name is taken: of two approvals one wins.
        os.link(draft, path)
    except FileExistsError as error:
        raise InputError(
            f"version {taxonomy.version} was approved in the meantime ({path}): look at it first"
        ) from error
    finally:
        draft.unlink()
    return Version(taxonomy, path, approval)
