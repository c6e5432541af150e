"""Forms: what a person fills in is checked as what a program sends, and answered with pages."""

import re
from collections.abc import Mapping
from enum import Enum
from typing import Annotated, Any, Literal
from uuid import uuid4

import pytest
from pydantic import Field

from cluster.database import Pool
from cluster.store import jobs
from tests.integration.builders import NEVER, Answer, TaskWeb, a_job, a_kind, query
from tests.integration.forms import FORM, filled

BROWSER = {**FORM, "Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


class Colour(Enum):
    """A choice."""

    RED = "red"
    BLUE = "blue"


def typed(  # noqa: PLR0913, PLR0917 - one of each type
    text: str,
    count: int,
    factor: Annotated[float, Field(gt=0)] = 1.0,
    sure: bool = False,
    size: Literal["small", "large"] = "small",
    level: Literal[1, 2] = 1,
    colour: Colour = Colour.RED,
    limit: int | None = None,
    many: list[int] | None = None,
    more: dict[str, Any] | None = None,
    anything: Any = None,
    either: int | str = 0,
    nullable: str | None = "x",
) -> None:
    """Take an argument of each type."""


@pytest.fixture
def web(pool: Pool) -> TaskWeb:
    """Return the application over a database with a kind that takes every type."""
    return TaskWeb(pool, a_kind(name="typed", function=typed))


def create(web: TaskWeb, fields: Mapping[str, str] = {}, headers: dict[str, str] = FORM) -> Answer:
    """Send the form of a task."""
    body = filled({"name": "n", "args.text": "t", "args.count": "1", **fields})
    return web.ask("POST", "/ui/kinds/typed/tasks", headers=headers, body=body)


def made(web: TaskWeb, answer: Answer) -> dict[str, Any]:
    """Return the task that a form has made."""
    assert answer.status == 303
    return web.shown(answer.headers["location"].removeprefix("/ui/runs/"))


def test_a_form_makes_a_task_and_says_who_wanted_it(web: TaskWeb, pool: Pool) -> None:
    """The browser is sent to the task, and its record begins with who made it."""
    answer = create(web, {"priority": "7", "run_at": "2100-01-31T12:00"})
    task = made(web, answer)

    assert (task["name"], task["kind"], task["priority"]) == ("n", "typed", 7)
    assert task["run_at"] == "2100-01-31T12:00:00Z"
    assert task["args"] == {"text": "t", "count": 1}
    assert query(pool, "SELECT who, what, target, detail FROM action") == [
        ("local", "create", f"run:{task['task_id']}", {"kind": "typed", "name": "n"})
    ]


@pytest.mark.parametrize(
    ("field", "text", "value"),
    [
        ("text", "", ""),
        ("text", "a\r\nb", "a\nb"),
        ("text", "null", "null"),
        ("text", "<b>&amp;%", "<b>&amp;%"),
        ("count", "-12", -12),
        ("count", " 3 ", 3),
        ("factor", "2.5", 2.5),
        ("factor", "2", 2),
        ("factor", "1e3", 1000.0),
        ("sure", "true", True),
        ("sure", "on", True),
        ("sure", "false", False),
        ("size", "large", "large"),
        ("level", "2", 2),
        ("colour", "blue", "blue"),
        ("limit", "5", 5),
        ("limit", "null", None),
        ("many", "[1, 2]", [1, 2]),
        ("more", '{"a": [true]}', {"a": [True]}),
        ("anything", '"x"', "x"),
        ("either", "5", 5),
        ("either", "five", "five"),
        ("nullable", "y", "y"),
    ],
)
def test_a_text_becomes_what_the_argument_is(
    web: TaskWeb, field: str, text: str, value: object
) -> None:
    """Each field is read by the type that the kind's function declares."""
    assert made(web, create(web, {f"args.{field}": text}))["args"][field] == value


@pytest.mark.parametrize("field", ["factor", "sure", "limit", "many", "nullable", "anything"])
def test_an_empty_field_is_left_out(web: TaskWeb, field: str) -> None:
    """The function's own default holds for what nobody has filled in."""
    assert field not in made(web, create(web, {f"args.{field}": ""}))["args"]


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"args.count": "x"}, "args.count"),
        ({"args.count": ""}, "args.count"),
        ({"args.count": "1.5"}, "args.count"),
        ({"args.count": "1" * 25}, "args.count"),
        ({"args.factor": "0"}, "args.factor"),
        ({"args.factor": "true"}, "args.factor"),
        ({"args.factor": "NaN"}, "args.factor"),
        ({"args.sure": "perhaps"}, "args.sure"),
        ({"args.size": "huge"}, "args.size"),
        ({"args.level": "3"}, "args.level"),
        ({"args.limit": "much"}, "args.limit"),
        ({"args.many": "[1, "}, "args.many"),
        ({"args.many": '["a"]'}, "args.many.0"),
        ({"args.more": "[]"}, "args.more"),
        ({"args.more": '{"a": 1, "a": 2}'}, "args.more"),
        ({"args.anything": "[" * 200 + "]" * 200}, "args.anything"),
        ({"args.anything": '"\\u0000"'}, "body"),
        ({"args.nosuch": "1"}, "args.nosuch"),
        ({"nosuch": "1"}, "nosuch"),
        ({"name": ""}, "name"),
        ({"name": "n" * 201}, "name"),
        ({"priority": "high"}, "priority"),
        ({"priority": "101"}, "priority"),
        ({"run_at": "soon"}, "run_at"),
        ({"run_at": "2100-02-30T00:00"}, "run_at"),
        ({"idempotency_key": "ä"}, "idempotency_key"),
    ],
)
def test_a_wrong_field_is_named_as_the_form_names_it(
    web: TaskWeb, pool: Pool, fields: dict[str, str], wrong: str
) -> None:
    """Whoever filled it in reads which field, and nothing is made or recorded."""
    answer = create(web, fields)

    assert (answer.status, answer.problem) == (422, "invalid-field")
    assert wrong in [each["field"] for each in answer.body["errors"]]
    assert query(pool, "SELECT FROM run") == query(pool, "SELECT FROM action") == []


def test_every_wrong_field_is_named_at_once(web: TaskWeb) -> None:
    """Nobody mends a form field by field."""
    answer = create(web, {"args.count": "x", "args.sure": "y", "priority": "z"})

    named = {each["field"] for each in answer.body["errors"]}
    assert named == {"args.count", "args.sure", "priority"}


def test_a_form_that_is_sent_twice_makes_one_task(web: TaskWeb, pool: Pool) -> None:
    """A page that gives its form a key is safe from a second press."""
    key = uuid4().hex
    answers = [create(web, {"idempotency_key": key}) for _ in range(2)]

    assert len({answer.headers["location"] for answer in answers}) == 1
    assert query(pool, "SELECT what FROM action") == [("create",)]


def test_a_task_of_no_kind_is_a_404(web: TaskWeb) -> None:
    """The form's address names the kind."""
    assert (
        web.ask("POST", "/ui/kinds/nosuch/tasks", headers=FORM, body=filled({"name": "n"})).status
        == 404
    )


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        ("name=a&name=b", {}, 400),
        ("name=%ff", {}, 400),
        ("name=ä", {}, 400),
        ("&".join(f"a{n}=1" for n in range(300)), {}, 400),
        ("name=%00&" + filled(), {}, 422),
        ("name=" + "n" * 70_000, {}, 413),
        ('{"name": "n"}', {"Content-Type": "application/json"}, 415),
        ("name=n", {"Content-Type": "multipart/form-data; boundary=x"}, 415),
        ("name=n", {"Content-Type": "text/plain"}, 415),
        ("name=n", {"Content-Encoding": "gzip"}, 415),
    ],
)
def test_a_body_that_is_no_form_of_ours_is_refused(
    web: TaskWeb, body: str, headers: dict[str, str], status: int
) -> None:
    """Forms are read as strictly as JSON."""
    answer = web.ask("POST", "/ui/kinds/typed/tasks", headers=FORM | headers, body=body)

    assert answer.status == status
    assert answer.problem


def test_a_person_gets_the_form_again(web: TaskWeb, pool: Pool) -> None:
    """With what they typed, and beside each wrong field the reason."""
    given = {
        "name": "<mine>",
        "priority": "high",
        "args.text": "\n<b>text",
        "args.count": "x",
        "args.size": "large",
        "args.many": '["a"]',
        "run_at": "2100-01-31T12:00",
    }
    answer = create(web, given, BROWSER)

    assert answer.status == 422
    assert answer.headers["content-type"].startswith("text/html")
    reasons = dict(
        re.findall(r'id="([\w-]+)-error" class="error" role="alert">([^<]+)<', answer.body)
    )
    assert reasons == {"priority": "a whole number", "arg-2": "a whole number"}
    for field in ("priority", "args.count"):
        assert re.search(rf'name="{field}"[^>]* aria-invalid="true"', answer.body)
    for kept in (
        'value="&lt;mine&gt;"',
        'value="high"',
        ">\n\n&lt;b&gt;text</textarea>",
        '<option value="large" selected>',
        "[&#34;a&#34;]</textarea>",
        'value="2100-01-31T12:00"',
    ):
        assert kept in answer.body
    assert query(pool, "SELECT FROM run") == []


def test_a_complaint_about_a_part_stands_at_its_field(web: TaskWeb) -> None:
    """The field is what a person can mend."""
    answer = create(web, {"args.many": '["a"]'}, BROWSER)

    assert answer.status == 422
    assert len(re.findall(r'role="alert"', answer.body)) == 1
    assert re.search(r'name="args.many"[^>]* aria-invalid="true"', answer.body)


def test_a_person_gets_a_page_that_says_what_is_wrong(web: TaskWeb) -> None:
    """It names the fields, keeps what was typed harmless, and leads back to where they were."""
    came = {**BROWSER, "Referer": "http://localhost/ui/kinds/typed?again=1"}
    answer = create(web, {"args.count": "x", "args.<script>": "1"}, came)

    assert answer.status == 422
    assert answer.headers["content-type"].startswith("text/html")
    assert "script-src 'self'" in answer.headers["content-security-policy"]
    assert "args.count" in answer.body
    assert "<script>" not in answer.body.split("</head>")[1]
    assert 'href="/ui/kinds/typed?again=1"' in answer.body


@pytest.mark.parametrize(
    "referer", ["http://evil.example/ui/x", "http://localhost//evil.example", "http://[", ""]
)
def test_a_page_leads_back_to_us_only(web: TaskWeb, referer: str) -> None:
    """Whatever the browser says where it came from."""
    answer = create(web, {"args.nosuch": "x"}, {**BROWSER, "Referer": referer})

    assert '<a href="/">Back</a>' in answer.body


@pytest.mark.parametrize("path", ["/ui/nowhere", "/ui/jobs/x/nowhere", "/nowhere"])
def test_an_unknown_page_is_a_page_for_people_alone(web: TaskWeb, path: str) -> None:
    """A person sees a page; a program gets the problem it can read."""
    answer = web.get(path, headers={"Accept": "text/html"})

    assert answer.status == 404
    assert answer.headers["content-type"].startswith("text/html") == path.startswith("/ui")
    assert web.get(path).problem == "not-found"


def test_a_wrong_schedule_is_shown_with_its_reason(web: TaskWeb, pool: Pool) -> None:
    """The job's page is one click away, and nothing has changed."""
    jobs.declare(pool, [a_job()])
    answer = web.ask(
        "POST", "/ui/jobs/tick/schedule", headers=BROWSER, body=filled({"schedule": "61 * * * *"})
    )

    assert answer.status == 422
    assert "61 * * * *" in answer.body
    assert web.get("/jobs/tick").body["schedule"] == NEVER


def test_a_schedule_is_previewed_before_it_is_saved(web: TaskWeb, pool: Pool) -> None:
    """The preview of any schedule, in the job's zone; what makes no sense is a 422."""
    jobs.declare(pool, [a_job(timezone="Asia/Tokyo")])

    new_year = web.get("/jobs/tick/preview?count=2&schedule=0+12+1+1+*").body
    assert [at[4:] for at in new_year] == ["-01-01T03:00:00Z"] * 2
    assert len(web.get("/jobs/tick/preview?schedule=@every+90s").body) == 10
    for nonsense in ("61 * * * *", "", "x" * 200, "0 0 31 2 *", "\x00"):
        found = web.get("/jobs/tick/preview", params={"schedule": nonsense})
        assert (found.status, found.problem) == (422, "invalid-field")
    assert web.get("/jobs/tick").body["schedule"] == NEVER
