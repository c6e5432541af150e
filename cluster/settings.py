"""Settings: the one module that reads the environment, checked as a whole at the start."""

import os
import re
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, ValidationInfo, field_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

_PORT = 8000
_SECRET = re.compile(r"[!-+\--~]{16,200}")  # printable ASCII without the comma
_SECRETS = "a secret has 16 to 200 printable characters, no comma"
_HIDDEN = ("DATABASE_URL", "RONIN_TOKENS", "RONIN_TOKEN", "RONIN_READ_TOKEN")


class SettingsError(Exception):
    """A setting makes no sense; the message is one line that names the variable."""


@dataclass(frozen=True, slots=True)
class Token:
    """Somebody who may come in.

    Attributes:
        name: under which actions are recorded.
        role: `read`, or `operate`, which may change things as well.
        secret: by which they are known.
    """

    name: str
    role: Literal["read", "operate"]
    secret: str = field(repr=False)


class Settings(BaseSettings):
    """What an operator can set: every field is an environment variable, durations are seconds."""

    model_config = SettingsConfigDict(frozen=True, populate_by_name=True, env_ignore_empty=True)

    database_url: str | None = Field(None, validation_alias="DATABASE_URL")
    """Any libpq URL, several hosts too. Unset: the embedded PostgreSQL in `data`."""

    data: Path = Field(Path(".data"), validation_alias="RONIN_DATA")
    """Folder of the embedded PostgreSQL."""

    bind: str = Field("127.0.0.1", validation_alias="BIND", min_length=1)
    port: int = Field(_PORT, validation_alias="PORT", ge=1, le=65535)

    workers: int = Field(5, validation_alias="WEB_CONCURRENCY", ge=1, le=1000)
    """Worker processes of this instance."""

    max_concurrency: int = Field(16, validation_alias="RONIN_MAX_CONCURRENCY", ge=1, le=1000)
    """Runs that a worker performs at once (W1)."""

    lease_seconds: float = Field(15, validation_alias="RONIN_LEASE_SECONDS", ge=1, le=3600)
    """How long a worker's word counts; its heartbeat comes at a third of it."""

    sample_seconds: float = Field(120, validation_alias="RONIN_SAMPLE_SECONDS", ge=0, le=86400)
    """How long each sample job runs at least (C3)."""

    jobs: Annotated[tuple[str, ...], NoDecode] = Field(("jobs",), validation_alias="RONIN_JOBS")
    """Modules that declare jobs, comma separated."""

    remote: int = Field(0, validation_alias="RONIN_REMOTE", ge=0, le=1000)
    """Tasks that the remote worker of the Procfile performs at once; 0: there is none."""

    remote_url: str | None = Field(None, validation_alias="RONIN_URL")
    """Where a remote worker finds the service; this host's own when it is not set."""

    posts_per_minute: int = Field(0, validation_alias="RONIN_POSTS_PER_MINUTE", ge=0, le=10**9)
    """Tasks that one client may post in a minute; 0: any number."""

    retention_days: int = Field(30, validation_alias="RONIN_RETENTION_DAYS", ge=1, le=36500)
    """Whole days that history is kept."""

    instance: str = Field(
        default_factory=socket.gethostname,
        validation_alias="RONIN_INSTANCE",
        pattern=r"^[A-Za-z0-9._-]{1,100}$",
    )
    """The server's own id, the first part of `host:pid`; the host's name when it is not set."""

    tokens: Annotated[tuple[Token, ...], NoDecode] = Field(
        (), validation_alias="RONIN_TOKENS", repr=False
    )
    """Who may come in: `name:role:secret`, comma separated."""

    token: str | None = Field(None, validation_alias="RONIN_TOKEN", repr=False)
    """The secret of somebody more who may operate, `operator`; a remote worker shows it."""

    read_token: str | None = Field(None, validation_alias="RONIN_READ_TOKEN", repr=False)
    """The secret of somebody more who may read, `viewer`."""

    log: Literal["auto", "text", "json"] = Field("auto", validation_alias="RONIN_LOG")
    """Form of the log lines; `auto` is text, coloured on a terminal."""

    @property
    def address(self) -> str:
        """Where HTTP listens, as `host:port`."""
        host = f"[{self.bind}]" if ":" in self.bind else self.bind
        return f"{host}:{self.port}"

    @property
    def doors(self) -> tuple[Token, ...]:
        """Who may come in; nobody: then everybody who can reach it may."""
        named = {token.secret for token in self.tokens}
        others = (
            Token("operator", "operate", self.token or ""),
            Token("viewer", "read", self.read_token or ""),
        )
        return (*self.tokens, *(each for each in others if each.secret not in {"", *named}))

    @property
    def shown_token(self) -> str | None:
        """What a remote worker of this environment shows."""
        operators = [token.secret for token in self.tokens if token.role == "operate"]
        return self.token or (operators[0] if operators else None)

    @field_validator("tokens", mode="before")
    @classmethod
    def _tokens(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        tokens = tuple(
            _token(place, part.strip())
            for place, part in enumerate(value.split(","), 1)
            if part.strip()
        )
        if len({token.name for token in tokens}) < len(tokens):
            raise ValueError("two of them have the same name")
        if len({token.secret for token in tokens}) < len(tokens):
            raise ValueError("two of them have the same secret")
        return tokens

    @field_validator("token", "read_token")
    @classmethod
    def _secret(cls, value: str | None) -> str | None:
        if value is not None and not _SECRET.fullmatch(value):
            raise ValueError(_SECRETS)
        return value

    @field_validator("read_token")
    @classmethod
    def _reads(cls, value: str | None, info: ValidationInfo) -> str | None:
        operate = [each.secret for each in info.data.get("tokens", ()) if each.role == "operate"]
        if value is not None and value in (info.data.get("token"), *operate):
            raise ValueError("it is the secret of somebody who may operate")
        return value

    @field_validator("jobs", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("jobs")
    @classmethod
    def _dotted(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("it names no module")
        for module in value:
            if not all(part.isidentifier() for part in module.split(".")):
                raise ValueError(f"{module!r} is no module name")
        return value


def load() -> Settings:
    """Read the environment.

    Raises:
        SettingsError: a value makes no sense.
    """
    # honcho gives 5000 to a process for which nobody has set PORT; that is nobody's wish.
    by_honcho = "HONCHO_PROCESS_NAME" in os.environ and os.environ.get("PORT") == "5000"
    try:
        return Settings(port=_PORT) if by_honcho else Settings()
    except ValidationError as error:
        raise SettingsError("; ".join(_line(detail) for detail in error.errors())) from None


def load_or_exit() -> Settings:
    """Read the environment; end the process with one clear line if a value makes no sense."""
    try:
        return load()
    except SettingsError as error:
        raise SystemExit(f"ronin: {error}") from None


def _token(place: int, text: str) -> Token:
    """Read `name:role:secret`; what is wrong is said without the text, which holds a secret."""
    name, _, rest = text.partition(":")
    role, _, secret = rest.partition(":")
    if not re.fullmatch(r"[A-Za-z0-9._@-]{1,30}", name):
        raise ValueError(f"number {place} is no name:role:secret")
    if role not in ("read", "operate"):
        raise ValueError(f"the role of number {place} is neither read nor operate")
    if not _SECRET.fullmatch(secret):
        raise ValueError(f"number {place}: {_SECRETS}")
    return Token(name, "read" if role == "read" else "operate", secret)


def _line(detail: ErrorDetails) -> str:
    """Turn one complaint of pydantic into `NAME=value: what is wrong`, without the secrets."""
    name = str(detail["loc"][0])
    shown = "" if name in _HIDDEN else f"={' '.join(str(detail['input']).split())}"
    return f"{name}{shown}: {detail['msg'].removeprefix('Value error, ')}"
