"""The process model, and the one place where the parts meet.

The master prepares the database and forks; from then on it does nothing but fork. Each worker
serves HTTP and runs a job thread. Where the numbers come from is said beside them.
"""

import gc
import resource
from typing import Any

from cluster import boot, log
from cluster.settings import load_or_exit
from webapp.newcomers import send_away_at_the_end

settings = load_or_exit()
log.configure(settings.log)

bind = settings.address
wsgi_app = "webapp.app:create()"
worker_class = "webapp.gthread.Worker"
workers = settings.workers
threads = 16  # twice its connections; a parked request (webapp/parking.py) holds none
worker_connections = 4000
backlog = 16384  # 10,000 connections at one moment without a dropped SYN; the kernel cuts it
keepalive = 5
timeout = 60
graceful_timeout = 25
preload_app = False  # a pool or a thread from before the fork would be everybody's and nobody's
control_socket_disable = True  # its default path is one for all services of a user
accesslog = None
logger_class = "webapp.gunicorn_log.Logger"

# Each connection is a descriptor, and the usual soft limit is 1,024.
_soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
_wanted = 65536 if _hard == resource.RLIM_INFINITY else min(_hard, 65536)
resource.setrlimit(resource.RLIMIT_NOFILE, (max(_soft, _wanted), _hard))
worker_connections = min(worker_connections, max(_wanted - 200, 100))


def on_starting(server: Any) -> None:
    """Before the first fork: the database, and its schema."""
    addresses = [address for address in server.cfg.address if isinstance(address, tuple)]
    boot.prepare(settings, replaces_master=bool(server.master_pid), addresses=addresses)
    boot.refuse_bad_reloads(server)
    send_away_at_the_end(server)


def post_worker_init(worker: Any) -> None:
    """After the fork, with the application loaded: the job thread."""
    gc.freeze()  # what is loaded stays; to look through it again takes 55 ms of a request each time
    worker.jobs = boot.job_side(settings, worker)
    worker.jobs.start()


def worker_exit(_server: Any, worker: Any) -> None:
    """At the end of a worker, however it was told: hand over what runs."""
    if hasattr(worker, "jobs"):
        worker.jobs.stop(within=boot.seconds_left(worker))
