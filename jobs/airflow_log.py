"""Airflow's log made readable: what the stages say, and which task runs; the whole log goes to a file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

_RUNNING = re.compile(r"Running command: .* -m jobs (?P<command>.+?) --ds [0-9-]+'\]")
_SAID = re.compile(
    r"^\S+ \[(?:info|warning|error|critical) *\] (?P<text>.*?)\s*\[airflow\.task\.hooks\.[^\]]*SubprocessHook\]"
)
# Spark's and Java's own start-up lines, the subprocess hook's frame, and Spark's progress bars.
_NOISE = re.compile(
    r"^(?:WARNING: |Using Spark's default|Setting default log level|To adjust logging level|Output:$|Command exited|"
    r"Tmp dir root|[0-9/]{8} [0-9:]{8} (?:WARN|INFO) |\[Stage )|^\s*$"
)


def readable(lines: Iterable[str]) -> Iterator[str]:
    """Lines of `airflow dags test` worth showing while it runs: `▸ stage` and what the stage says.

    An error that a stage prints comes through, since it is said by the stage; Airflow's own tracebacks stay in the log.
    """
    for line in lines:
        if running := _RUNNING.search(line):
            yield f"▸ {running['command']}"
        elif said := _SAID.match(line):
            text = said["text"].split("\r")[-1].rstrip()
            if not _NOISE.match(text):
                yield f"  {text}"
