"""One place that makes Spark sessions: of a local Spark, of a cluster, or of a Spark Connect server."""

from __future__ import annotations

import os
import secrets
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from jobs.errors import DongchaError
from jobs.settings import PROJECT, Settings

_CONNECT = "sc://"
_SHARED_WITH = "SPARK_CONNECT_AUTHENTICATE_TOKEN"
_MASTER_VARIABLE = "DONGCHA_SPARK__MASTER"
_JAVA_OPTIONS = "-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m"
CLASS_ARCHIVE = Path(sys.prefix) / "spark-classes.jsa"
"""Spark's classes as `python -m jobs class-archive` left them in this environment; without it Spark starts slower."""


def _local(settings: Settings) -> bool:
    return settings.spark.master.startswith("local")


def _session_options(settings: Settings) -> dict[str, str]:
    """What a session may set on any Spark. Partition columns stay text: a `ds` is a name, not a date."""
    return {
        "spark.sql.shuffle.partitions": str(settings.spark.shuffle_partitions),
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.sources.partitionColumnTypeInference.enabled": "false",
        "spark.sql.execution.arrow.pyspark.enabled": "true",
    }


def _archived_classes() -> str:
    if not CLASS_ARCHIVE.is_file():
        return ""
    # An archive of another Java or of other jars is passed over; a night's log need not hear of it at every start.
    return f"-XX:SharedArchiveFile={CLASS_ARCHIVE} -Xshare:auto -Xlog:disable -Xlog:all=error:stderr"


def _engine_options(settings: Settings, java_options: str) -> dict[str, str]:
    """What only the one who starts Spark may set. A local Spark talks over the loopback only."""
    options = {
        "spark.driver.memory": settings.spark.driver_memory,
        "spark.sql.warehouse.dir": str(settings.var_dir / "spark-warehouse"),
        "spark.ui.enabled": "false",
        # A bar of carriage returns is for people at a terminal, not for logs.
        "spark.ui.showConsoleProgress": str(sys.stderr.isatty()).lower(),
    }
    if _local(settings):
        options |= {
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.driver.host": "127.0.0.1",
            "spark.driver.extraJavaOptions": f"{_JAVA_OPTIONS} {java_options}".strip(),
        }
    return options


def spark_session(settings: Settings, name: str, java_options: str | None = None) -> SparkSession:
    """A session named `dongcha-<name>`; reuses the running one.

    `java_options` go to a local Spark's JVM, instead of those that let it read the archive of its classes.

    Raises:
        DongchaError: Spark does not start.
    """
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    os.environ.setdefault("PYSPARK_DRIVER_PYTHON", sys.executable)
    # Workers import `jobs` too, from wherever the command was started.
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if str(PROJECT) not in paths:
        os.environ["PYTHONPATH"] = os.pathsep.join([str(PROJECT), *filter(None, paths)])
    if settings.spark.master.startswith(_CONNECT):
        builder = SparkSession.builder.remote(settings.spark.master)
        options = _session_options(settings)
    else:
        if _local(settings):
            os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
        builder = SparkSession.builder.appName(f"dongcha-{name}").master(settings.spark.master)
        options = _session_options(settings) | _engine_options(
            settings, _archived_classes() if java_options is None else java_options
        )
    for key, value in (options | settings.spark.extra).items():
        builder = builder.config(key, value)
    try:
        session = builder.getOrCreate()
    except (PySparkException, Py4JError) as error:
        raise DongchaError(
            f"Spark does not start: {str(error).splitlines()[0]} What Java says stands above; look at Java (17, on the "
            "PATH) and at spark.master, spark.driver_memory and spark.extra in the settings"
        ) from error
    if not settings.spark.master.startswith(_CONNECT):
        session.sparkContext.setLogLevel("ERROR")
    return session


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def shared_spark(settings: Settings) -> Iterator[None]:
    """Within it, stages started by this process share one local Spark: each starts in two seconds instead of ten.

    The Spark is this process's own, with a Spark Connect server in it, on the loopback, for holders of a token that
    goes through the environment. Does nothing where `spark.master` names a Spark that is up already.

    Raises:
        RuntimeError: this process has a Spark session, which cannot become a shared one any more.
    """
    if not _local(settings):
        yield
        return
    if SparkSession.getActiveSession() is not None:
        raise RuntimeError("this process has a Spark session already: a shared Spark must be its first")
    before = {name: os.environ.get(name) for name in (_MASTER_VARIABLE, _SHARED_WITH)}
    port = _free_port()
    os.environ[_SHARED_WITH] = secrets.token_urlsafe(32)
    connect = {
        "spark.plugins": "org.apache.spark.sql.connect.SparkConnectPlugin",
        "spark.connect.grpc.binding.address": "127.0.0.1",
        "spark.connect.grpc.binding.port": str(port),
    }
    own = settings.model_copy(
        update={"spark": settings.spark.model_copy(update={"extra": connect | settings.spark.extra})}
    )
    session = spark_session(own, "shared")
    # What fails is said by the stage that asked; the server would say it again, with 40 lines of Java.
    session.sparkContext.setLogLevel("FATAL")
    # By this name alone the client hands its token over without TLS.
    os.environ[_MASTER_VARIABLE] = f"{_CONNECT}localhost:{port}"
    try:
        yield
    finally:
        session.stop()
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
