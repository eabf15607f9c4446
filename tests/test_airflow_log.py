from __future__ import annotations

from jobs.airflow_log import readable

HOOK = "[airflow.task.hooks.airflow.providers.standard.hooks.subprocess.SubprocessHook] loc=subprocess.py:106"


def test_stages_and_their_words_come_through_and_noise_does_not() -> None:
    log = [
        f"Running command: ['/usr/bin/bash', '-c', 'exec python -m jobs serve up --ds 2026-11-20'] {HOOK}",
        f"2026-11-23T04:38:00Z [info     ] Output:                        {HOOK}",
        f"2026-11-23T04:38:00Z [info     ] WARNING: Using incubator modules: jdk.incubator.vector {HOOK}",
        f"2026-11-23T04:38:02Z [info     ] 26/11/23 04:38:02 WARN NativeCodeLoader: no {HOOK}",
        f"2026-11-23T04:38:09Z [info     ] [Stage 0:> (0 + 2) / 3]\rlabel 2026-11-20: 3 tags [2 by the student] {HOOK}",
        "2026-11-23T04:38:09Z [error    ] Task failed with exception [task] loc=task_runner.py:1",
        f"2026-11-23T04:38:10Z [info     ] error: GateError {HOOK}",
    ]
    assert list(readable(log)) == [
        "▸ serve up",
        "  label 2026-11-20: 3 tags [2 by the student]",
        "  error: GateError",
    ]
