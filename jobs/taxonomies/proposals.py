"""Proposed taxonomies: a folder a night, and beside the proposal what a person decided about it."""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path

import yaml

from jobs.errors import InputError
from jobs.settings import Settings
from jobs.storage import check_ds
from jobs.taxonomies.align import Alignment
from jobs.taxonomy import Taxonomy, load_taxonomy

APPROVED, REJECTED = "approved", "rejected"
PROPOSAL = "taxonomy.yaml"
WRITTEN = "written"
"""Beside a proposal: the SHA-256 of what `induce` wrote."""
ALIGNMENT = "alignment.json"
"""Beside a proposal: what was induced, counted against the approved version."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What a person decided about a proposal; `digest` is the SHA-256 of the file that lay there at that time."""

    decision: str
    by: str
    at: str
    digest: str
    version: int | None = None
    note: str = ""


def proposal_folder(settings: Settings, ds: str) -> Path:
    """Where a night's proposal lies: taxonomy.yaml is what is proposed, induced.yaml what was found, beside it how."""
    return settings.var_dir / "taxonomies" / check_ds(ds)


def proposal_file(settings: Settings, ds: str) -> Path:
    """The proposed taxonomy of night `ds`.

    Raises:
        InputError: the night has no proposal.
    """
    path = proposal_folder(settings, ds) / PROPOSAL
    if not path.is_file():
        raise InputError(f"no proposed taxonomy for {ds}: run `python -m jobs induce --ds {ds}` first")
    return path


def load_proposal(settings: Settings, ds: str) -> Taxonomy:
    """The proposal of night `ds`, as it lies there now: an analyst may have edited it."""
    return load_taxonomy(proposal_file(settings, ds))


def alignment_of(settings: Settings, ds: str) -> Alignment | None:
    """What was induced for night `ds`, counted against the approved version; None where nothing was.

    None too where another release of Dongcha counted it otherwise: a proposal may wait for days, and must still be
    shown and decided after an upgrade.
    """
    path = proposal_folder(settings, ds) / ALIGNMENT
    if not path.is_file():
        return None
    try:
        return Alignment.from_dict(json.loads(path.read_text("utf-8")))
    except (KeyError, TypeError):
        return None


def digest_of(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def edited(folder: Path) -> bool:
    """Whether the proposal in `folder` is not, or not surely, as `induce` wrote it."""
    page, written = folder / PROPOSAL, folder / WRITTEN
    return page.is_file() and not (written.is_file() and written.read_text("utf-8") == digest_of(page))


def put_aside(folder: Path) -> Path | None:
    """Rename the proposal in `folder` where it was edited; returns its new name, None where nothing was."""
    if not edited(folder):
        return None
    free = (path for number in count(1) if not (path := folder / f"taxonomy.edited-{number}.yaml").exists())
    return (folder / PROPOSAL).rename(next(free))


def decision_on(settings: Settings, ds: str) -> Decision | None:
    """What was decided about the proposal as it lies there; None while it is open, or was induced anew since."""
    path = proposal_folder(settings, ds) / "decision.yaml"
    if not path.is_file():
        return None
    found = Decision(**yaml.safe_load(path.read_text("utf-8")))
    return found if found.digest == digest_of(proposal_file(settings, ds)) else None


@contextmanager
def deciding(settings: Settings) -> Iterator[None]:
    """One decision at a time: of two people who answer at once the second is told what the first decided."""
    root = settings.var_dir / "taxonomies"
    root.mkdir(parents=True, exist_ok=True)
    with (root / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def record_decision(settings: Settings, ds: str, decision: Decision) -> Path:
    """Write the decision beside the proposal of night `ds`."""
    path = proposal_folder(settings, ds) / "decision.yaml"
    path.write_text(yaml.safe_dump(asdict(decision), allow_unicode=True, sort_keys=False), "utf-8")
    return path


def all_proposals(settings: Settings) -> list[tuple[str, Taxonomy, Decision | None]]:
    """(night, proposal, decision) of every proposal, oldest night first."""
    root = settings.var_dir / "taxonomies"
    nights = sorted(p.parent.name for p in root.glob(f"[0-9]*/{PROPOSAL}")) if root.is_dir() else []
    return [(ds, load_proposal(settings, ds), decision_on(settings, ds)) for ds in nights]
