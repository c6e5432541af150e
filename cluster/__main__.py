"""`python -m cluster`: says whether the settings make sense; `verify` checks the database.

The Procfile asks the first, because gunicorn itself reads WEB_CONCURRENCY before it reads our
configuration, and answers nonsense there with a traceback.
"""

import sys

import click
import psycopg

from cluster import boot, database, embedded, settings
from cluster.store import checks


@click.group(invoke_without_command=True)
@click.pass_context
def main(context: click.Context) -> None:
    """Ronin's engine. Without a command: exit status 0 if the settings make sense."""
    loaded = settings.load_or_exit()
    context.obj = loaded


@main.command()
@click.option("--quiet", is_flag=True, help="Print violations only.")
@click.pass_obj
def verify(loaded: settings.Settings, *, quiet: bool) -> None:
    """Check the data against what Ronin promises; exit status 1 on a violation, 2 without data.

    Reads one snapshot and changes nothing, so it may run beside a cluster at work. Asks the
    database that DATABASE_URL names, or the embedded one of RONIN_DATA.
    """
    violated = 0
    try:
        url = database.conninfo(boot.database_url(loaded), "ronin verify")
        with psycopg.connect(url, autocommit=True) as connection:
            for invariant, found in checks.contradictions(connection):
                violated += bool(found)
                if found or not quiet:
                    click.echo(f"{'VIOLATED' if found else 'ok':<9} {invariant}")
                for row in found:
                    click.echo(f"          {', '.join(map(str, row))}")
    except (psycopg.Error, database.DatabaseUrlError, embedded.EmbeddedPostgresError) as error:
        click.echo(f"ronin: the data can't be checked: {str(error).splitlines()[0]}", err=True)
        sys.exit(2)
    click.echo(f"{len(checks.CHECKS)} invariants checked, {violated} violated")
    sys.exit(bool(violated))


if __name__ == "__main__":
    main()
