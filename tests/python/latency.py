"""How soon a call ends after Ctrl-C, told apart from what the machine takes. Standard library only."""

import contextlib
import os
import pathlib
import signal
import threading
import time

BAR = 0.5  # seconds from the signal to the end of the call, as docs/guarantees.md promises
# What one attempt of three may take. A page fault on a full machine or a processor lent to a neighbour is in no count
# of `kept_waiting`: on two processors that others use too, some are long. Two such attempts of three are not excused.
ONCE = 2 * BAR
ATTEMPTS = 3


def kept_waiting():
    """Seconds that each thread of this process was ready to run while no processor took it, by thread.

    Linux counts them (the second figure of schedstat, in nanoseconds). Where it does not, the answer is empty and
    nothing is allowed for.
    """
    seconds = {}
    for path in pathlib.Path("/proc/self/task").glob("*/schedstat"):
        with contextlib.suppress(OSError):  # a thread that has just ended
            seconds[path.parent.name] = int(path.read_text().split()[1]) / 1e9
    return seconds


def once(call, after):
    """Seconds from SIGINT, sent ``after`` seconds from now, to KeyboardInterrupt, less the wait for a processor.

    Of all threads the wait of the one that waited most is taken off: waits of two threads may lie one after the other,
    so this is at most what the machine did. The waits are read inside the time that is measured, never around it.
    """
    sent = []

    def send():
        sent.extend((time.perf_counter(), kept_waiting()))
        os.kill(os.getpid(), signal.SIGINT)

    timer = threading.Timer(after, send)
    timer.daemon = True
    timer.start()
    try:
        call()
    except KeyboardInterrupt:
        began, before = sent
        machine = max((now - before.get(thread, 0.0) for thread, now in kept_waiting().items()), default=0.0)
        return time.perf_counter() - began - machine
    timer.cancel()
    raise RuntimeError("the call was done before the signal came")


def attempts(call, after=0.6, prepare=None):
    """The waits of three attempts at the same place of the work, or of two if both are within the bar.

    The third could not move their median beyond it then. ``prepare`` is called before each attempt.
    """
    waits = []
    while len(waits) < ATTEMPTS and not (len(waits) == 2 and max(waits) <= BAR):
        if prepare is not None:
            prepare()
        waits.append(once(call, after))
    return waits


def are_soon(waits):
    """Whether the median of these attempts is within the bar and none of them is beyond ``ONCE``.

    So a piece of work that is too long for the bar has to be missed by the signal two times of three to get by, and one
    of twice the bar each time.
    """
    return sorted(waits)[len(waits) // 2] <= BAR and max(waits) <= ONCE


@contextlib.contextmanager
def python_handles_sigint():
    """Ctrl-C raises KeyboardInterrupt, also in a process that was started with SIGINT ignored, as by nohup or &."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
