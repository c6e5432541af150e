"""Arguments: read from annotations, read strictly from JSON."""

import json
from collections.abc import Callable
from datetime import date
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from cluster import Run
from cluster.arguments import ArgumentError, Arguments, holds_nul
from cluster.job import Catalogue, JobError


def typed(
    number: int, share: float, text: str, flag: bool, words: list[str], more: dict[str, Any]
) -> None:
    """Take one of each type."""
    del number, share, text, flag, words, more


def bounded(
    run: Run,
    count: Annotated[int, Field(ge=1, le=10)] = 3,
    *,
    code: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] = "EUR",
    kind: Literal["a", "b"] = "a",
    limit: int | None = None,
) -> None:
    """Take what has bounds and defaults."""
    del run, count, code, kind, limit


def empty() -> None:
    """Take nothing."""


def dated(day: date) -> None:
    """Take what JSON has no type for."""
    del day


GOOD = {"number": 1, "share": 0.5, "text": "x", "flag": True, "words": ["a"], "more": {"b": [None]}}


def read(function: Callable[..., object], values: object, run: object = None) -> dict[str, Any]:
    """Return the keyword arguments of a call."""
    return Arguments(function).read(json.dumps(values).encode(), run)


def problems(function: Callable[..., object], text: str) -> list[str]:
    """Return the paths of the fields that are wrong."""
    with pytest.raises(ArgumentError) as refused:
        Arguments(function).read(text.encode())
    assert all(reason for _, reason in refused.value.problems)
    return [field for field, _ in refused.value.problems]


def test_arguments_that_fit_come_back_as_they_are() -> None:
    assert read(typed, GOOD) == GOOD


def test_a_default_is_left_to_the_function() -> None:
    assert read(bounded, {}, "the run") == {"run": "the run"}
    assert read(bounded, {"count": 4, "code": "USD"}, None) == {
        "count": 4,
        "code": "USD",
        "run": None,
    }


def test_only_a_function_that_wants_the_run_gets_it() -> None:
    assert read(empty, {}, "the run") == {}
    assert read(bounded, {"limit": None}, "the run") == {"limit": None, "run": "the run"}


@pytest.mark.parametrize(
    ("field", "text"),
    [
        *(("number", text) for text in ('"1"', "1.5", "1.0", "true", "null", "[]", "{}")),
        *(("share", text) for text in ('"0.5"', "true", "null", "[]")),
        *(("text", text) for text in ("1", "true", "null", '["a"]')),
        *(("flag", text) for text in ("1", "0", '"true"', "null")),
        *(("words", text) for text in ('"a"', "{}", "null")),
        *(("more", text) for text in ("[]", '"a"', "null", "1")),
    ],
)
def test_a_wrong_type_is_named(field: str, text: str) -> None:
    pairs = {**{key: json.dumps(value) for key, value in GOOD.items()}, field: text}
    body = "{" + ", ".join(f'"{key}": {value}' for key, value in pairs.items()) + "}"
    assert problems(typed, body) == [field]


def test_the_path_leads_to_what_is_wrong_inside() -> None:
    assert problems(typed, json.dumps({**GOOD, "words": ["a", 2]})) == ["words.1"]


def test_an_integer_may_stand_for_a_float() -> None:
    assert read(typed, {**GOOD, "share": 1})["share"] == 1.0


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ('{"count": 0}', "count"),
        ('{"count": 11}', "count"),
        ('{"code": "eur"}', "code"),
        ('{"code": "EURO"}', "code"),
        ('{"kind": "c"}', "kind"),
        ('{"limit": "x"}', "limit"),
        ('{"run": 1}', "run"),
        ('{"Count": 1}', "Count"),
        ('{"": 1}', ""),
    ],
)
def test_bounds_and_unknown_names_are_named(text: str, field: str) -> None:
    assert problems(bounded, text) == [field]


def test_everything_that_is_wrong_is_named_at_once() -> None:
    assert sorted(problems(bounded, '{"count": 0, "code": "x", "other": 1}')) == [
        "code",
        "count",
        "other",
    ]
    assert sorted(problems(typed, "{}")) == sorted(GOOD)


@pytest.mark.parametrize("text", ["", "null", "[]", '"x"', "5", "{", '{"a"}', "\ud7ff", "{}{}"])
def test_what_is_no_object_is_refused(text: str) -> None:
    assert problems(bounded, text)


def test_an_error_says_all_in_one_line() -> None:
    with pytest.raises(ArgumentError, match=r"^count: .*; other: .*") as refused:
        Arguments(bounded).read(b'{"count": 0, "other": 1}')
    assert "\n" not in str(refused.value)


def test_a_type_that_json_lacks_is_read_from_text() -> None:
    assert read(dated, {"day": "2030-01-31"}) == {"day": date(2030, 1, 31)}
    assert problems(dated, '{"day": "2030-02-31"}') == ["day"]


def test_the_schema_tells_names_types_bounds_and_what_is_required() -> None:
    schema = Arguments(bounded).schema
    assert set(schema["properties"]) == {"count", "code", "kind", "limit"}
    assert schema["additionalProperties"] is False
    assert "required" not in schema
    count = schema["properties"]["count"]
    assert (count["type"], count["minimum"], count["maximum"]) == ("integer", 1, 10)
    assert schema["properties"]["kind"]["enum"] == ["a", "b"]
    assert sorted(Arguments(typed).schema["required"]) == sorted(GOOD)
    assert json.loads(json.dumps(schema)) == schema


def test_names_are_those_of_the_arguments() -> None:
    assert Arguments(typed).names == set(GOOD)
    assert Arguments(bounded).names == {"count", "code", "kind", "limit"}
    assert Arguments(empty).names == set()


class Opaque:
    """What JSON can't give."""


def naked(text) -> None:  # type: ignore[no-untyped-def] # noqa: ANN001 - that is what it is about
    """Annotate nothing."""
    del text


def stars(*texts: str) -> None:
    """Take any number."""
    del texts


def pairs(**texts: str) -> None:
    """Take any name."""
    del texts


def positional(text: str, /) -> None:
    """Take what can't be given by name."""
    del text


def opaque(thing: Opaque) -> None:
    """Take what JSON can't give."""
    del thing


def called(act: Callable[[], None]) -> None:
    """Take what JSON can't give either."""
    del act


@pytest.mark.parametrize(
    ("function", "name"),
    [(naked, "text"), (stars, "texts"), (pairs, "texts"), (positional, "text")],
)
def test_a_parameter_that_nobody_could_check_or_give_is_named(
    function: Callable[..., object], name: str
) -> None:
    with pytest.raises(ValueError, match=f"function: its parameter '{name}'"):
        Arguments(function)


@pytest.mark.parametrize("function", [opaque, called])
def test_a_type_that_json_cannot_give_is_refused(function: Callable[..., object]) -> None:
    with pytest.raises(ValueError, match="function: "):
        Arguments(function)


@pytest.mark.parametrize("function", [naked, stars, pairs, positional, opaque])
def test_a_kind_with_such_a_function_is_refused_where_it_is_declared(
    function: Callable[..., object],
) -> None:
    with pytest.raises(JobError, match="job 'bad': function: "):
        Catalogue().task(name="bad")(function)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=6,
)


@given(values=st.dictionaries(st.sampled_from([*GOOD, "other"]), json_values))
def test_whatever_is_read_has_the_types_of_the_annotations(values: dict[str, Any]) -> None:
    types = {key: type(value) for key, value in GOOD.items()}
    wrong: set[str] = set()
    try:
        found = read(typed, {**GOOD, **values})
    except ArgumentError as error:
        wrong = {field.split(".")[0] for field, _ in error.problems}
    else:
        assert {key: type(value) for key, value in found.items()} == types
    assert wrong <= set(values)
    assert ("other" in wrong) == ("other" in values)


@given(text=st.text(st.sampled_from('\\u0\x00n"')))
def test_a_nul_is_seen_where_there_is_one_and_nowhere_else(text: str) -> None:
    assert holds_nul(json.dumps(text)) == ("\x00" in text)


def test_the_arguments_of_many_calls_are_checked_at_once_by_the_same_rules() -> None:
    arguments = Arguments(bounded)
    good = [{}, {"count": 1}, {"code": "USD", "kind": "b", "limit": None}]
    arguments.check(json.dumps(good).encode())
    arguments.check(b"[]")
    bad: list[Any] = [
        {"count": 0},
        {"count": "1"},
        {"code": "x"},
        {"run": 1},
        {"colour": 1},
        [],
        None,
    ]
    for wrong in bad:
        with pytest.raises(ArgumentError):
            arguments.read(json.dumps(wrong))
        with pytest.raises(ValueError, match="validation error"):
            arguments.check(json.dumps([*good, wrong]).encode())
