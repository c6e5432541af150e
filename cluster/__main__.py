"""`python -m cluster`: the command line; without a command, whether the settings make sense.

The Procfile asks that, because gunicorn itself reads WEB_CONCURRENCY before it reads our
configuration, and answers nonsense there with a traceback.
"""

from cluster.cli import main

if __name__ == "__main__":
    main()
