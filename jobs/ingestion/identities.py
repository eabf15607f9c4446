"""ONE-ID: ids of several channels resolved to one customer by connected components over the links in force."""

from __future__ import annotations

import re
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from jobs.errors import InputError
from jobs.ingestion.identifiers import checked_identifier
from jobs.json_lines import json_lines
from jobs.privacy.pseudonym import PHONE_ID, pseudonym
from jobs.storage import check_ds

_LEAST_DIGITS = 5


def _field(link: dict[str, Any], name: str, where: str) -> str:
    value = checked_identifier(link.get(name))
    if value is None:
        # The value itself is left out: it may be somebody's id.
        raise InputError(
            f"{where}: {name} is missing, empty, or no text or whole number: give it or take the line out; "
            "expected id_type, id, linked_type, linked_id"
        )
    return value


def _end(link: dict[str, Any], type_name: str, id_name: str, where: str) -> tuple[str, str]:
    """(type, id) of one end of a link."""
    kind, value = _field(link, type_name, where), _field(link, id_name, where)
    # "unknown", "-" and 0 are no numbers: everybody who has them would be one customer.
    if kind == PHONE_ID and len(re.sub(r"[^0-9]", "", value)) < _LEAST_DIGITS:
        raise InputError(f"{where}: {id_name} is no phone number: give it or take the line out")
    return kind, value


def _known_since(link: dict[str, Any], where: str) -> str:
    value = link.get("ds")
    if value is None:
        return ""
    try:
        return check_ds(value)
    except InputError as error:
        raise InputError(f"{where}: ds: {error}") from error


def read_links(path: Path, ds: str, secret: bytes) -> list[dict[str, Any]]:
    """Links of the customer directory known on night `ds`, as rows of `identity_links` without `ds`.

    A line is `{"id_type", "id", "linked_type", "linked_id", "ds"?}`; lines of later nights are left out. The file is
    the whole directory: a link that it has no more is not in force.

    Raises:
        InputError: the file is missing or empty, or a line cannot be used. A wrong link would join two customers, and
            without any all would fall apart, so nothing is guessed here.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file of identity links (source.identities in the settings)")
    rows: list[dict[str, Any]] = []
    where = ""
    for where, link in json_lines(path):
        if not isinstance(link, dict):
            raise InputError(f"{where}: expected a JSON object with id_type, id, linked_type, linked_id")
        kind, value = _end(link, "id_type", "id", where)
        linked_kind, linked_value = _end(link, "linked_type", "linked_id", where)
        if _known_since(link, where) > ds:
            continue
        rows.append(
            {
                "party_key": pseudonym(secret, kind, value),
                "id_type": kind,
                "linked_key": pseudonym(secret, linked_kind, linked_value),
                "linked_type": linked_kind,
            }
        )
    if not where:
        raise InputError(
            f"{path}: holds no link, so every link so far would end; without a directory set source.identities to null"
        )
    return rows


def ended_links(links: pd.DataFrame) -> int:
    """How many links between two ids the newest night no longer has that the night before it had (see `resolve`)."""
    joins = links[links["party_key"] != links["linked_key"]]
    newest = links["ds"].max()
    earlier = joins[joins["ds"] < newest]
    before = earlier[earlier["ds"] == earlier["ds"].max()]
    ends = ["party_key", "linked_key"]
    now = set(joins[joins["ds"] == newest][ends].itertuples(index=False, name=None))
    return len(set(before[ends].itertuples(index=False, name=None)) - now)


def resolve(links: pd.DataFrame) -> pd.DataFrame:
    """Connected components over the links of the newest night.

    Args:
        links: columns ds, party_key, id_type, linked_key, linked_type, of all nights so far; a row that links an id to
            itself, or is of an earlier night, only makes its ids known.

    Returns:
        One row an id: party_key, id_type, customer_id, first_seen. The customer id is derived from the member
        seen first (ties by key), so that it stays when later nights add ids; when two customers turn out to
        be one, the older id wins, and when a link ends each has the id of its own eldest again.
    """
    ends = pd.concat(
        [
            links[["ds", "party_key", "id_type"]],
            links[["ds", "linked_key", "linked_type"]].set_axis(["ds", "party_key", "id_type"], axis=1),
        ]
    )
    nodes = ends.sort_values(["ds", "party_key"]).drop_duplicates("party_key").reset_index(drop=True)
    number = pd.Series(np.arange(len(nodes)), index=nodes["party_key"])
    # The directory is whole each night: what it took back must not go on joining two people.
    now = links[links["ds"] == links["ds"].max()]
    left, right = number[now["party_key"]].to_numpy(), number[now["linked_key"]].to_numpy()
    graph = coo_matrix((np.ones(len(now), dtype=np.int8), (left, right)), shape=(len(nodes), len(nodes)))
    _, component = connected_components(graph, directed=False)
    # Nodes are in order of first sight, so the first of a component is its eldest.
    eldest = nodes["party_key"].groupby(component).transform("first")
    return pd.DataFrame(
        {
            "party_key": nodes["party_key"],
            "id_type": nodes["id_type"],
            "customer_id": [customer_id(key) for key in eldest],
            "first_seen": nodes["ds"],
        }
    )


def customer_id(eldest_key: str) -> str:
    """Customer id from the pseudonym of the id seen first."""
    return "C" + sha256(f"customer:{eldest_key}".encode()).hexdigest()[:16]


def self_links(parties: Iterable[tuple[str, str]]) -> list[dict[str, Any]]:
    """Rows that make (party_key, id_type) known without linking it to anything."""
    return [{"party_key": k, "id_type": t, "linked_key": k, "linked_type": t} for k, t in parties]
