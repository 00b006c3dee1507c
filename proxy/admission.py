"""A create: from its body to a run, and the answer that its plan asks for.

Source: CONTRACT sections 2, 5 and 6.
"""

import asyncio
import os
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, replace
from itertools import count
from weakref import WeakValueDictionary

from respool.proxy import calls, clock, delivery
from respool.proxy.asking import Asking
from respool.proxy.protocol import body as bodies
from respool.proxy.protocol import errors, ids, rules
from respool.proxy.protocol.envelope import Envelope
from respool.proxy.protocol.errors import WireError, invalid
from respool.proxy.protocol.jsons import JsonObject, dumps, loads
from respool.proxy.protocol.rules import Plan, Refusal
from respool.proxy.reply import JSON_HEADERS, ClientGone, Reply, own_headers
from respool.proxy.run import Backlog, Call, Run
from respool.proxy.runs import Runs
from respool.proxy.settings import Settings
from respool.proxy.snapshots import Snapshots
from respool.store.base import Claim, Claimed, Exists, Head, Key, NotFound, StorageFailed, Store
from respool.store.log import FURTHEST
from respool.store.status import Status

RETRY_SECONDS = 60.0
"""How long a foreground run with an idempotency key survives its client, so that the repeated POST finds it."""

_UNSENT_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class Admitted:
    """A create that may run: how, as what, and with what.

    With a `refusal` it may not, but for a repetition: what was true when it was sent first need not be any more.
    """

    plan: Plan
    head: Head
    envelope: Envelope
    request: bytes
    call: Call
    asking: Asking
    claim: Claim | None = None
    refusal: WireError | None = None


class Admission:
    """Decides on creates, starts their runs and answers them."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        private: Store,
        runs: Runs,
        snapshots: Snapshots,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._settings = settings
        self._store = store
        self._private = private
        self._runs = runs
        self._snapshots = snapshots
        self._entropy = entropy
        self._private_owners = count()
        self._claiming: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    async def decide(self, raw: bytes, asking: Asking) -> Admitted:
        """Everything that can be refused before anything is written or sent. Raises WireError, StorageFailed."""
        self._runs.refuse_if_draining()
        now_ms = clock.now_ms()
        body = bodies.parse(raw)
        bodies.check(body)
        plan = _plan(body)
        claim = asking.claim(raw) if plan.store else None
        previous_id = body.get("previous_response_id")
        previous, refusal = None, None
        if previous_id:
            try:
                previous = await self._previous(asking.owner, previous_id)
            except WireError as error:
                if claim is None:
                    raise
                refusal = error
        response_id = self._response_id(body, asking)
        envelope = calls.envelope_of(self._settings, body, plan, response_id, now_ms // 1_000)
        head = Head(
            key=Key(asking.owner, response_id),
            status=Status.IN_PROGRESS,
            background=plan.background,
            stream=plan.stream,
            created_at=envelope.fields["created_at"],
            envelope=dumps(envelope.fields),
            conversation=bodies.conversation_id(body),
            previous_id=previous_id,
            created_at_ms=now_ms,
        )
        agents_id = previous.agent_id if previous is not None else None
        call = calls.call_of(self._settings, raw, body, plan, response_id, agents_id, asking.headers, asking.query)
        return Admitted(plan, head, envelope, raw, call, asking, claim, refusal)

    async def _previous(self, owner: str, previous_id: str) -> Head | None:
        """The response that this one continues; None if only the agent can know it."""
        try:
            head = await self._store.head(Key(owner, previous_id))
        except NotFound:
            if self._settings.unknown_ids == "forward":
                return None
            if not ids.is_well_formed(previous_id, self._settings.id_prefix):
                raise ids.malformed_previous() from None
            raise errors.not_found(previous_id, "previous_response_id") from None
        if not head.status.ended:
            raise invalid(f"Response with id '{previous_id}' is still in progress.", "previous_response_id")
        return head

    def _response_id(self, body: JsonObject, asking: Asking) -> str:
        given = (asking.header("x-agent-response-id") or "").strip() or body.get("response_id")
        if given:
            return ids.check_given(given)
        partition = ids.partition_of(body.get("previous_response_id")) or ids.partition_of(bodies.conversation_id(body))
        return ids.mint(self._settings.id_prefix, self._entropy(ids.ENTROPY_BYTES), partition)

    async def answer(self, admitted: Admitted, reply: Reply, request_id: str) -> None:
        """Create the record, start the run, and give the client what its plan asks for.

        A repeated POST is given what the first one led to. Not to be cancelled when the client goes, which `reply`
        must be watching for: only a foreground run ends by it. Raises WireError before the answer begins.
        """
        async with self._alone(admitted):
            run, after = await self._start(admitted)
        if isinstance(run, Head):
            return await self._give_again(run, after, admitted, reply, request_id)
        run.join()
        try:
            await self._give(run, after, admitted.asking, reply, request_id)
        except ClientGone:
            run.leave()
        finally:
            if not run.plan.store:
                await run.ended.wait()
                await self._forget(run)
        return None

    def _alone(self, admitted: Admitted) -> AbstractAsyncContextManager[object]:
        """One at a time for each idempotency key: who finds the key taken finds the run too."""
        if admitted.claim is None:
            return nullcontext()
        return self._claiming.setdefault((admitted.head.key.owner, admitted.claim.text), asyncio.Lock())

    async def _start(self, admitted: Admitted) -> tuple[Run | Head, int]:
        """The new run; of a repeated POST the run of the first, or its response if it has no run any more.

        And the number behind which the client wants to be told of it. Raises WireError, StorageFailed.
        """
        try:
            if admitted.refusal is not None:
                await self._again(admitted)
                raise admitted.refusal
            with self._runs.starting():
                return await self._create(admitted), -1
        except Claimed as claimed:
            return await self._repeated(admitted, claimed)

    async def _again(self, admitted: Admitted) -> None:
        """Raises Claimed for a repeated POST, and WireError."""
        head, claim = admitted.head, admitted.claim
        if claim is not None:
            try:
                raise await self._store.claimed(head.key.owner, claim.text, head.created_at)
            except NotFound:
                return

    async def _repeated(self, admitted: Admitted, claimed: Claimed) -> tuple[Run | Head, int]:
        if admitted.claim is None or admitted.claim.digest != claimed.digest:
            raise errors.key_of_another_request()
        after = admitted.asking.cursor()
        run = self._runs.get(claimed.key)
        try:
            return run or await self._store.head(claimed.key), after
        except NotFound:
            # It was deleted just now, and its key is free.
            return await self._start(admitted)
        except StorageFailed as error:
            raise errors.storage_error(sent=True) from error

    async def _create(self, admitted: Admitted) -> Run:
        """Raises Claimed, WireError, StorageFailed."""
        plan, head = admitted.plan, admitted.head
        store = self._store if plan.store else self._private
        if not plan.store:
            # Two private runs may well have the same id: nobody can ask for it.
            head = replace(head, key=Key(f"private {next(self._private_owners)}", head.key.id))
        slot, kept = self._runs.slots.ask(), None
        try:
            if not slot.has_come:
                head = replace(head, status=Status.QUEUED)
                kept = calls.kept(self._settings, admitted.call) if plan.background else None
            await store.create(head, admitted.request if plan.store else b"", admitted.claim, kept)
        except BaseException as error:
            # Whatever it was: a slot that nobody gives back is lost to all runs after this one.
            slot.give_back()
            if isinstance(error, Exists):
                raise errors.id_conflict() from None
            raise
        run = Run(head.key, plan, admitted.envelope, admitted.call, store, slot)
        run.queued, run.kept = head.status is Status.QUEUED, kept is not None
        run.patience_seconds = RETRY_SECONDS if admitted.claim else 0
        if not plan.store and plan.answer == "sse":
            run.backlog = Backlog(_UNSENT_BYTES)
        self._runs.start(run)
        return run

    async def _give(self, run: Run, after: int, asking: Asking, reply: Reply, request_id: str) -> None:
        ready = {"json": run.ended, "snapshot": run.began, "sse": run.accepted}[run.plan.answer]
        await reply.listen(ready.wait)
        if run.refusal is not None:
            return await delivery.refuse(reply, run.refusal, request_id)
        headers = own_headers(request_id, run.session)
        try:
            if run.plan.answer == "sse":
                keep_alive = self._settings.keep_alive_seconds
                shown = delivery.transform(with_ids=asking.wants_ids)
                return await delivery.stream(reply, run.store, run.key, after, headers, keep_alive, shown, run=run)
            body = run.final or dumps(await self._snapshot(run))
        except (NotFound, StorageFailed):
            return await reply.error(errors.storage_error(sent=True), request_id)
        return await reply.whole(200, [*JSON_HEADERS, *headers], body)

    async def _give_again(self, head: Head, after: int, admitted: Admitted, reply: Reply, request_id: str) -> None:
        """Answer a repeated POST whose run is over. Raises WireError before the answer begins, ClientGone."""
        key, asking, headers = head.key, admitted.asking, own_headers(request_id, head.session)
        try:
            if admitted.plan.answer == "sse":
                if asking.has_had_all(head, after):
                    await reply.start(204, headers)
                    return await reply.end()
                keep_alive = self._settings.keep_alive_seconds
                shown = delivery.transform(with_ids=asking.wants_ids)
                return await delivery.stream(reply, self._store, key, after, headers, keep_alive, shown)
            if admitted.plan.answer == "json":
                await reply.listen(lambda: self._store.wait(key, FURTHEST))
            body = await self._store.result(key) or dumps(await self._kept(head))
        except NotFound:
            raise errors.not_found(key.id) from None
        except StorageFailed as error:
            raise errors.storage_error(sent=True) from error
        return await reply.whole(200, [*JSON_HEADERS, *headers], body)

    async def _kept(self, head: Head) -> JsonObject:
        initial = Envelope(loads(head.envelope)).snapshot(head.status)
        return await self._snapshots.take(self._store, head.key, initial)

    async def _snapshot(self, run: Run) -> JsonObject:
        return await self._snapshots.take(run.store, run.key, run.envelope.snapshot(Status.IN_PROGRESS))

    async def _forget(self, run: Run) -> None:
        """Nothing of a private run stays behind, in memory either."""
        try:
            await run.store.delete(run.key)
        except NotFound:
            return


def _plan(body: JsonObject) -> Plan:
    store = body.get("store")
    row = rules.plan(
        store=True if store is None else store, background=bool(body.get("background")), stream=bool(body.get("stream"))
    )
    if isinstance(row, Refusal):
        raise row.error()
    return row
