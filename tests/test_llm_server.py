"""Starting, watching and stopping a server process: with a stand-in that behaves like vLLM where it matters."""

from __future__ import annotations

import http.server
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml

from jobs.errors import InputError, ServerError
from jobs.llm import profiles
from jobs.llm.process import ServerProcess, load_state, save_state, start_time, stop_group
from jobs.llm.profiles import load_profile
from jobs.llm.server import running_server, serve_down, serve_up, server_status
from jobs.settings import PROJECT, LlmSettings, Settings
from tests.fake_llm import FakeLlm, reply_json

STAND_IN = """
import http.server, json, os, signal, subprocess, sys, time
mode, port = os.environ["MODE"], int(sys.argv[sys.argv.index("--port") + 1])
name = sys.argv[sys.argv.index("--served-model-name") + 1]
print("loading weights of", name, flush=True)
if mode == "dies":
    sys.exit("RuntimeError: no room for the KV cache")
worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
open(os.environ["WORKER"], "w").write(str(worker.pid))
if mode == "hangs":
    time.sleep(300)
time.sleep(0.5)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"data": [{"id": name}]}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        pass
http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of a managed profile whose `vllm` is the stand-in; set MODE in the environment."""
    (tmp_path / "stand_in.py").write_text(STAND_IN)
    fields = {
        "description": "stand-in",
        "model": "m",
        "served_model_name": "m",
        "command": [sys.executable, str(tmp_path / "stand_in.py")],
        "base_url": f"http://127.0.0.1:{free_port()}/v1",
        "context_length": 1024,
        "max_output_tokens": 64,
        "start_timeout_seconds": 15,
    }
    (tmp_path / "stand-in.yaml").write_text(yaml.safe_dump(fields))
    monkeypatch.setattr(profiles, "PROFILES", tmp_path)
    monkeypatch.setenv("WORKER", str(tmp_path / "worker.pid"))
    monkeypatch.setenv("MODE", "works")
    return Settings(var=tmp_path / "var", llm=LlmSettings(profile="stand-in"))


def worker_alive(settings: Settings) -> bool:
    return start_time(int((settings.var_dir.parent / "worker.pid").read_text())) is not None


def quiet(text: str) -> None:
    assert text


def test_up_twice_down_twice(stand_in: Settings) -> None:
    assert server_status(stand_in).state == "down"
    first = serve_up(stand_in, quiet)
    try:
        assert first.started_here and first.model == "m"
        assert server_status(stand_in).state == "up"
        assert not serve_up(stand_in, quiet).started_here, "the second call uses the server that is there"
        assert worker_alive(stand_in)
    finally:
        assert serve_down(stand_in, quiet)
    assert not worker_alive(stand_in), "workers go with the server"
    assert server_status(stand_in).state == "down"
    assert not serve_down(stand_in, quiet)


def test_a_server_goes_on_until_its_last_user_lets_it_go(stand_in: Settings) -> None:
    """Two DAGs may share one: the first to end must not take it from the other."""
    serve_up(stand_in, quiet, user="nightly 2026-11-20")
    try:
        serve_up(stand_in, quiet, user="taxonomy 2026-11-20")
        assert not serve_down(stand_in, quiet, user="nightly 2026-11-20")
        assert server_status(stand_in).state == "up"
        assert serve_down(stand_in, quiet, user="taxonomy 2026-11-20")
    finally:
        serve_down(stand_in, quiet)
    assert server_status(stand_in).state == "down" and not worker_alive(stand_in)
    serve_up(stand_in, quiet, user="a")
    assert serve_down(stand_in, quiet), "a person stops it whoever uses it"


def test_running_server_stops_on_failure_only_what_it_started(stand_in: Settings) -> None:
    with pytest.raises(RuntimeError, match="night"), running_server(stand_in, quiet):
        with running_server(stand_in, quiet) as inner:
            assert not inner.started_here
        assert server_status(stand_in).state == "up"
        raise RuntimeError("the night failed")
    assert server_status(stand_in).state == "down"
    assert not worker_alive(stand_in)


def test_death_while_starting_shows_the_log(stand_in: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODE", "dies")
    with pytest.raises(ServerError, match="no room for the KV cache"):
        serve_up(stand_in, quiet)
    assert server_status(stand_in).state == "down"


def test_never_healthy_is_stopped(stand_in: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MODE", "hangs")
    path = tmp_path / "stand-in.yaml"
    path.write_text(path.read_text().replace("start_timeout_seconds: 15", "start_timeout_seconds: 2"))
    with pytest.raises(ServerError, match="not healthy after 2 s"):
        serve_up(stand_in, quiet)
    assert not worker_alive(stand_in)


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_run_leaves_nothing(stand_in: Settings, tmp_path: Path, sign: signal.Signals) -> None:
    """Ctrl-C and SIGTERM (which Airflow sends) while the server is up."""
    program = (
        "import sys, time; from pathlib import Path; from jobs.llm import profiles\n"
        f"profiles.PROFILES = Path({str(tmp_path)!r})\n"
        "from jobs.llm.server import running_server; from jobs.settings import LlmSettings, Settings\n"
        f"settings = Settings(var=Path({str(tmp_path / 'var')!r}), llm=LlmSettings(profile='stand-in'))\n"
        "with running_server(settings):\n"
        "    print('READY', flush=True)\n"
        # Not one long sleep: a signal that comes right before it would be looked at when it ends.
        "    for _ in range(600): time.sleep(0.1)\n"
    )
    run = subprocess.Popen([sys.executable, "-c", program], cwd=PROJECT, stdout=subprocess.PIPE, text=True)
    assert run.stdout is not None
    for line in run.stdout:
        if "READY" in line:
            break
    assert worker_alive(stand_in)
    run.send_signal(sign)
    assert run.wait(40) != 0
    run.stdout.close()
    assert not worker_alive(stand_in)
    assert server_status(stand_in).state == "down"


def test_a_start_that_airflow_ends_leaves_nothing(
    stand_in: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODE", "hangs")
    program = (
        "from pathlib import Path; from jobs.llm import profiles\n"
        f"profiles.PROFILES = Path({str(tmp_path)!r})\n"
        "from jobs.llm.server import serve_up; from jobs.settings import LlmSettings, Settings\n"
        f"serve_up(Settings(var=Path({str(tmp_path / 'var')!r}), llm=LlmSettings(profile='stand-in')))\n"
    )
    run = subprocess.Popen([sys.executable, "-c", program], cwd=PROJECT, stdout=subprocess.DEVNULL)
    worker = tmp_path / "worker.pid"
    until = time.monotonic() + 30
    while not (worker.is_file() and worker.read_text()):
        assert run.poll() is None and time.monotonic() < until
        time.sleep(0.05)
    run.send_signal(signal.SIGTERM)
    assert run.wait(40) != 0
    assert not worker_alive(stand_in)


def test_a_stranger_who_says_healthy_is_not_our_server(stand_in: Settings) -> None:
    """He has the port, and his models are behind a key of his own."""

    class Stranger(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/health" else 401)
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(load_profile(stand_in).address, Stranger)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        with pytest.raises(ServerError, match="died while starting"):
            serve_up(stand_in, quiet)
    finally:
        server.shutdown()
        server.server_close()


def test_a_reused_pid_is_never_killed(tmp_path: Path) -> None:
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
    try:
        settings = Settings(var=tmp_path)
        state = tmp_path / "llm" / "server-8911.json"
        born = start_time(stranger.pid)
        assert born is not None
        save_state(state, ServerProcess(stranger.pid, born - 1, "http://127.0.0.1:1/v1", "m", "p", "log"))
        assert not serve_down(settings, quiet)
        assert stranger.poll() is None and load_state(state) is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_deaf_server_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from jobs.llm import process

    monkeypatch.setattr(process, "_TERM_SECONDS", 0.5)
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    deaf = subprocess.Popen([sys.executable, "-c", code], start_new_session=True, stdout=subprocess.PIPE)
    assert deaf.stdout is not None and deaf.stdout.readline()
    began = time.monotonic()
    stop_group(ServerProcess(deaf.pid, start_time(deaf.pid) or 0, "", "", "", ""))
    assert time.monotonic() - began < 5
    assert start_time(deaf.pid) is None
    deaf.stdout.close()
    deaf.wait(timeout=5)  # it may still be a zombie
    with pytest.raises(ProcessLookupError):
        os.killpg(deaf.pid, 0)


def test_another_model_at_the_address_is_refused(stand_in: Settings, tmp_path: Path) -> None:
    with FakeLlm(reply_json({}), model="somebody-elses") as fake:
        settings = stand_in.model_copy(update={"llm": LlmSettings(profile="stand-in", base_url=fake.base_url)})
        assert server_status(settings).state == "foreign"
        with pytest.raises(ServerError, match="somebody-elses"):
            serve_up(settings, quiet)


@pytest.mark.parametrize(
    ("profile", "base_url", "said"),
    [
        ("endpoint", "localhost:8000", r"llm\.base_url over .*endpoint\.yaml: .*must look like http://"),
        ("cpu-smollm2", "http://gpu:8000/v1", r"llm\.base_url over .*: .*elsewhere is reached by profile endpoint"),
    ],
)
def test_an_address_that_cannot_be_used_names_the_setting(profile: str, base_url: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        load_profile(Settings(llm=LlmSettings(profile=profile, base_url=base_url)))


def test_endpoint_is_only_checked(tmp_path: Path) -> None:
    with FakeLlm(reply_json({}), model="theirs") as fake:
        llm = LlmSettings(profile="endpoint", base_url=fake.base_url, model="theirs")
        settings = Settings(var=tmp_path, llm=llm)
        with running_server(settings, quiet) as handle:
            assert handle.model == "theirs" and not handle.started_here
        wrong = Settings(var=tmp_path, llm=llm.model_copy(update={"model": "other"}))
        with pytest.raises(ServerError, match="DONGCHA_LLM__MODEL"):
            serve_up(wrong, quiet)
    with pytest.raises(ServerError, match="no OpenAI-compatible server answers"):
        serve_up(settings, quiet)
