"""Notice what is wrong with VIP labels, and say each thing once."""

import asyncio
import time
from collections.abc import Callable, Collection

import structlog

from phalanx.lb.problem import Problem, vip_problems
from phalanx.net.model.objects import IPAddress
from phalanx.net.model.view import View

log = structlog.get_logger()

PAUSE_SECONDS = 5.0
# All tasks are looked at: in a View of many that takes a second, so it is not done all the time.
SHARE = 20


class ProblemWatch:
    """Looks at each View soon after it came, logs problems that are new, keeps all."""

    def __init__(
        self,
        view: Callable[[], View | None],
        *,
        taken: Callable[[], Collection[IPAddress]] = tuple,
    ) -> None:
        self._view = view
        self._taken = taken
        self.problems: tuple[Problem, ...] = ()

    async def run(self) -> None:
        """Look until cancelled."""
        seen: View | None = None
        while True:
            pause = PAUSE_SECONDS
            view = self._view()
            if view is not None and view is not seen:
                seen = view
                pause = max(pause, SHARE * await self.look(view))
            await asyncio.sleep(pause)

    async def look(self, view: View) -> float:
        """Look at *view* in a thread; return the seconds that it took."""
        began = time.monotonic()
        found = await asyncio.to_thread(vip_problems, view, taken=self._taken())
        known = {_what(each) for each in self.problems}
        for each in found:
            if _what(each) not in known:
                log.warning(
                    "vip_problem",
                    vip=each.vip,
                    label=each.label,
                    reason=each.reason,
                    tasks=len(each.tasks),
                    task=each.tasks[0] if each.tasks else "",
                )
        self.problems = found
        return time.monotonic() - began


def _what(problem: Problem) -> tuple[str, str, str]:
    return (problem.vip, problem.label, problem.reason)
