"""How many threads a decoding step should have right now, learnt from how long the last steps took.

Threads that share one step wait for each other at every matrix. On idle cores that costs microseconds; where another
program runs on one of the cores, each wait lasts until the scheduler comes round, and two threads are many times slower
than one. The number of cores does not show which of the two holds at this moment, but the time of a step does.

Left out: sizes between one thread and all of them, and models so small that one thread is always best (decode.py).
"""

from __future__ import annotations

import statistics

TRIAL = 5  # steps in a row by which a size is judged, by their median
RECENT = 15  # steps of the size in use that it is judged by
FIRST, LAST = 60, 4000  # steps between trials of the other size: doubled as long as the trials change nothing
SLOW = 2.0  # a step with many threads that takes this many times as long as with one shows that other programs use the cores
PATIENCE = 2  # this many slow steps in a row end the use of many threads at once


class Team:
    """`size` is 1 or `most`; `took` gets the seconds of each step and may change it."""

    def __init__(self, most: int):
        self.most = self.size = max(1, most)
        self._steps: dict[int, list[float]] = {1: [], self.most: []}  # s of the last steps of each size
        self._trial = TRIAL if self.most > 1 else 0  # steps left of a trial; the first one is of one thread
        self._after = self.most  # the size to go back to unless the trial is won
        self._pause, self._slow, self._countdown = FIRST, 0, FIRST
        if self.most > 1:
            self.size = 1

    def took(self, seconds: float) -> None:
        """The last step, of `size` threads, took so long."""
        if self.most == 1:
            return
        recent = self._steps[self.size]
        recent.append(seconds)
        del recent[:-RECENT]
        self._slow = self._slow + 1 if self.size > 1 and seconds > SLOW * self._median(1) else 0
        if self._slow >= PATIENCE:
            self._use(1, min(2 * self._pause, LAST) if self._trial else FIRST)
        elif self._trial:
            self._trial -= 1
            if not self._trial:
                self._judge()
        else:
            self._wait()

    def _wait(self) -> None:
        """Between trials: count down to the next one."""
        self._countdown -= 1
        if self._countdown <= 0:
            self._after, self._trial = self.size, TRIAL
            self.size = 1 if self.size > 1 else self.most
            self._steps[self.size].clear()

    def _judge(self) -> None:
        """The end of a trial: the quicker of the two sizes plays on."""
        tried, before = self.size, self._after
        if not self._steps[before]:  # nothing to compare with yet
            self._use(before, FIRST)
        elif self._median(tried) < self._median(before):
            self._use(tried, FIRST)
        else:
            self._use(before, min(2 * self._pause, LAST))

    def _use(self, size: int, pause: int) -> None:
        self.size, self._pause, self._countdown, self._slow, self._trial = size, pause, pause, 0, 0

    def _median(self, size: int) -> float:
        return statistics.median(self._steps[size][-TRIAL:])
