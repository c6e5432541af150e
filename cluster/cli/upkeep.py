"""`migrate` and `verify`: the tables, and whether what is in them keeps what is promised."""

import sys
from typing import Any

import click

from cluster import migrate as migrations
from cluster.cli import reach, tables
from cluster.settings import load_or_exit
from cluster.store import checks


@click.command()
@tables.as_json
def migrate(*, as_json: bool) -> None:
    """Bring the tables up to date, as each start of the cluster does.

    Makes the embedded database if there is none yet. Anybody may do it at any time: those that
    are at work go on, and of two at once one waits.
    """
    url = reach.url(load_or_exit(), anew=True)
    if not migrations.FOLDER.is_dir():
        raise reach.Answer(f"the migrations are not in {migrations.FOLDER}")
    with reach.opened(url):
        applied = migrations.migrate(url)
    if as_json:
        tables.show_json({"applied": applied})
    else:
        click.echo(f"{applied} migrations applied" if applied else "the tables are up to date")


@click.command()
@click.option("--quiet", is_flag=True, help="Print violations and the sum only.")
@tables.as_json
def verify(*, quiet: bool, as_json: bool) -> None:
    """Check the data against what Ronin promises; exit status 1 on a violation.

    Reads one snapshot and changes nothing, so it may run beside a cluster at work.
    """
    checked: list[dict[str, Any]] = []
    with reach.data(patience=None) as pool, pool.connection() as connection:
        for invariant, found in checks.contradictions(connection):
            checked.append({"invariant": invariant, "violations": found})
            if not as_json and (found or not quiet):
                click.echo(f"{'VIOLATED' if found else 'ok':<9} {invariant}")
                for row in found:
                    click.echo(f"          {', '.join(map(str, row))}")
    violated = sum(bool(each["violations"]) for each in checked)
    if as_json:
        tables.show_json(checked)
    else:
        click.echo(f"{len(checks.CHECKS)} invariants checked, {violated} violated")
    sys.exit(bool(violated))
