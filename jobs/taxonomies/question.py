"""What the `taxonomy` DAG asks a person, and what is done with the answer."""

from __future__ import annotations

from dataclasses import dataclass

from jobs.errors import InputError
from jobs.settings import Settings
from jobs.taxonomies.proposals import decision_on, proposal_file, proposal_folder
from jobs.taxonomies.review import Reviewer, approve, reject

SKIP = 99
"""The exit status at which Airflow skips a task and what follows it."""

APPROVE, REJECT = "Approve", "Reject"
_MOST_CHARS = 30_000


@dataclass(frozen=True, slots=True)
class NothingToAsk:
    """Why nobody is asked."""

    why: str


def question(settings: Settings, ds: str) -> str | NothingToAsk:
    """The proposal of night `ds` in words (Markdown), unless it was decided or nobody is to be asked.

    Raises:
        InputError: the night has no proposal or no diff.
    """
    path = proposal_file(settings, ds)
    if not settings.review.ask:
        return NothingToAsk(f"nobody is asked (review.ask); decide with `python -m jobs taxonomy approve --ds {ds}`")
    if (decision := decision_on(settings, ds)) is not None:
        return NothingToAsk(f"the proposal of {ds} was {decision.decision} by {decision.by} already")
    page = proposal_folder(settings, ds) / "diff.md"
    if not page.is_file():
        raise InputError(f"no diff for {ds}: run `python -m jobs diff --ds {ds}` first")
    text = page.read_text("utf-8")
    if len(text) > _MOST_CHARS:
        text = text[:_MOST_CHARS] + f"\n\n… the whole page is {page}"
    return (
        f"{text}\n\nTo change it first, edit {path}. **Approve** makes it the version in force from {ds} on; ids of "
        "tags that are not to be adopted go into `leave_out`."
    )


def decide_as_chosen(settings: Settings, reviewer: Reviewer, ds: str, choice: str, leave_out: str) -> str:
    """Approve or reject the proposal of night `ds`; returns a line that says what holds now.

    Raises:
        InputError: the choice is neither; or see `approve` and `reject`.
    """
    if choice == REJECT:
        return f"rejected: {reject(settings, reviewer, ds)}"
    if choice != APPROVE:
        raise InputError(f"the choice is {choice!r}; it must be {APPROVE} or {REJECT}")
    ids = [part.strip() for part in leave_out.split(",") if part.strip()]
    version = approve(settings, reviewer, ds=ds, leave_out=ids)
    return f"version {version.taxonomy.version} holds from {version.from_ds} on: {version.path}"
