"""ONE-ID: ids of several channels resolved to one customer by connected components over the links seen so far."""

from __future__ import annotations

import json
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from jobs.errors import InputError
from jobs.privacy.pseudonym import pseudonym


def read_links(path: Path, ds: str, secret: bytes) -> list[dict[str, Any]]:
    """Links of the customer directory known on night `ds`, as rows of `identity_links` without `ds`.

    A line is `{"id_type", "id", "linked_type", "linked_id", "ds"?}`; lines of later nights are left out.

    Raises:
        InputError: the file is missing or a line cannot be used. A wrong link would join two customers, so
            nothing is guessed here.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file of identity links (source.identities in the settings)")
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            link = json.loads(line)
            kinds = str(link["id_type"]), str(link["linked_type"])
            values = str(link["id"]).strip(), str(link["linked_id"]).strip()
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise InputError(f"{path}:{number}: expected id_type, id, linked_type, linked_id") from error
        if not all(values) or str(link.get("ds", "")) > ds:
            if not all(values):
                raise InputError(f"{path}:{number}: an id is empty")
            continue
        rows.append(
            {
                "party_key": pseudonym(secret, kinds[0], values[0]),
                "id_type": kinds[0],
                "linked_key": pseudonym(secret, kinds[1], values[1]),
                "linked_type": kinds[1],
            }
        )
    return rows


def resolve(links: pd.DataFrame) -> pd.DataFrame:
    """Connected components over all links up to a night.

    Args:
        links: columns ds, party_key, id_type, linked_key, linked_type; a row that links an id to itself only
            makes it known.

    Returns:
        One row an id: party_key, id_type, customer_id, first_seen. The customer id is derived from the member
        seen first (ties by key), so that it stays when later nights add ids; when two customers turn out to
        be one, the older id wins.
    """
    ends = pd.concat(
        [
            links[["ds", "party_key", "id_type"]],
            links[["ds", "linked_key", "linked_type"]].set_axis(["ds", "party_key", "id_type"], axis=1),
        ]
    )
    nodes = ends.sort_values(["ds", "party_key"]).drop_duplicates("party_key").reset_index(drop=True)
    number = pd.Series(np.arange(len(nodes)), index=nodes["party_key"])
    left, right = number[links["party_key"]].to_numpy(), number[links["linked_key"]].to_numpy()
    graph = coo_matrix((np.ones(len(links), dtype=np.int8), (left, right)), shape=(len(nodes), len(nodes)))
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
