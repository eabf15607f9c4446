"""Errors a person is meant to read: what happened and what to do about it."""

from __future__ import annotations


class DongchaError(Exception):
    """Base of every error raised on purpose; the command line prints its message without a traceback."""


class InputError(DongchaError):
    """Something handed in (a file, an option, a setting) cannot be used."""


class ContractError(DongchaError):
    """A table does not keep its contract; the night stops before anything is published."""


class GateError(DongchaError):
    """A quality gate was not passed, or a night produced nothing; nothing is published."""


class ServerError(DongchaError):
    """The LLM server could not be started or stopped answering."""
