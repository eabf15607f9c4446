"""Stage profile: facts up to a night, folded into the four tables that go to the CRM.

Nothing is carried over from the night before: the tables can be rebuilt from facts at any time, and an old night run
again changes that night alone. Customers are those that `identities` knows on this night. Labels of earlier nights
that the gate has not passed are left out.
"""

from __future__ import annotations

from collections.abc import Callable

from pyspark import StorageLevel

from jobs.errors import GateError, InputError
from jobs.gate_verdicts import not_passed
from jobs.profiling import PROFILE_TABLES
from jobs.profiling.facts import contacts, tagged_contacts
from jobs.profiling.history import profiles, tag_history, timeline
from jobs.profiling.intents import investment_intents
from jobs.settings import Settings
from jobs.storage import Tables, check_ds
from jobs.taxonomies.lineage import current_labels, with_heirs
from jobs.taxonomies.store import approved_taxonomy


def profile(tables: Tables, settings: Settings, ds: str, say: Callable[[str], None] = print) -> dict[str, int]:
    """Write night `ds` of the profile tables; returns rows a table.

    With `gate.unproven: withhold`, tags that are not proven on gold reach none of the four tables.

    Raises:
        InputError: `conversations`, `identities`, `labels` or, to withhold, `scores` of this night is missing.
        GateError: a conversation belongs to no customer, or the gate has not passed this night's labels.
    """
    withhold = settings.gate.unproven == "withhold"
    # Without scores everything would be unproven, and withholding would empty the CRM in silence.
    for name in ("conversations", "identities", "labels", *(("scores",) if withhold else ())):
        if not tables.exists(name, check_ds(ds)):
            raise InputError(f"profile {ds}: table {name} has no complete night {ds}: run the stage that writes it")
    without = not_passed(tables, ds)
    if ds in without:
        raise GateError(
            f"profile {ds}: the gate has "
            + ("refused this night's labels" if without[ds] == "refused" else "not judged this night's labels yet")
            + f": run `score --ds {ds}` and `gate --ds {ds}`, or `label` before them where the labels are to be mended"
        )
    if without:
        nights = ", ".join(f"{night} ({verdict})" for night, verdict in without.items())
        say(
            f"profile {ds}: left out the labels of nights that the gate has not passed: {nights}; their conversations "
            "count as contacts, but have no tags until such a night is labelled again and passes"
        )
    taxonomy = approved_taxonomy(settings, ds)
    moments = [tag.id for tag in taxonomy.tags if tag.kind == "mot"]
    intent_tags = [tag.id for tag in taxonomy.tags if tag.kind == "intent"]
    days, named = settings.profile.tag_days, settings.profile.purposes
    names = {tag: now for tag in intent_tags for now in current_labels(taxonomy, [tag]) if now in intent_tags}
    purposes = {*with_heirs(taxonomy, named), *current_labels(taxonomy, named)}
    if ended := [tag for tag in named if not current_labels(taxonomy, [tag])]:
        say(f"profile {ds}: profile.purposes names tags that are no longer in use: {', '.join(ended)}")

    people = contacts(tables, ds).persist(StorageLevel.MEMORY_AND_DISK)
    tagged = tagged_contacts(tables, people, ds, without=without, withhold=withhold)
    tagged = tagged.persist(StorageLevel.MEMORY_AND_DISK)
    try:
        frames = {
            "customer_tags": tag_history(tagged, ds, days),
            "customer_timeline": timeline(tagged, moments),
            "investment_intents": investment_intents(tagged, intent_tags, names, sorted(purposes), days),
        }
        counts = {name: tables.write(name, frame, ds) for name, frame in frames.items()}
        newest = profiles(
            people,
            history=tables.read("customer_tags", ds),
            events=tables.read("customer_timeline", ds),
            intents=tables.read("investment_intents", ds),
            ds=ds,
            tag_days=days,
        )
        counts["customer_profile"] = tables.write("customer_profile", newest, ds)
    finally:
        tagged.unpersist()
        people.unpersist()
    return {name: counts[name] for name in PROFILE_TABLES}
