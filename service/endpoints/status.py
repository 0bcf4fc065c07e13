"""``GET /healthz``, ``GET /readyz`` and ``GET /metrics``. They ask nobody, wait for nothing and write no event."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response


async def healthz(_: Request) -> Response:
    """Answer that the process is alive."""
    return JSONResponse({"status": "ok"})


async def readyz(request: Request) -> Response:
    """Answer of each part ``ok`` or what is wrong with it: 200 when logouts can be verified and recorded, else 503.

    The revocation list changes no status: what is down for all replicas would take all of them out at once, and with
    them the logouts that work without it.
    """
    resources = request.scope["state"]["resources"]
    ready, parts = resources.is_ready, {name: problem or "ok" for name, problem in resources.problems().items()}
    return JSONResponse({"status": "ready" if ready else "not ready", **parts}, 200 if ready else 503)


async def metrics(request: Request) -> Response:
    """Answer as Prometheus text or OpenMetrics, by what the caller accepts, at most a second old."""
    text, content_type = request.scope["state"]["resources"].metrics.text(request.headers.get("accept", ""))
    return Response(text, headers={"Content-Type": content_type})
