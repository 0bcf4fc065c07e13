"""Real proxies in front of the service, as processes of this user."""

import os
import pwd
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.support.debian import need
from tests.support.processes import ROOT, Server, free_port, running

NGINX = ROOT / "deploy" / "nginx"

_HAPROXY = """
defaults
    mode http
    timeout connect 5s
    timeout client 30s
    timeout server 30s
frontend public
    bind 127.0.0.1:{port}
    option forwardfor
    default_backend service
backend service
    server one {host}:{target}
"""


class Proxy:
    """A proxy that listens."""

    def __init__(self, port: int) -> None:
        self.address = ("127.0.0.1", port)
        self.url = f"http://127.0.0.1:{port}"


@contextmanager
def nginx(directory: Path, *replicas: Server) -> Iterator[Proxy]:
    """nginx with the configuration that is shipped; only ports and paths are others."""
    port = free_port()
    site = {
        r"    server 127.0.0.1:8000 max_fails=0;\n    server 127.0.0.1:8001 max_fails=0;\n": "".join(
            "    server {}:{} max_fails=0;\n".format(*replica.address) for replica in replicas
        ),
        r"listen 80;\n    listen \[::\]:80;": f"listen 127.0.0.1:{port};",
    }
    _write(directory, NGINX / "clerk-logout.conf", site)
    main = {r"/run/nginx.pid": f"{directory}/nginx.pid", r"/var/lib/nginx/": f"{directory}/"}
    configuration = _write(directory, NGINX / "nginx.conf", main)
    own = f"daemon off; user {pwd.getpwuid(os.getuid()).pw_name};"
    with running([need("nginx", "nginx"), "-p", directory, "-c", configuration, "-g", own], port):
        yield Proxy(port)


@contextmanager
def caddy(directory: Path, *replicas: Server) -> Iterator[Proxy]:
    """Caddy with the configuration that is shipped; only ports are others, and there is no TLS."""
    port = free_port()
    changes = {
        "127.0.0.1:8000 127.0.0.1:8001": " ".join("{}:{}".format(*replica.address) for replica in replicas),
        r"\nlogout\.example\.com {": f"\nhttp://127.0.0.1:{port} {{",
        r"\A((?:#.*\n)*\n{\n)": r"\1\tadmin off\n",
    }
    configuration = _write(directory, ROOT / "deploy" / "caddy" / "Caddyfile", changes)
    command: list[str | Path] = [need("caddy", "caddy"), "run", "--adapter", "caddyfile", "--config", configuration]
    with running(command, port, HOME=str(directory)):
        yield Proxy(port)


@contextmanager
def haproxy(directory: Path, server: Server) -> Iterator[Proxy]:
    """HAProxy, which passes trailers on."""
    port, configuration = free_port(), directory / "haproxy.cfg"
    host, target = server.address
    configuration.write_text(_HAPROXY.format(port=port, host=host, target=target), "utf-8")
    with running([need("haproxy", "haproxy"), "-db", "-f", configuration], port):
        yield Proxy(port)


def _write(directory: Path, shipped: Path, changes: Mapping[str, str]) -> Path:
    """Write a configuration as it is shipped but for these changes, each of which must find its place."""
    text = shipped.read_text("utf-8")
    for pattern, other in changes.items():
        text, count = re.subn(pattern, other, text)
        assert count, f"{pattern!r} is not in {shipped.name}"
    written = directory / shipped.name
    written.write_text(text, "utf-8")
    return written
