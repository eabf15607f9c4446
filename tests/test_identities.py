from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from jobs.errors import InputError
from jobs.ingestion.identities import ended_links, read_links, resolve, self_links

NIGHT = "2026-11-20"
NO_IDS: tuple[Any, ...] = (None, "", " ", True, 1.5, ["a"], {}, "null", "N/A")
NO_NUMBERS: tuple[Any, ...] = ("-", "unknown", "无", 0)
GOOD: dict[str, Any] = {"id_type": "wecom", "id": "alice", "linked_type": "phone", "linked_id": "13812345678"}


def directory(folder: Path, *lines: Any) -> Path:
    path = folder / "links.jsonl"
    path.write_bytes(b"\n".join(one if isinstance(one, bytes) else json.dumps(one).encode() for one in lines))
    return path


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        *((GOOD | {"linked_id": value}, "linked_id") for value in NO_IDS),
        *((GOOD | {"linked_id": value}, "no phone number") for value in NO_NUMBERS),
        (GOOD | {"id": None}, "id is missing"),
        (GOOD | {"id_type": None}, "id_type"),
        ({"id": "alice"}, "id_type"),
        (GOOD | {"ds": 20261120}, "ds"),
        (["alice"], "expected"),
        (b'{"id_type": ' + b"1" * 5_000 + b"}", "not JSON"),
    ],
)
def test_a_line_that_could_join_strangers_is_refused(line: Any, wrong: str, tmp_path: Path) -> None:
    path = directory(tmp_path, GOOD, line)
    with pytest.raises(InputError, match=wrong) as caught:
        read_links(path, NIGHT, b"secret")
    assert str(caught.value).startswith(f"{path}:2: ")


def test_a_directory_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = directory(tmp_path, '{"id_type": "微信"}'.encode("gbk"))
    with pytest.raises(InputError, match="not UTF-8"):
        read_links(path, NIGHT, b"secret")


def test_an_empty_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="every link so far would end"):
        read_links(directory(tmp_path, b"", b""), NIGHT, b"secret")


def test_ids_are_texts_or_whole_numbers_and_known_from_their_night(tmp_path: Path) -> None:
    lines = [GOOD | {"ds": None}, GOOD | {"linked_id": 13812345678, "ds": NIGHT}, GOOD | {"ds": "2026-11-21"}]
    found = read_links(directory(tmp_path, *lines), NIGHT, b"secret")
    assert len(found) == 2
    assert found[0] == found[1]


def test_a_link_that_the_directory_has_no_more_ends() -> None:
    linked = {"party_key": "b", "id_type": "wecom", "linked_key": "a", "linked_type": "phone"}
    first = pd.DataFrame([linked, *self_links([("a", "phone")])]).assign(ds="2026-11-19")
    second = pd.DataFrame(self_links([("c", "app")])).assign(ds=NIGHT)

    def customers(links: pd.DataFrame) -> dict[str, str]:
        found = resolve(links)
        return dict(zip(found["party_key"], found["customer_id"], strict=True))

    before, after = customers(first), customers(pd.concat([first, second]))
    assert before["a"] == before["b"]
    assert len(set(after.values())) == 3
    # Who had given the customer the id keeps it.
    assert after["a"] == before["a"]
    assert ended_links(first) == 0
    assert ended_links(pd.concat([first, second])) == 1
    kept = pd.concat([first, second, pd.DataFrame([linked]).assign(ds=NIGHT)])
    assert ended_links(kept) == 0
    still = customers(kept)
    assert still["a"] == still["b"] == before["a"] != still["c"]
