"""``GET /metrics``: what the service counts, as Prometheus text or OpenMetrics. Asks nobody and writes no event."""

from prometheus_client.exposition import choose_encoder
from starlette.requests import Request
from starlette.responses import Response

from service.endpoints.state import State


async def metrics(request: Request[State]) -> Response:
    """Answer in the format that the caller accepts; of several workers the numbers of all."""
    try:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
    except TypeError:  # a version that is no number
        encode, content_type = choose_encoder("")
    return Response(encode(request.state["metrics"].exposed), headers={"Content-Type": content_type})
