"""The reference backend: dictionaries and lists, gone with the process."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from respool.store.backend import Adopt, Append, Create, Delete, Expire, RequestCancel, Restore, Start, Withdraw, Write
from respool.store.base import CLAIM_SECONDS, Chunk, Claim, Claimed, Filter, Head, Key, Note, NotFound, Page, StoreError
from respool.store.standing import Change, Standing, appended, refusal, started


@dataclass(slots=True)
class _Response:
    """`head` is as it was created, with what came to be known of it; what changes at every write is in `standing`."""

    head: Head
    standing: Standing
    request: bytes
    claim: Claim | None = None
    call: bytes | None = None
    result: bytes | None = None
    chunks: list[Chunk] = field(default_factory=list)

    def read(self, after: int, max_bytes: int) -> Page:
        start = bisect_right(self.chunks, after, key=lambda chunk: chunk.last)
        beyond = (self.chunks[place] for place in range(start, len(self.chunks)))
        return Page.cut(beyond, after, max_bytes, self.standing.last_seq if self.standing.status.ended else None)

    @property
    def size(self) -> int:
        """The bytes of everything that can grow large."""
        return len(self.request) + len(self.result or b"") + sum(len(chunk.data) for chunk in self.chunks)

    def shown(self) -> Head:
        now = self.standing
        return replace(
            self.head,
            status=now.status,
            epoch=now.epoch,
            last_seq=now.last_seq,
            cancel_requested=now.cancel_requested,
        )


class MemoryBackend:
    """A Backend without storage."""

    def __init__(self) -> None:
        self._responses: dict[Key, _Response] = {}
        self._claims: dict[tuple[str, str], _Response] = {}
        self._runs = 0

    async def commit(self, writes: Sequence[Write]) -> Sequence[StoreError | None]:
        return self.commit_now(writes)

    def commit_now(self, writes: Sequence[Write]) -> Sequence[StoreError | None]:
        return [self._commit(write) for write in writes]

    async def read(self, key: Key, after: int, max_bytes: int) -> Page:
        return self._find(key).read(after, max_bytes)

    async def head(self, key: Key) -> Head:
        return self._find(key).shown()

    async def request(self, key: Key) -> bytes:
        return self._find(key).request

    async def result(self, key: Key) -> bytes | None:
        return self._find(key).result

    async def list(self, which: Filter) -> Sequence[Head]:
        before = self._place_of(which)
        newest_first = reversed(self._responses.values())
        found = [r.shown() for r in newest_first if r.standing.run < before and _matches(r, which)]
        return found[: which.limit]

    async def claimed(self, owner: str, text: str, now: int) -> Claimed:
        claimed = self._claimed(owner, text, now)
        if claimed is None:
            raise NotFound
        return claimed

    async def compact(self) -> bool:
        return False

    async def call(self, key: Key) -> bytes | None:
        return self._find(key).call

    async def ping(self) -> None:
        pass

    async def close(self) -> None:
        pass

    def _find(self, key: Key) -> _Response:
        if key not in self._responses:
            raise NotFound
        return self._responses[key]

    def _place_of(self, which: Filter) -> float:
        """The place in the order of creation that the list stays before.

        That of `which.older_than`, 0 if it is gone; else of `which.after`, of the oldest if several owners have it.
        """
        if which.older_than is not None:
            mark = self._responses.get(which.older_than)
            return mark.standing.run if mark else 0
        places = (
            response.standing.run
            for key, response in self._responses.items()
            if key.id == which.after and which.owner in (None, key.owner)
        )
        return min(places, default=float("inf"))

    def _commit(self, change: Write) -> StoreError | None:
        if isinstance(change, Adopt):
            self._adopt(change)
            return None
        if isinstance(change, Expire):
            self._expire(change)
            return None
        if isinstance(change, Restore):
            return next(filter(None, map(self._commit, change.writes())), None)
        response = self._responses.get(change.key)
        claimed = None
        if isinstance(change, Create) and change.claim:
            claimed = self._claimed(change.key.owner, change.claim.text, change.head.created_at)
        error = claimed or refusal(response.standing if response else None, change)
        if error is None:
            self._do(response, change)
        return error

    def _do(self, response: _Response | None, change: Change) -> None:
        match change:
            case Create():
                self._create(change)
            case Withdraw(key=key) | Delete(key=key):
                self._forget(self._responses.pop(key))
            case Start() if response:
                response.standing, response.call = started(response.standing), None
            case RequestCancel() if response:
                response.standing = replace(response.standing, cancel_requested=True)
            case Append() if response:
                _append(response, change)

    def _create(self, create: Create) -> None:
        head = create.head
        self._runs += 1
        standing = Standing(self._runs, head.status, head.epoch, -1, False)
        response = self._responses[head.key] = _Response(head, standing, create.request, create.claim, create.call)
        if create.claim is not None:
            self._claims[head.key.owner, create.claim.text] = response

    def _forget(self, response: _Response) -> None:
        if response.claim is not None:
            place = response.head.key.owner, response.claim.text
            if self._claims.get(place) is response:
                del self._claims[place]

    def _claimed(self, owner: str, text: str, now: int) -> Claimed | None:
        """Whose an idempotency key is; None for one that is free."""
        holder = self._claims.get((owner, text))
        if holder is None or holder.claim is None or holder.head.created_at <= now - CLAIM_SECONDS:
            return None
        return Claimed(holder.head.key, holder.claim.digest)

    def _adopt(self, adopt: Adopt) -> None:
        orphans = [response for response in self._responses.values() if not response.standing.status.ended]
        for orphan in orphans:
            orphan.standing = replace(orphan.standing, epoch=orphan.standing.epoch + 1)
        adopt.heads[:] = [orphan.shown() for orphan in orphans]

    def _expire(self, sweep: Expire) -> None:
        ended = [response for response in self._responses.values() if response.head.ended_at_ms is not None]
        size = sum(response.size for response in self._responses.values()) if sweep.max_bytes else 0
        for response in sorted(ended, key=lambda response: response.head.ended_at_ms or 0):
            key = response.head.key
            if (response.head.ended_at_ms or 0) >= sweep.before_ms and size <= sweep.max_bytes:
                return
            if key in sweep.spared:
                sweep.passed.append(key)
                continue
            sweep.gone.append(key)
            size -= response.size
            self._forget(self._responses.pop(key))


def _append(response: _Response, change: Append) -> None:
    response.standing = appended(response.standing, change)
    if change.chunk:
        response.chunks.append(change.chunk)
    if change.note:
        response.head = _noted(response.head, change.note)
    if end := change.end:
        response.call = None
        response.result = bytes(end.result)
        response.head = replace(response.head, ended_at_ms=end.at_ms)


def _noted(head: Head, note: Note) -> Head:
    return replace(
        head,
        agent_id=head.agent_id if note.agent_id is None else note.agent_id,
        session=head.session if note.session is None else note.session,
    )


def _matches(response: _Response, which: Filter) -> bool:
    if which.visible and not (response.head.background or response.standing.status.ended):
        return False
    head, body = response.head, response.request.lower()
    wanted = (which.owner, which.conversation, which.status)
    found = (head.key.owner, head.conversation, response.standing.status)
    return (
        all(want in (None, have) for want, have in zip(wanted, found, strict=True))
        and head.key.id.startswith(which.prefix or "")
        and (which.since is None or head.created_at >= which.since)
        and (which.until is None or head.created_at <= which.until)
        and (not which.texts or any(text.lower() in body for text in which.texts))
    )
