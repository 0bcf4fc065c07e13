"""Real proxies in front of the service, as processes of this user."""

import os
import pwd
import re
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.debian import need
from tests.support.processes import ROOT, TIMEOUT, Server, wait_until

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

    def __init__(self, port: int, process: "subprocess.Popen[bytes]") -> None:
        self.address = ("127.0.0.1", port)
        self.url = f"http://127.0.0.1:{port}"
        self.process = process


@contextmanager
def nginx(directory: Path, *replicas: Server) -> Iterator[Proxy]:
    """nginx with the configuration that is shipped; only ports and paths are others."""
    program = need("nginx", "nginx")
    port = _free_port()
    site = (NGINX / "clerk-logout.conf").read_text("utf-8")
    upstream = "".join("    server {}:{} max_fails=0;\n".format(*replica.address) for replica in replicas)
    site = _replace(r"    server 127.0.0.1:8000 max_fails=0;\n    server 127.0.0.1:8001 max_fails=0;\n", upstream, site)
    site = _replace(r"listen 80;\n    listen \[::\]:80;", f"listen 127.0.0.1:{port};", site)
    main = (NGINX / "nginx.conf").read_text("utf-8")
    main = _replace(r"/run/nginx.pid", f"{directory}/nginx.pid", main)
    main = re.sub(r"/var/lib/nginx/", f"{directory}/", main)
    (directory / "clerk-logout.conf").write_text(site, "utf-8")
    (directory / "nginx.conf").write_text(main, "utf-8")
    user = pwd.getpwuid(os.getuid()).pw_name
    command: list[str | Path] = [
        program,
        "-p",
        directory,
        "-c",
        directory / "nginx.conf",
        "-g",
        f"daemon off; user {user};",
    ]
    with _running(command, port) as proxy:
        yield proxy


@contextmanager
def caddy(directory: Path, *replicas: Server) -> Iterator[Proxy]:
    """Caddy with the configuration that is shipped; only ports are others, and there is no TLS."""
    program = need("caddy", "caddy")
    port = _free_port()
    site = (ROOT / "deploy" / "caddy" / "Caddyfile").read_text("utf-8")
    site = _replace("127.0.0.1:8000 127.0.0.1:8001", " ".join("{}:{}".format(*one.address) for one in replicas), site)
    site = _replace(r"\nlogout\.example\.com {", f"\nhttp://127.0.0.1:{port} {{", site)
    (directory / "Caddyfile").write_text(_replace(r"\A((?:#.*\n)*\n{\n)", r"\1\tadmin off\n", site), "utf-8")
    command: list[str | Path] = [program, "run", "--adapter", "caddyfile", "--config", directory / "Caddyfile"]
    with _running(command, port, HOME=str(directory)) as proxy:
        yield proxy


@contextmanager
def haproxy(directory: Path, server: Server) -> Iterator[Proxy]:
    """HAProxy, which passes trailers on."""
    program = need("haproxy", "haproxy")
    port = _free_port()
    host, target = server.address
    (directory / "haproxy.cfg").write_text(_HAPROXY.format(port=port, host=host, target=target), "utf-8")
    with _running([program, "-db", "-f", directory / "haproxy.cfg"], port) as proxy:
        yield proxy


def _replace(pattern: str, text: str, configuration: str) -> str:
    changed, count = re.subn(pattern, text, configuration)
    assert count == 1, f"{pattern!r} stands {count} times in the configuration"
    return changed


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def _running(command: list[str | Path], port: int, **variables: str) -> Iterator[Proxy]:
    with tempfile.TemporaryFile() as errors:  # a pipe would fill, and hold the proxy up
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors, env=os.environ | variables)
        try:
            wait_until(lambda: _listens(port) or process.poll() is not None, "the proxy listens")
            errors.seek(0)
            assert process.poll() is None, errors.read()
            yield Proxy(port, process)
        finally:
            process.terminate()
            process.wait(TIMEOUT)


def _listens(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0
