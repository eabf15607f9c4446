"""A person's decision about a taxonomy: approve it, in whole or in part, or reject it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from jobs.errors import InputError
from jobs.settings import Settings
from jobs.storage import check_ds
from jobs.taxonomies.lineage import next_version, same, without
from jobs.taxonomies.proposals import (
    APPROVED,
    REJECTED,
    Decision,
    deciding,
    decision_on,
    digest_of,
    proposal_file,
    record_decision,
)
from jobs.taxonomies.store import Approval, Version, add_version, latest_version
from jobs.taxonomy import load_taxonomy


@dataclass(frozen=True, slots=True)
class Reviewer:
    """Who decides, and a remark for those who read it later."""

    by: str
    note: str = ""

    def checked(self) -> Reviewer:
        """Itself; InputError where nobody is named."""
        if not self.by.strip():
            raise InputError("an approval needs the name of who decides: --by NAME")
        return Reviewer(self.by.strip(), self.note.strip())


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _refuse_decided(settings: Settings, ds: str) -> None:
    found = decision_on(settings, ds)
    if found is not None:
        what = f" as version {found.version}" if found.version else ""
        raise InputError(
            f"the proposal of {ds} was {found.decision}{what} by {found.by} at {found.at}; "
            "induce again, or hand in an edited file with --file and --from"
        )


def _refuse_outdated(number: int, latest: Version, what: str) -> None:
    if number <= latest.taxonomy.version:
        raise InputError(
            f"{what} is outdated: it says version {number}, and version {latest.taxonomy.version} was approved "
            "already; make it from that one (`taxonomy show`, or `induce` and `diff` again)"
        )
    if number > latest.taxonomy.version + 1:
        raise InputError(f"{what} says version {number}; the next one is {latest.taxonomy.version + 1}")


def approve(
    settings: Settings,
    reviewer: Reviewer,
    *,
    ds: str | None = None,
    file: Path | None = None,
    leave_out: Collection[str] = (),
    from_ds: str | None = None,
) -> Version:
    """Make a proposal the version in force from a night on; where it changes nothing, the latest version stays.

    Args:
        settings: where versions and proposals lie.
        reviewer: who decides.
        ds: the night of the proposal; None for a version that a person wrote.
        file: the taxonomy to approve instead of the proposal's own file, e.g. an edited copy.
        leave_out: ids of tags whose changes are not adopted.
        from_ds: the first night it holds for; the proposal's night where it is None.

    Raises:
        InputError: the proposal does not exist, was decided already or is outdated; the taxonomy breaks a rule; or
            it would begin before the version it follows.
    """
    reviewer = reviewer.checked()
    if ds is None and (file is None or from_ds is None):
        raise InputError("say which proposal (--ds), or hand in a taxonomy (--file) and its first night (--from)")
    begin = check_ds(from_ds or ds or "")
    with deciding(settings):
        if ds is not None:
            proposal_file(settings, ds)
            _refuse_decided(settings, ds)
        path = file if file is not None else proposal_file(settings, ds or "")
        wanted, latest = load_taxonomy(path), latest_version(settings)
        _refuse_outdated(wanted.version, latest, str(path))
        if begin < latest.from_ds:
            raise InputError(
                f"version {latest.taxonomy.version} holds from {latest.from_ds} on: a later one cannot begin on {begin}"
            )
        taxonomy = next_version(latest.taxonomy, without(latest.taxonomy, wanted, leave_out))
        approval = Approval(reviewer.by, _now(), begin, ds, reviewer.note)
        if not same(latest.taxonomy, taxonomy):
            version = add_version(settings, taxonomy, approval)
        elif ds is not None:
            version = latest
        else:
            raise InputError(f"nothing to approve: this is what version {latest.taxonomy.version} says already")
        if ds is not None:
            digest = digest_of(proposal_file(settings, ds))
            decision = Decision(APPROVED, reviewer.by, approval.at, digest, version.taxonomy.version, reviewer.note)
            record_decision(settings, ds, decision)
        return version


def reject(settings: Settings, reviewer: Reviewer, ds: str) -> Path:
    """Put the proposal of night `ds` aside; the version in force stays. Returns where that is written.

    Raises:
        InputError: there is no such proposal, or it was decided already.
    """
    reviewer = reviewer.checked()
    path = proposal_file(settings, ds)
    with deciding(settings):
        _refuse_decided(settings, ds)
        rejected = Decision(REJECTED, reviewer.by, _now(), digest_of(path), None, reviewer.note)
        return record_decision(settings, ds, rejected)
