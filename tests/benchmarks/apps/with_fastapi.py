"""FastAPI, Clerk's SDK and structlog."""

from fastapi import FastAPI, Request

from tests.benchmarks.apps.sdk import log_out

app = FastAPI()


@app.delete("/v1/auth/session")
async def end_session(request: Request) -> dict[str, str | bool]:
    """Answer 200."""
    return log_out(request)
