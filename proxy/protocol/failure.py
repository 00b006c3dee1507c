"""Why a run failed, in the shape in which a client reads it, from any of the shapes in which agents say it."""

from dataclasses import dataclass

from respool.proxy.protocol.jsons import Json, JsonObject


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a run failed, in the words that the client reads: the `error` of a response."""

    code: str
    message: str

    def wire(self) -> JsonObject:
        """The `error` member of a response object."""
        return {"code": self.code, "message": self.message}


NO_REASON = Failure("server_error", "The agent failed without giving a reason.")
NO_END = Failure("server_error", "The agent ended its stream before its answer was complete.")


def failure_of(said: Json) -> Failure | None:
    """What an agent meant by an `error`, in any of the shapes that agents use; None for no error."""
    match said:
        case {"error": dict() | str() as inner}:
            return failure_of(inner)
        case str() if said:
            return Failure(NO_REASON.code, said)
        case dict() if said.get("code") or said.get("message"):
            return Failure(str(said.get("code") or NO_REASON.code), str(said.get("message") or NO_REASON.message))
        case _:
            return None
