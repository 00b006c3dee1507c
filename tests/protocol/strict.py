"""A stream as the helper of the OpenAI client reads it, which refuses what does not hang together."""

import warnings
from collections.abc import Iterable

from openai import Omit
from openai._models import construct_type_unchecked
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import ResponseStreamEvent

from respool.proxy.protocol.jsons import JsonObject


def read_strictly(events: Iterable[JsonObject]) -> None:
    """Raises at the first event that does not fit those before it."""
    state = ResponseStreamState[None](text_format=Omit(), input_tools=Omit())
    with warnings.catch_warnings():
        # The client's models warn of types that are newer than they are.
        warnings.simplefilter("ignore", UserWarning)
        for event in events:
            state.handle_event(construct_type_unchecked(type_=ResponseStreamEvent, value=event))  # type: ignore[arg-type]
