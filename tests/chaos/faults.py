"""The faults: each a generator that breaks something, yields how long it lasts, and mends it."""

import random
import signal
from collections.abc import Callable, Generator
from contextlib import suppress
from pathlib import Path

import psutil
import psycopg

from tests.chaos.diary import CRASHED, DROPPED, EVERYBODY, INTERRUPTED, LATE, SLOW
from tests.chaos.fleet import JUMPING, Berth, Fleet
from tests.chaos.plan import LEASE_SECONDS

Steps = Generator[float, None, None]
"""Each value: seconds until it goes on."""
Victim = tuple[str, psutil.Process]

RECOVERY_SECONDS = 5.0
"""For connections to come back, and beats and answers with them, after a fault is over."""
START_SECONDS = 30.0
"""For an instance to answer, on a busy machine."""
_PATIENCE_STEPS = 150
_HEARD = "Handling signal: hup"
_BEAT_AGE = LEASE_SECONDS / 3
_RECONNECT_SECONDS = 2.0


def kill_worker(fleet: Fleet, chance: random.Random, instance: str) -> Steps:
    """Kill -9 one worker."""
    name, process = yield from _someone(fleet.berths[instance], chance)
    with suppress(psutil.NoSuchProcess):
        fleet.diary.killed(name)
        process.kill()
    yield 0


def kill_master(fleet: Fleet, _chance: random.Random, instance: str) -> Steps:
    """Kill -9 the supervisor; its workers are to go by themselves, and a new instance comes."""
    berth = fleet.berths[instance]
    fleet.diary.excuse(f"{berth.instance.name}:", CRASHED, INTERRUPTED, SLOW, DROPPED)
    with suppress(psutil.NoSuchProcess):
        berth.master.kill()
    _launch(fleet, berth)
    yield 0


def kill_children(fleet: Fleet, _chance: random.Random) -> Steps:
    """Kill -9 the processes in which suspects are performed."""
    for instance in fleet.everybody:
        for process in instance.processes():
            with suppress(psutil.Error):
                if "cluster.child" in process.cmdline():
                    excuse = fleet.diary.excuse(f"{instance.name}:{process.ppid()}", CRASHED)
                    process.kill()
                    fleet.diary.end(excuse, RECOVERY_SECONDS)
    yield 0


def freeze_worker(fleet: Fleet, chance: random.Random, instance: str, seconds: float) -> Steps:
    """Stop one worker (SIGSTOP), and let it go on."""
    berth = fleet.berths[instance]
    name, process = yield from _someone(berth, chance)
    excuses = [fleet.diary.excuse(f"{berth.instance.name}:", SLOW, DROPPED)]
    if _BEAT_AGE + seconds > LEASE_SECONDS:
        excuses.append(fleet.diary.excuse(name, CRASHED, INTERRUPTED))
        fleet.diary.frozen(name)
    with suppress(psutil.NoSuchProcess):
        process.suspend()
        yield seconds
        process.resume()
    for excuse in excuses:
        fleet.diary.end(excuse, RECOVERY_SECONDS)


def freeze_instance(fleet: Fleet, _chance: random.Random, instance: str, seconds: float) -> Steps:
    """Stop every process of an instance, as when a virtual machine pauses."""
    place = fleet.berths[instance].instance
    excuse = fleet.diary.excuse(f"{place.name}:", CRASHED, INTERRUPTED, SLOW, DROPPED)
    frozen = place.processes()
    for process in frozen:
        with suppress(psutil.NoSuchProcess):
            process.suspend()
    yield seconds
    for process in frozen:
        with suppress(psutil.NoSuchProcess):
            process.resume()
    fleet.diary.end(excuse, RECOVERY_SECONDS)


def stop_postgres(fleet: Fleet, _chance: random.Random, seconds: float) -> Steps:
    """Stop the server at once, start it again later. That makes nobody dead."""
    late = fleet.diary.excuse(EVERYBODY, INTERRUPTED, LATE)
    fleet.server.stop()
    yield seconds
    while filler(fleet).exists():
        yield 0.2  # it would not come up
    fleet.server.start()
    fleet.diary.end(late, RECOVERY_SECONDS)


def terminate_backends(fleet: Fleet, _chance: random.Random, whose: str) -> Steps:
    """End sessions inside the server."""
    names = {"everybody's": "ronin %", "the engine's": "ronin engine", "the web's": "ronin http"}
    query = """
        SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE application_name LIKE %s AND pid <> pg_backend_pid()
        """
    with suppress(psycopg.OperationalError), psycopg.connect(fleet.server.url) as connection:
        connection.execute(query, (names[whose],))
    yield 0


def misbehave(mode: str) -> Callable[..., Steps]:
    """Return the fault in which the proxies are in a mode for a while."""

    def fault(
        fleet: Fleet, _chance: random.Random, instance: str, seconds: float, each: float = 0.0
    ) -> Steps:
        names = list(fleet.proxies) if instance == "both" else [instance]
        outcomes = _of_silence(0.0 if mode == "delay" else seconds)
        began = fleet.diary.now()
        for name in names:
            fleet.proxies[name].set(mode, each)
        yield seconds
        for name in names:
            fleet.proxies[name].set("pass")
        # All that are behind these proxies, or have been: while one rolls they are two.
        behind = [f"{place.name}:" for name in names for place in fleet.berths[name].past]
        for whom in [EVERYBODY] if instance == "both" else behind:
            excuse = fleet.diary.excuse(whom, *outcomes)
            excuse.since = began
            fleet.diary.end(excuse, RECOVERY_SECONDS)
            outcomes = [each for each in outcomes if each != LATE]  # the time counts once

    return fault


def fill_the_disk(fleet: Fleet, _chance: random.Random, seconds: float) -> Steps:
    """Leave no space on the server's disk for a while; start it again if that killed it."""
    excuse = fleet.diary.excuse(EVERYBODY, CRASHED, INTERRUPTED, LATE)
    with suppress(OSError), filler(fleet).open("wb", buffering=0) as file:
        while file.write(bytes(1 << 16)):
            pass
    yield seconds
    filler(fleet).unlink(missing_ok=True)  # on a full disk it may not have been made
    fleet.server.start()
    fleet.diary.end(excuse, RECOVERY_SECONDS)


def reload(fleet: Fleet, chance: random.Random, instance: str) -> Steps:
    """Let the master replace its workers (HUP)."""
    berth = fleet.berths[instance]
    yield from _someone(berth, chance)  # before that it has no ear for signals
    service, master, known = berth.instance, berth.master, berth.workers()
    heard = service.said().count(_HEARD)
    for worker in known:
        fleet.diary.excuse(worker, INTERRUPTED)
    with suppress(psutil.NoSuchProcess):
        master.send_signal(signal.SIGHUP)
    for _ in range(_PATIENCE_STEPS):
        yield 0.2
        if service.said().count(_HEARD) > heard or not master.is_running():
            break
    # Who was just being born is replaced as well; the new ones come later, after the trial.
    for worker in berth.workers_of(master).keys() - known.keys():
        fleet.diary.excuse(worker, INTERRUPTED)


def roll(fleet: Fleet, _chance: random.Random, instance: str) -> Steps:
    """Start an instance beside the old one, then end that (TERM)."""
    berth = fleet.berths[instance]
    old = berth.master
    whom = f"{berth.instance.name}:"
    _launch(fleet, berth)
    yield 4
    fleet.diary.excuse(whom, DROPPED)  # who still comes to the old one finds it closed
    _told_to_leave(fleet, instance, whom)
    _end(old)


def replace_master(fleet: Fleet, chance: random.Random, instance: str) -> Steps:
    """Let a new master take the socket over (USR2), then end the old one (TERM)."""
    berth = fleet.berths[instance]
    yield from _someone(berth, chance)
    old, workers = berth.master, berth.workers()
    with suppress(psutil.NoSuchProcess):
        old.send_signal(signal.SIGUSR2)
    new = None
    for _ in range(_PATIENCE_STEPS):
        yield 0.2
        new = new or berth.replaces(old)
        if berth.master is not old or not old.is_running():  # another fault has ended it
            if new:
                _end(new)
            return
        if new and berth.workers_of(new):
            berth.master = new
            yield 2
            _told_to_leave(fleet, instance, *workers, *berth.workers_of(old))
            _end(old)
            return
    fleet.diary.gave_up.append(f"{berth.instance.name}, a new master")


def partition(fleet: Fleet, _chance: random.Random, direction: str, seconds: float) -> Steps:
    """Cut the cable of the third instance: packets are lost without a word."""
    assert fleet.cable
    whom = f"{_name(fleet, 'third')}:"
    excuse = fleet.diary.excuse(whom, CRASHED, INTERRUPTED)
    fleet.cable.cut(direction)
    yield seconds
    fleet.cable.mend()
    fleet.diary.end(excuse, 3 * RECOVERY_SECONDS)  # the kernel resends ever more rarely


FAULTS: dict[str, Callable[..., Steps]] = {
    "kill worker": kill_worker,
    "kill master": kill_master,
    "kill children": kill_children,
    "freeze worker briefly": freeze_worker,
    "freeze worker past its lease": freeze_worker,
    "freeze instance": freeze_instance,
    "stop postgres": stop_postgres,
    "terminate backends": terminate_backends,
    "cut": misbehave("cut"),
    "delay": misbehave("delay"),
    "halve": misbehave("halve"),
    "swallow": misbehave("swallow"),
    "mute": misbehave("mute"),
    "fill the disk": fill_the_disk,
    "reload": reload,
    "roll": roll,
    "replace master": replace_master,
    "partition": partition,
}


def supervise(fleet: Fleet) -> None:
    """Start an instance again that has given up, as a supervisor would."""
    for berth in fleet.berths.values():
        if berth.gave_up():
            fleet.diary.gave_up.append(berth.instance.name)
            fleet.diary.write("gave up", instance=berth.instance.name)
            _launch(fleet, berth)


def _launch(fleet: Fleet, berth: Berth) -> None:
    """Start a new instance, which does not answer at once."""
    since = fleet.diary.now()  # a client may know of it before we go on
    berth.launch()
    excuse = fleet.diary.excuse(f"{berth.instance.name}:", DROPPED)
    excuse.since = since
    fleet.diary.end(excuse, START_SECONDS)


def _end(master: psutil.Process) -> None:
    with suppress(psutil.NoSuchProcess):
        master.terminate()


def _told_to_leave(fleet: Fleet, instance: str, *whom: str) -> None:
    """Excuse what comes of TERM to a master.

    gunicorn's master waits for its workers by the host's clock: where that jumps forward it kills
    them at once: their runs have crashed, and requests are not answered.
    """
    outcomes = (INTERRUPTED, CRASHED) if instance == JUMPING else (INTERRUPTED,)
    if instance == JUMPING:
        dropped = fleet.diary.excuse(f"{_name(fleet, instance)}:", DROPPED)
        fleet.diary.end(dropped, RECOVERY_SECONDS)
    for each in whom:
        fleet.diary.excuse(each, *outcomes)


def filler(fleet: Fleet) -> Path:
    """Return the file that fills the disk."""
    return fleet.server.folder / "filler"


def _of_silence(seconds: float) -> list[str]:
    """Return what may follow from so many seconds without a word from the database."""
    if not seconds:
        return []
    runs_out = _BEAT_AGE + seconds + _RECONNECT_SECONDS > LEASE_SECONDS
    return [INTERRUPTED, LATE, *([CRASHED] if runs_out else [])]


def _name(fleet: Fleet, berth: str) -> str:
    return fleet.berths[berth].instance.name


def _someone(berth: Berth, chance: random.Random) -> Generator[float, None, Victim]:
    """Return a worker by chance, once there is one."""
    while not (workers := sorted(berth.workers().items())):
        yield 0.2
    return chance.choice(workers)
