"""The stand-in as an ASGI application, with the page that it serves."""

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from service.sandbox import backend_api, frontend_api
from service.sandbox.frontend_api import CORS
from service.sandbox.instance import Instance
from service.sandbox.webhooks import Deliver, Webhooks

# The page talks to the sandbox and the service, and to nobody else.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; "
    "connect-src 'self' {service_url}; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)


def create_sandbox(
    instance: Instance,
    *,
    service_url: str = "",
    events: Sequence[str] = (),
    hosts: Sequence[str] = ("*",),
    deliver: Deliver | None = None,
    packages: Path | None = None,
) -> Starlette:
    """Build the stand-in.

    Args:
        instance: its state.
        service_url: where the page finds the service.
        events: the event lines so far, for the page to show.
        hosts: the Host headers that are answered, so that no other site's page gets a token by DNS rebinding.
        deliver: sends a webhook to the service; None sends it to nobody.
        packages: a directory with npm's ``@clerk/clerk-js`` and ``@clerk/ui``, unpacked as ``clerk-js`` and ``ui``.
    """
    page = files(__package__).joinpath("page.html").read_text("utf-8").replace("{{service_url}}", service_url)
    headers = {"Content-Security-Policy": CONTENT_SECURITY_POLICY.format(service_url=service_url)}

    async def index(_: Request) -> Response:
        return HTMLResponse(page, headers=headers)

    async def new_events(request: Request) -> Response:
        after = int(backend_api.parameters(request, after="[0-9]{1,15}").get("after", 0))
        if after > len(events):
            after = 0  # the page has seen an earlier sandbox
        new = list(events[after:])
        return JSONResponse({"lines": new, "next": after + len(new)})

    scripts = [
        Mount(f"/npm/@clerk/{dist.parent.name}@{{version}}/dist", StaticFiles(directory=dist), middleware=CORS)
        for dist in (packages.glob("*/dist") if packages else ())
    ]
    own = [Route("/", index), Route("/sandbox/events", new_events)]
    app = Starlette(
        routes=[*own, *scripts, *backend_api.ROUTES, *frontend_api.ROUTES],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False)],
        exception_handlers={HTTPException: backend_api.error_response},
    )
    app.state.instance, app.state.webhooks = instance, Webhooks(instance, deliver)
    return app
