"""What the gate said of each night's labels: profiles of later nights are folded from those alone that it has passed.

`label` opens a night's verdict whenever it writes labels, `gate` gives it. So labels that were refused, or that no gate
has seen since they were written, never reach the CRM by way of the next night. Nights of before there were verdicts
have none and count as passed.
"""

from __future__ import annotations

from typing import Literal

from jobs.contracts import load_contract
from jobs.storage import Tables, check_ds

GateVerdict = Literal["open", "passed", "refused"]
_TABLE = "gate_verdicts"


def give_verdict(tables: Tables, ds: str, verdict: GateVerdict) -> None:
    """Replace what is known of night `ds`."""
    schema = load_contract(_TABLE).spark_schema()
    tables.write(_TABLE, tables.spark.createDataFrame([(check_ds(ds), verdict)], schema), ds)


def not_passed(tables: Tables, ds: str) -> dict[str, str]:
    """Nights up to `ds` whose labels do not count, oldest first, each with its verdict: `open` or `refused`."""
    rows = tables.read_all(_TABLE, until=ds).where("verdict <> 'passed'").orderBy("ds").collect()
    return {row["ds"]: row["verdict"] for row in rows}
