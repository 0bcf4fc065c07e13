"""Real proxies in front of the service, as processes of this user."""

import os
import pwd
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.debian import need
from tests.support.processes import ROOT, TIMEOUT, Server

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
def _running(command: list[str | Path], port: int) -> Iterator[Proxy]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + TIMEOUT
        while not _listens(port):
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline, "the proxy does not listen"
            time.sleep(0.01)
        yield Proxy(port, process)
    finally:
        process.terminate()
        process.communicate(timeout=TIMEOUT)


def _listens(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0
