"""Every instance in memory, found by what the engine looks for."""

from collections.abc import Collection, Mapping, Sequence

from phalanx.marathon.model.instance import Condition, Instance

_QUIET = frozenset({Condition.STAGING, Condition.STARTING, Condition.RUNNING})


class Roll:
    """Instances by id and by app or pod.

    ``waiting`` are those that are to be launched, by app or pod; ``wishes`` has for each a
    number that is new, and larger than any before, whenever another of its instances waits.
    ``watched`` are those that time alone can change: to be killed, unreachable, or launched and
    not heard of. ``touched`` collects the apps and pods of which any instance changed, until
    somebody takes them.
    """

    def __init__(self) -> None:
        self._groups: dict[str, dict[str, Instance]] = {}
        self._of: dict[str, str] = {}  # instance id → app or pod id
        self._waiting: dict[str, dict[str, Instance]] = {}  # by app or pod, and id
        self._watched: dict[str, Instance] = {}
        self.wishes: dict[str, int] = {}
        self._last_wish = 0
        self.touched: set[str] = set()

    def put(self, instance: Instance) -> None:
        """Remember *instance* as it is now."""
        self._of[instance.id] = instance.app_id
        self._groups.setdefault(instance.app_id, {})[instance.id] = instance
        self.touched.add(instance.app_id)
        if instance.condition is Condition.SCHEDULED:
            waiting = self._waiting.setdefault(instance.app_id, {})
            if waiting.get(instance.id) != instance:
                self._last_wish += 1
                self.wishes[instance.app_id] = self._last_wish
            waiting[instance.id] = instance
        else:
            self._wait_no_more(instance)
        is_quiet = instance.condition in _QUIET and instance.is_wanted and not instance.doomed
        is_watched = instance.launched is not None and not is_quiet
        if is_watched:
            self._watched[instance.id] = instance
        else:
            self._watched.pop(instance.id, None)

    def remove(self, instance: Instance) -> None:
        """Forget *instance*."""
        if self._of.pop(instance.id, None) is None:
            return
        self._wait_no_more(instance)
        self._watched.pop(instance.id, None)
        self.touched.add(instance.app_id)
        group = self._groups[instance.app_id]
        del group[instance.id]
        if not group:
            del self._groups[instance.app_id]
            self.wishes.pop(instance.app_id, None)

    def get(self, instance_id: str) -> Instance | None:
        """Return one instance, or None."""
        owner = self._of.get(instance_id)
        return None if owner is None else self._groups[owner][instance_id]

    def of(self, owner: str) -> Sequence[Instance]:
        """Return the instances of one app or pod."""
        return list(self._groups.get(owner, {}).values())

    def all(self) -> list[Instance]:
        """Return all instances."""
        return [instance for group in self._groups.values() for instance in group.values()]

    @property
    def owners(self) -> Collection[str]:
        """Return the apps and pods that have instances."""
        return self._groups.keys()

    @property
    def waiting(self) -> Mapping[str, Mapping[str, Instance]]:
        """Return the instances that wait to be launched, by app or pod and by id."""
        return self._waiting

    @property
    def watched(self) -> list[Instance]:
        """Return the launched instances that time alone can change."""
        return list(self._watched.values())

    def _wait_no_more(self, instance: Instance) -> None:
        waiting = self._waiting.get(instance.app_id, {})
        if instance.id in waiting:
            del waiting[instance.id]
            if not waiting:
                del self._waiting[instance.app_id]
