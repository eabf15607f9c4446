"""The LLM server: start it, wait until it is healthy, stop it; or check that somebody else's is up.

A server is started in a process group of its own and remembered in `var/llm/server-PORT.json`, so that `serve up` and
`serve down` can be two commands. A healthy server that already serves the expected model is used and left alone. Who
names himself as its user keeps it until he lets it go: the runs of two DAGs may share one.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Literal, NoReturn

from jobs.errors import ServerError
from jobs.llm.probe import is_healthy, served_models
from jobs.llm.process import ServerProcess, load_state, save_state, start_time, stop_group
from jobs.llm.profiles import Flag, ServingProfile, load_profile
from jobs.llm.weights import ensure_weights
from jobs.settings import PROJECT, Settings

Say = Callable[[str], None]
_POLL_SECONDS = 0.5
_SAY_EVERY_SECONDS = 10.0
_TAIL_LINES = 25


@dataclass(frozen=True, slots=True)
class ServerHandle:
    """A healthy server. `started_here`: this call started it, so whoever made the call should stop it."""

    base_url: str
    model: str
    started_here: bool
    log: Path | None = None


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """`up`: healthy, with the expected model; `starting`: ours, not healthy yet; `foreign`: serves another model."""

    state: Literal["up", "starting", "foreign", "down"]
    base_url: str
    detail: str


def _say(text: str) -> None:
    print(f"[llm] {text}", flush=True)


def _folder(settings: Settings) -> Path:
    return settings.var_dir / "llm"


def _file(settings: Settings, profile: ServingProfile, suffix: str) -> Path:
    """A file of the server at the profile's address: several may share one `var`."""
    return _folder(settings) / f"server-{profile.address[1]}.{suffix}"


def _users(settings: Settings, profile: ServingProfile) -> Path:
    """A folder with a file for each user of the server."""
    return _file(settings, profile, "users")


def _user_file(settings: Settings, profile: ServingProfile, user: str) -> Path:
    return _users(settings, profile) / re.sub(r"[^\w.-]", "_", user)


@contextmanager
def _locked(settings: Settings, profile: ServingProfile) -> Iterator[None]:
    _folder(settings).mkdir(parents=True, exist_ok=True)
    with _file(settings, profile, "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _own_process(settings: Settings, profile: ServingProfile) -> ServerProcess | None:
    """The live server that an earlier `serve_up` started at this address."""
    known = load_state(_file(settings, profile, "json"))
    return known if known is not None and known.base_url == profile.url and known.is_alive() else None


def server_status(settings: Settings) -> ServerStatus:
    """What is at the profile's address now. Starts and stops nothing."""
    profile = load_profile(settings)
    models = served_models(profile)
    if models is not None and profile.served_model_name not in models:
        detail = f"serves {', '.join(models)}, not {profile.served_model_name}"
        return ServerStatus("foreign", profile.url, detail)
    if models is not None and is_healthy(profile):
        return ServerStatus("up", profile.url, f"serves {profile.served_model_name}")
    if (known := _own_process(settings, profile)) is not None:
        return ServerStatus("starting", profile.url, f"process {known.pid} is not healthy; log: {known.log}")
    return ServerStatus("down", profile.url, "nothing answers")


def _flag(name: str, value: Flag) -> list[str]:
    if value is True:
        return [f"--{name}"]
    if value is False:
        return [f"--no-{name}"]
    return [f"--{name}", json.dumps(value) if isinstance(value, dict) else str(value)]


def engine_command(profile: ServingProfile, arguments: Sequence[str], leave_out: Collection[str] = ()) -> list[str]:
    """A `vllm` command line with the profile's flags, apart from some.

    Raises:
        ServerError: vLLM is not installed where the profile says.
    """
    program = profile.command[0]
    path = PROJECT / program if "/" in program else Path(shutil.which(program) or program)
    if not path.is_file():
        raise ServerError(
            f"{program} is not installed: run `make setup`, or install vLLM 0.32.0 for profile {profile.name}"
        )
    flags = [part for name, value in profile.flags.items() if name not in leave_out for part in _flag(name, value)]
    return [str(path), *arguments, "--served-model-name", profile.served_model_name, *flags]


def server_command(profile: ServingProfile, model: str) -> list[str]:
    """The command line that serves `model` (a folder or a hub name) as the profile says."""
    host, port = profile.address
    return engine_command(profile, [*profile.command[1:], model, "--host", host, "--port", str(port)])


def _start(settings: Settings, profile: ServingProfile, model: str) -> tuple[subprocess.Popen[bytes], ServerProcess]:
    log = _file(settings, profile, "log")
    env = os.environ | profile.env
    env |= {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
    if profile.api_key:
        env["VLLM_API_KEY"] = profile.api_key
    with log.open("wb") as out:
        child = subprocess.Popen(
            server_command(profile, model),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=env,
            cwd=log.parent,
            start_new_session=True,
        )
    started = start_time(child.pid) or 0
    process = ServerProcess(child.pid, started, profile.url, profile.served_model_name, profile.name, str(log))
    save_state(_file(settings, profile, "json"), process)
    return child, process


def _log_tail(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-_TAIL_LINES:]
    return f"the end of {log}:\n" + "\n".join(line[:300] for line in lines)


def _wait_healthy(
    profile: ServingProfile, process: ServerProcess, child: subprocess.Popen[bytes] | None, say: Say
) -> None:
    began = time.monotonic()
    said = began
    # Somebody else may answer at the address: health alone does not say that it is ours.
    while not (is_healthy(profile, 2.0) and profile.served_model_name in (served_models(profile, 2.0) or ())):
        now = time.monotonic()
        gone = child.poll() is not None if child is not None else not process.is_alive()
        if gone:
            how = f"exit code {child.returncode}" if child is not None else "it is gone"
            raise ServerError(f"the LLM server died while starting ({how}); {_log_tail(Path(process.log))}")
        if now - began > profile.start_timeout_seconds:
            limit = f"{profile.start_timeout_seconds:.0f} s"
            raise ServerError(f"the LLM server was not healthy after {limit}; {_log_tail(Path(process.log))}")
        if now - said >= _SAY_EVERY_SECONDS:
            said = now
            say(f"waiting for {profile.served_model_name} to be healthy: {now - began:.0f} s")
        time.sleep(_POLL_SECONDS)
    say(f"{profile.served_model_name} is healthy at {profile.url} after {time.monotonic() - began:.0f} s")


def _managed_up(settings: Settings, profile: ServingProfile, say: Say) -> ServerHandle:
    status = server_status(settings)
    if status.state == "foreign":
        raise ServerError(
            f"another server is at {profile.url}: it {status.detail}; stop it or set DONGCHA_LLM__BASE_URL"
        )
    if status.state == "up":
        say(f"{profile.served_model_name} is up already at {profile.url}")
        return ServerHandle(profile.url, profile.served_model_name, started_here=False)
    process, child = _own_process(settings, profile), None
    if process is None:
        model = ensure_weights(settings, profile, say)
        shutil.rmtree(_users(settings, profile), ignore_errors=True)  # of a server that is gone
        say(f"starting {profile.served_model_name} (profile {profile.name}); log: {_file(settings, profile, 'log')}")
        child, process = _start(settings, profile, model)
    try:
        _wait_healthy(profile, process, child, say)
    except BaseException:
        stop_group(process)
        _file(settings, profile, "json").unlink(missing_ok=True)
        raise
    return ServerHandle(profile.url, profile.served_model_name, started_here=True, log=Path(process.log))


def serve_up(settings: Settings, say: Say = _say, *, user: str | None = None) -> ServerHandle:
    """Have a healthy server at the profile's address: the one that is there, or a new one, waited for.

    Two calls at once start one server. A profile that is not managed is only checked. `user`: who keeps it until
    `serve_down` is called for him.

    Raises:
        ServerError: it died or was not healthy in time (with the end of its log; nothing is left running), another
            model is served there, or an endpoint does not answer.
        SystemExit: SIGTERM came while it started; nothing is left running.
    """
    profile = load_profile(settings)
    if not profile.managed:
        models = served_models(profile)
        if models is None:
            raise ServerError(f"no OpenAI-compatible server answers at {profile.url}; start it, or check its key")
        if profile.served_model_name not in models:
            raise ServerError(f"{profile.url} serves {', '.join(models)}; name one of them in DONGCHA_LLM__MODEL")
        return ServerHandle(profile.url, profile.served_model_name, started_here=False)
    with _terminable(), _locked(settings, profile):
        handle = _managed_up(settings, profile, say)
        if user is not None:
            _users(settings, profile).mkdir(exist_ok=True)
            _user_file(settings, profile, user).touch()
        return handle


def serve_down(settings: Settings, say: Say = _say, *, user: str | None = None) -> bool:
    """Stop the server that `serve_up` started at the profile's address. False where there is none.

    With `user` it goes on for the others who named themselves to `serve_up`. A process that merely got the old one's
    pid is never touched.
    """
    profile = load_profile(settings)
    if user is None:
        return _stop(settings, profile, say)
    with _locked(settings, profile):
        _user_file(settings, profile, user).unlink(missing_ok=True)
        if others := sorted(path.name for path in _users(settings, profile).glob("*")):
            say(f"the LLM server is left running for {', '.join(others)}")
            return False
        return _stop(settings, profile, say)


def _stop(settings: Settings, profile: ServingProfile, say: Say) -> bool:
    shutil.rmtree(_users(settings, profile), ignore_errors=True)
    path = _file(settings, profile, "json")
    process = load_state(path)
    if process is None or not process.is_alive():
        path.unlink(missing_ok=True)
        return False
    say(f"stopping {process.served_model_name} (process {process.pid})")
    stop_group(process)
    path.unlink(missing_ok=True)
    say("stopped")
    return True


def _terminated(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM, which Airflow sends, ends the body as Ctrl-C does, so that it can clean up."""
    main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, _terminated) if main else None
    try:
        yield
    finally:
        if main:
            signal.signal(signal.SIGTERM, before)


@contextmanager
def running_server(settings: Settings, say: Say = _say) -> Iterator[ServerHandle]:
    """A healthy server for the body, stopped afterwards if it was started here: on failure, Ctrl-C and SIGTERM too."""
    with _terminable():
        handle = serve_up(settings, say)
        try:
            yield handle
        finally:
            if handle.started_here:
                serve_down(settings, say)
