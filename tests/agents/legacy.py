"""How the test agents on the 1.0.0b16 SDKs are served, which their own run() would do on 0.0.0.0."""

import os
from typing import Any

import uvicorn

from tests.agents.control import end_with_parent


def serve(agent: Any) -> None:
    end_with_parent()
    agent.init_tracing()
    uvicorn.run(agent.app, host="127.0.0.1", port=int(os.environ["DEFAULT_AD_PORT"]))
