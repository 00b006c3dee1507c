"""Who may call the agent now: so many runs at a time, the others in the order in which they came."""

import asyncio


class Slot:
    """The right of one run to call the agent. To be given back, whether or not it has come."""

    __slots__ = ("_come", "_slots")

    def __init__(self, slots: "Slots") -> None:
        self._slots = slots
        self._come = asyncio.Event()

    @property
    def has_come(self) -> bool:
        """Whether the agent may be called."""
        return self._come.is_set()

    async def comes(self) -> None:
        """Return once the agent may be called."""
        await self._come.wait()

    def come(self) -> None:
        """Let the run call the agent."""
        self._come.set()

    def give_back(self) -> None:
        """The run does not need the agent any more, or never will. Again is the same."""
        self._slots.take_back(self)


class Slots:
    """`limit` slots, 0 for as many as are asked for. Once `closed`, no run that waits gets one."""

    def __init__(self, limit: int) -> None:
        self.closed = False
        self._limit = limit
        self._taken: set[Slot] = set()
        self._waiting: dict[Slot, None] = {}

    def ask(self) -> Slot:
        """A slot, which comes at once or behind all that were asked for before."""
        slot = Slot(self)
        self._waiting[slot] = None
        self._hand_out()
        return slot

    def take_back(self, slot: Slot) -> None:
        """See Slot.give_back."""
        self._waiting.pop(slot, None)
        self._taken.discard(slot)
        self._hand_out()

    def _hand_out(self) -> None:
        while self._waiting and (not self._limit or (len(self._taken) < self._limit and not self.closed)):
            slot = next(iter(self._waiting))
            del self._waiting[slot]
            self._taken.add(slot)
            slot.come()
