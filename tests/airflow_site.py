"""Airflow as a team runs it: scheduler, workers, API and UI in processes of their own, and a person's browser."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import which
from typing import Any, TypeVar

from selenium.common.exceptions import ElementNotInteractableException, StaleElementReferenceException
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support import expected_conditions as expected
from selenium.webdriver.support.ui import WebDriverWait

from jobs.settings import PROJECT

T = TypeVar("T")
USER = "admin"
BROWSER = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := which(name))), None)
DRIVER = which("chromedriver")
REDRAWN = (ElementNotInteractableException, StaleElementReferenceException)
"""What an element says that the page has replaced in the meantime."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(look: Callable[[], T | None], seconds: float, what: str) -> T:
    """The first value of `look` that is not None; AssertionError naming `what` after so many seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if (found := look()) is not None:
            return found
        time.sleep(2)
    raise AssertionError(f"{what}: not seen in {seconds:.0f} s")


class AirflowSite:
    """`python -m jobs airflow standalone` under `var`; talks to its API as the UI does."""

    def __init__(self, environment: dict[str, str], var: Path, port: int) -> None:
        self.environment, self.var, self.url = environment, var, f"http://127.0.0.1:{port}"
        self._token = ""

    @property
    def password(self) -> str:
        path = self.var / "airflow" / "simple_auth_manager_passwords.json.generated"
        return str(json.loads(path.read_text("utf-8"))[USER])

    def call(self, path: str, body: dict[str, Any] | None = None, method: str | None = None) -> dict[str, Any]:
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self._token}"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, headers=headers, method=method)
        with urllib.request.urlopen(request, timeout=60) as reply:
            found: dict[str, Any] = json.load(reply)
        return found

    def log_in(self) -> None:
        def token() -> str | None:
            try:
                return str(self.call("/auth/token", {"username": USER, "password": self.password})["access_token"])
            except (OSError, KeyError):
                return None

        self._token = until(token, 240, "Airflow's API")
        until(lambda: self._try("/api/v2/dags/taxonomy"), 120, "the DAG taxonomy")

    def _try(self, path: str) -> dict[str, Any] | None:
        try:
            return self.call(path)
        except OSError:
            return None

    def unpause(self, dag_id: str) -> None:
        self.call(f"/api/v2/dags/{dag_id}", {"is_paused": False}, "PATCH")

    def trigger(self, dag_id: str, ds: str) -> None:
        self.call(f"/api/v2/dags/{dag_id}/dagRuns", {"logical_date": f"{ds}T00:00:00Z"})

    def run_of(self, dag_id: str, ds: str) -> dict[str, Any] | None:
        runs = self.call(f"/api/v2/dags/{dag_id}/dagRuns?limit=100")["dag_runs"]
        return next((run for run in runs if str(run["logical_date"]).startswith(ds)), None)

    def tasks_of(self, dag_id: str, ds: str) -> dict[str, str]:
        run = self.run_of(dag_id, ds)
        if run is None:
            return {}
        found = self.call(f"/api/v2/dags/{dag_id}/dagRuns/{run['dag_run_id']}/taskInstances?limit=100")
        return {task["task_id"]: str(task["state"]) for task in found["task_instances"]}

    def finished(self, dag_id: str, ds: str, seconds: float) -> str:
        """The state a run ends in."""

        def state() -> str | None:
            run = self.run_of(dag_id, ds)
            return str(run["state"]) if run and run["state"] in ("success", "failed") else None

        return until(state, seconds, f"the end of {dag_id} for {ds}")

    def command(self, *arguments: str) -> str:
        """What `python -m jobs ARGUMENTS` prints."""
        line = [sys.executable, "-m", "jobs", *arguments]
        done = subprocess.run(
            line, env=self.environment, cwd=PROJECT, capture_output=True, encoding="utf-8", check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout


@contextmanager
def standalone(var: Path, **settings: str) -> Iterator[AirflowSite]:
    """Airflow with its database, logs and all output of the stages under `var`, stopped with all its children."""
    port = free_port()
    environment = os.environ | settings | {"DONGCHA_VAR": str(var), "AIRFLOW__API__PORT": str(port)}
    var.mkdir(parents=True, exist_ok=True)
    with (var / "standalone.log").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "jobs", "airflow", "standalone"],
            env=environment,
            cwd=PROJECT,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            site = AirflowSite(environment, var, port)
            site.log_in()
            yield site
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


class Person:
    """Somebody before Airflow's UI: headless Chromium."""

    def __init__(self, site: AirflowSite, pictures: Path) -> None:
        options = ChromeOptions()
        # Containers run as root and have a small /dev/shm.
        for argument in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "window-size=1500,1100", "lang=en-US"):
            options.add_argument(f"--{argument}")
        # Both named: else Selenium looks for them on the network, and reports that it did.
        options.binary_location = str(BROWSER)
        self.browser = Chrome(options=options, service=Service(str(DRIVER)))
        self.site, self.pictures = site, pictures
        pictures.mkdir(parents=True, exist_ok=True)

    def see(self, xpath: str, seconds: float = 60) -> WebElement:
        """The first visible element; a picture of the page is kept where there is none."""
        try:
            return WebDriverWait(self.browser, seconds).until(expected.visibility_of_element_located((By.XPATH, xpath)))
        except Exception:
            self.picture("not-seen")
            raise

    def _until(self, done: Callable[[Chrome], bool], failed: str) -> None:
        """Airflow's UI draws its page anew while one looks at it: whoever holds an old element tries again."""
        try:
            WebDriverWait(self.browser, 60, ignored_exceptions=REDRAWN).until(done)
        except Exception:
            self.picture(failed)
            raise

    def click(self, xpath: str) -> None:
        def clicked(browser: Chrome) -> bool:
            element = expected.element_to_be_clickable((By.XPATH, xpath))(browser)
            if not isinstance(element, WebElement):
                return False
            element.click()
            return True

        self.see(xpath)
        self._until(clicked, "not-clicked")

    def fill(self, xpath: str, text: str) -> None:
        """Write into a field, and again where the page forgot it."""

        def filled(browser: Chrome) -> bool:
            field = browser.find_element(By.XPATH, xpath)
            if field.get_attribute("value") != text:
                field.send_keys(Keys.CONTROL, "a")
                field.send_keys(text)
            return browser.find_element(By.XPATH, xpath).get_attribute("value") == text

        self.see(xpath)
        self._until(filled, "not-filled")

    def picture(self, name: str) -> Path:
        path = self.pictures / f"{name}.png"
        self.browser.save_screenshot(str(path))
        return path

    def log_in(self) -> None:
        self.browser.get(self.site.url)
        self.see("//input[@name='username']").send_keys(USER)
        self.see("//input[@name='password']").send_keys(self.site.password)
        self.click("//button[@type='submit']")
        self.see("//*[text()='Required Actions']")


@contextmanager
def person(site: AirflowSite, pictures: Path) -> Iterator[Person]:
    """A person who is logged in."""
    someone = Person(site, pictures)
    try:
        someone.log_in()
        yield someone
    finally:
        someone.browser.quit()
