"""Arguments: what a task's function takes, read from its annotations, and read from JSON."""

import inspect
import re
from collections.abc import Callable
from typing import Any, NotRequired, get_type_hints

from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

_RUN = "run"
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


class ArgumentError(ValueError):
    """Arguments don't fit a function.

    Attributes:
        problems: the path of each field that is wrong, and the reason.
    """

    def __init__(self, problems: list[tuple[str, str]]) -> None:
        super().__init__("; ".join(f"{field}: {reason}" for field, reason in problems))
        self.problems = problems


class Arguments:
    """The arguments of a function, but for the parameter `run`.

    Strict: a number is no string, and a name that the function does not know is an error.

    Raises:
        ValueError: a parameter without an annotation, one that JSON can't give, or no function
            that can be called by names.
    """

    def __init__(self, function: Callable[..., object]) -> None:
        parameters = inspect.signature(function).parameters
        self._wants_run = _RUN in parameters
        hints = get_type_hints(function, include_extras=True)
        fields: dict[str, Any] = {}
        for name, parameter in parameters.items():
            if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                raise ValueError(f"function: its parameter {name!r} can't be given by name")
            if name == _RUN:
                continue
            if name not in hints:
                raise ValueError(f"function: its parameter {name!r} has no annotation")
            required = parameter.default is parameter.empty
            fields[name] = hints[name] if required else NotRequired[hints[name]]
        shape = _shape(fields)
        try:
            self._adapter: TypeAdapter[dict[str, Any]] = TypeAdapter(shape)
            self._many: TypeAdapter[list[Any]] = TypeAdapter(_list_of(shape))
            self.schema: dict[str, Any] = self._adapter.json_schema()
        except PydanticUserError as error:
            raise ValueError(f"function: {error.message}") from error
        self.names = frozenset(fields)

    def read(self, text: str | bytes, run: object = None) -> dict[str, Any]:
        """Return the keyword arguments of a call, from a JSON object.

        Args:
            text: the object.
            run: for the function that takes one.

        Raises:
            ArgumentError: it does not fit.
        """
        try:
            values = self._adapter.validate_json(text)
        except ValidationError as error:
            raise ArgumentError(
                [
                    (".".join(map(str, each["loc"])), each["msg"])
                    for each in error.errors(include_url=False, include_input=False)
                ]
            ) from error
        return {**values, _RUN: run} if self._wants_run else values

    def check(self, text: bytes) -> None:
        """Look at the arguments of many calls at once: a JSON array of such objects.

        Raises:
            ValueError: one of them does not fit.
        """
        self._many.validate_json(text)


def _list_of(shape: Any) -> Any:
    return list[shape]


def _shape(fields: dict[str, Any]) -> Any:
    shape: Any = TypedDict("args", fields)  # type: ignore[misc] # its fields come at run time
    return with_config(ConfigDict(extra="forbid", strict=True))(shape)


def holds_nul(text: str) -> bool:
    """Whether a string in JSON text holds a NUL, which PostgreSQL can't keep."""
    return _NUL.search(text) is not None
