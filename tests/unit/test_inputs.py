"""Inputs of a form, from what a function's annotations allow."""

from datetime import date
from enum import Enum
from typing import Annotated, Any, Literal

from pydantic import Field

from cluster.arguments import Arguments
from webapp.pages.inputs import Input, inputs


class Colour(Enum):
    """A choice."""

    RED = "red"
    BLUE = "blue"


def example(  # noqa: PLR0913, PLR0917 - one of each
    count: Annotated[int, Field(ge=1, le=9000, description="How many")],
    factor: float,
    text: Annotated[str, Field(max_length=60_000)],
    line: Annotated[str, Field(max_length=20, pattern="^a")] = "a",
    flag: bool = True,
    colour: Colour = Colour.RED,
    level: Literal[1, "x"] = 1,
    perhaps: int | None = None,
    either: int | str = 1,
    items: Annotated[list[int], Field(max_length=3)] = [],  # noqa: B006 - never called
    more: dict[str, Any] | None = None,
    day: date | None = None,
    anything: Any = None,
) -> None:
    """Take one of each."""


def shown() -> dict[str, Input]:
    return {each.name: each for each in inputs(Arguments(example).schema)}


def test_inputs_come_in_the_order_of_the_function() -> None:
    """As whoever wrote it thinks of them."""
    assert list(shown())[:4] == ["count", "factor", "text", "line"]
    assert len(shown()) == 13


def test_numbers_have_their_limits() -> None:
    """The browser holds them as well; and they are said in words."""
    count = shown()["count"]
    assert (count.shape, count.required) == ("number", True)
    assert count.attributes == {"min": 1, "max": 9000, "step": 1}
    assert count.hint == "How many; a whole number from 1 to 9,000"
    assert shown()["factor"].attributes == {"step": "any"}


def test_long_texts_get_room_and_short_ones_a_line() -> None:
    """By what the kind allows."""
    assert (shown()["text"].shape, shown()["line"].shape) == ("area", "line")
    assert shown()["line"].attributes == {"maxlength": 20}
    assert shown()["line"].hint == "text of 20 characters at most that matches ^a"
    assert not shown()["line"].required


def test_choices_are_lists() -> None:
    """A flag as well, for a box can't say that it was left out."""
    assert shown()["flag"].options == [("true", "yes"), ("false", "no")]
    assert shown()["colour"].options == [("red", "red"), ("blue", "blue")]
    assert shown()["level"].options == [("1", "1"), ("x", "x")]


def test_what_may_be_null_is_asked_for_as_what_it_is_otherwise() -> None:
    """An empty field is one that was left out."""
    assert (shown()["perhaps"].shape, shown()["perhaps"].hint) == ("number", "a whole number")
    assert shown()["day"].hint == "text in the format date"


def test_what_has_no_field_of_its_own_is_json() -> None:
    """And the hint says so."""
    assert (shown()["items"].shape, shown()["items"].hint) == (
        "area",
        "JSON, an array of 3 items at most",
    )
    assert shown()["more"].hint == "JSON, an object"
    assert shown()["anything"].hint == "JSON of any kind"
    assert shown()["either"].hint == "a whole number or text"
