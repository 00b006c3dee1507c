"""The routes that respool answers from its log: read, cancel, delete, input items, and the caller's own list.

Source: CONTRACT sections 1, 4 and 5.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from respool.proxy.asking import Asking
from respool.proxy.delivery import Transform, transform
from respool.proxy.protocol import body as bodies
from respool.proxy.protocol import errors, ids, items, rules
from respool.proxy.protocol.envelope import Envelope
from respool.proxy.protocol.errors import WireError, invalid
from respool.proxy.protocol.jsons import JsonObject, dumps, loads
from respool.proxy.run import Word
from respool.proxy.runs import Runs
from respool.proxy.settings import Settings
from respool.proxy.snapshots import Snapshots
from respool.store.base import Ended, Filter, Head, InFlight, Key, NotFound, Store
from respool.store.status import Status


class Unknown(Exception):
    """The log does not have this response; `error` is what is said if nobody else is asked."""

    def __init__(self, error: WireError) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass(frozen=True, slots=True)
class Replay:
    """Events to be streamed: of which response, behind which number, and how they are shown.

    `is_over` for a client that came back by itself and has had the end.
    """

    head: Head
    after: int
    shown: Transform
    is_over: bool


class Reading:
    """Reads of one log for one caller at a time. Every method may raise WireError, Unknown and StorageFailed."""

    def __init__(self, settings: Settings, store: Store, runs: Runs, snapshots: Snapshots) -> None:
        self._settings = settings
        self._store = store
        self._runs = runs
        self._snapshots = snapshots

    async def find(self, key: Key) -> Head:
        """The response, seen or hidden."""
        try:
            return await self._store.head(key)
        except NotFound:
            if ids.is_well_formed(key.id, self._settings.id_prefix):
                raise Unknown(errors.not_found(key.id)) from None
            raise Unknown(errors.malformed_id(key.id)) from None

    async def _visible(self, key: Key) -> Head:
        head = await self.find(key)
        if rules.is_hidden(head.status, background=head.background):
            raise errors.not_found(key.id)
        return head

    async def snapshot(self, key: Key) -> tuple[Head, bytes]:
        """The response and its object as JSON: the final one, or what there is of it so far."""
        head = await self._visible(key)
        if head.status.ended:
            return head, await self._result(key)
        initial = Envelope(loads(head.envelope)).snapshot(head.status)
        try:
            value = await self._snapshots.take(self._store, key, initial)
        except NotFound:
            raise errors.not_found(key.id) from None
        run = self._runs.get(key)
        if run is not None and run.queued:
            # The agent may have been called, and not have said a word.
            value["status"] = str(head.status)
        return head, dumps(value)

    async def _result(self, key: Key) -> bytes:
        try:
            result = await self._store.result(key)
        except NotFound:
            raise errors.not_found(key.id) from None
        return result if result is not None else b"{}"

    async def replay(self, key: Key, query: Mapping[str, str], asking: Asking) -> Replay:
        """What `?stream=true` streams."""
        try:
            head = await self.find(key)
        except Unknown:
            asking.cursor(query.get("starting_after"))
            raise
        if head.status.ended:
            asking.cursor(query.get("starting_after"))
        refusal = rules.refuse_replay(
            head.status,
            background=head.background,
            stream=head.stream,
            replay_any=self._settings.replay == "any",
        )
        if refusal is not None:
            raise refusal
        plain = query.get("include_obfuscation", "").lower() == "false"
        after = asking.cursor(query.get("starting_after"))
        shown = transform(with_ids=asking.wants_ids, plain=plain)
        return Replay(head, after, shown, is_over=asking.has_had_all(head, after))

    async def cancel(self, key: Key) -> tuple[Head, bytes]:
        """Commit the cancel, let the run end by it, and give the response as it then is."""
        head = await self._visible(key)
        refusal = rules.refuse_cancel(head.status, background=head.background)
        if refusal is not None:
            raise refusal
        if not head.status.ended:
            await self._commit_cancel(key)
        run = self._runs.get(key)
        if run is not None:
            run.ear.tell(Word.CANCEL)
            await run.ended.wait()
            if run.final is not None:
                return head, run.final
        return await self.snapshot(key)

    async def _commit_cancel(self, key: Key) -> None:
        try:
            await self._store.request_cancel(key)
        except NotFound:
            raise errors.not_found(key.id) from None
        except Ended:
            head = await self.find(key)
            refusal = rules.refuse_cancel(head.status, background=head.background)
            if refusal is not None:
                raise refusal from None

    async def delete(self, key: Key) -> JsonObject:
        """Delete in the log; the agent is not told."""
        await self._visible(key)
        try:
            await self._store.delete(key)
        except NotFound:
            raise errors.not_found(key.id) from None
        except InFlight:
            raise invalid(rules.DELETE_IN_FLIGHT, "response_id") from None
        self._snapshots.forget(key)
        return {"id": key.id, "object": "response", "deleted": True}

    async def input_items(self, key: Key, query: Mapping[str, str]) -> tuple[Head, JsonObject]:
        """The items of this turn, behind those of the turns before it as far as the log has them."""
        which = items.paging(query.get("limit"), query.get("order"), query.get("after"), query.get("before"))
        head = await self.find(key)
        turns: list[tuple[str, list[JsonObject]]] = [(key.id, await self._inputs(key))]
        seen = {key.id}
        previous = head.previous_id
        while previous is not None and previous not in seen:
            seen.add(previous)
            try:
                earlier = await self._store.head(Key(key.owner, previous))
                turn = [*await self._inputs(earlier.key), *await self._outputs(earlier.key)]
            except NotFound:
                break
            turns.append((previous, turn))
            previous = earlier.previous_id
        return head, items.page(items.chain(turns[::-1]), which)

    async def _inputs(self, key: Key) -> list[JsonObject]:
        body = bodies.parse(await self._store.request(key))
        return items.input_items(key.id, body.get("input"))

    async def _outputs(self, key: Key) -> list[JsonObject]:
        result = await self._store.result(key)
        output = loads(result).get("output") if result is not None else None
        return [item for item in output if isinstance(item, dict)] if isinstance(output, list) else []

    async def list_own(self, owner: str | None, query: Mapping[str, str]) -> JsonObject:
        """The caller's responses, newest first; `owner` None lists everybody's, and says whose."""
        conversation = query.get("conversation") or None
        if owner == "" and conversation is None:
            raise invalid("conversation is required for callers without an owner header", "conversation")
        limit = items.limit_of(query.get("limit"))
        which = Filter(
            owner=owner,
            conversation=conversation,
            status=_status(query.get("status")),
            after=query.get("after") or None,
            visible=owner is not None,
            limit=limit + 1,
        )
        heads = await self._store.list(which)
        shown = [_entry(head) | ({"owner": head.key.owner} if owner is None else {}) for head in heads[:limit]]
        return items.listing(shown, has_more=len(heads) > limit)


def _status(text: str | None) -> Status | None:
    if not text:
        return None
    try:
        return Status(text)
    except ValueError:
        raise invalid(f"status must be one of {', '.join(Status)}", "status") from None


def _entry(head: Head) -> JsonObject:
    fields = loads(head.envelope)
    return {**fields, "status": str(head.status), "stream": head.stream, "sequence_number": head.last_seq}
