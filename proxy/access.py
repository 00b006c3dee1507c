"""Who may use respool's own routes at all: a key of the operator's, the word of an auth service, or both.

What passes through is not asked for: the agent guards that itself. Source: CONTRACT section 6.
"""

import asyncio
from collections.abc import Iterable
from contextlib import suppress

from respool.proxy import delivery
from respool.proxy.auth_probe import AuthProbe, Refusal
from respool.proxy.keys import Keys, UnusableKeys
from respool.proxy.protocol import errors
from respool.proxy.reply import Header, Receive, Reply
from respool.proxy.settings import Settings

_BODY_SECONDS = 10.0


class Access:
    """Asked before anything else of a request of ours. Raises UnusableKeys if the file of keys is of no use."""

    def __init__(self, settings: Settings) -> None:
        self._keys = Keys(settings.api_key_file) if settings.api_key_file is not None else None
        self._probe = (
            AuthProbe(settings.auth_probe, settings.connect_timeout_seconds)
            if settings.auth_probe is not None
            else None
        )

    async def refusal(self, headers: Iterable[Header], *, is_admin: bool) -> Refusal | None:
        """None for a caller who may pass. The probe knows users, so it is not asked about the administrator."""
        headers = tuple(headers)
        if self._keys is not None:
            try:
                if not self._keys.admit(headers):
                    return errors.unauthorized()
            except UnusableKeys:
                return errors.access_unknown()
        if self._probe is not None and not is_admin:
            return await self._probe.refusal(headers)
        return None

    async def close(self) -> None:
        """Let go of the auth service."""
        if self._probe is not None:
            await self._probe.close()


async def turn_away(refusal: Refusal, receive: Receive, reply: Reply, request_id: str) -> None:
    """Tell a caller why not; the body is taken and dropped first, or the client may never read the answer."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_BODY_SECONDS):
            while (await receive()).get("more_body", False):
                pass
    await delivery.refuse(reply, refusal, request_id)
