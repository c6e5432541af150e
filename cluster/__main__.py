"""`python -m cluster` ends with 0 if the settings make sense, else with a line that says why not.

The Procfile asks this first, because gunicorn itself reads WEB_CONCURRENCY before it reads our
configuration, and answers nonsense there with a traceback.
"""

from cluster import settings

settings.load_or_exit()
