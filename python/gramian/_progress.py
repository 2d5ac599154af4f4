"""One line on stderr that says how far a long command is."""

import sys
import time


class Progress:
    """Counts rows against a total; a context manager.

    Parameters
    ----------
    label : str
        What is being done.
    total : int
        Rows to come.
    shown : bool or None
        None: only where stderr is a terminal.
    """

    _EVERY = 0.2  # seconds

    def __init__(self, label, total, shown=None):
        self._label, self._total, self._done = label, total, 0
        self._shown = sys.stderr.isatty() if shown is None else shown
        self._began = time.perf_counter()
        self._next = 0.0

    def add(self, rows):
        """So many rows more are done."""
        self._done += rows
        now = time.perf_counter()
        if self._shown and (now >= self._next or self._done >= self._total):
            self._next = now + self._EVERY
            self._write(now)

    def _write(self, now):
        share = 100 * self._done // self._total if self._total else 100
        rate = self._done / max(now - self._began, 1e-9)
        print(
            f"\r{self._label}: {self._done:,} of {self._total:,} rows ({share} %), {rate:,.0f} rows/s",
            end="",
            file=sys.stderr,
            flush=True,
        )

    def __enter__(self):
        return self

    def __exit__(self, *error):
        if self._shown and self._done:
            print(file=sys.stderr)
