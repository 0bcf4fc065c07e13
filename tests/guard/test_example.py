"""The applications that docs/guard.md shows, under uvicorn, beside the service and a real Redis that both share."""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.guard.parts import SESSION, USER, bearer, expired, of_session
from tests.support.lines import EventFile
from tests.support.processes import ROOT, TIMEOUT, environment, free_port, running, serve, until_status
from tests.support.redis_server import redis_server

PAGE = (ROOT / "docs" / "guard.md").read_text("utf-8")
EXAMPLES = dict(
    zip(
        ["starlette", "fastapi", "backend"],
        re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL),
        strict=True,
    )
)
UVICORN = [sys.executable, "-m", "uvicorn", "shop:app"]


@contextmanager
def run(directory: Path, example: str, variables: dict[str, str]) -> Iterator[httpx.Client]:
    """Write an application into a file, start ``uvicorn shop:app``, and give a client of it."""
    (directory / "shop.py").write_text(example, encoding="utf-8")
    port = free_port()
    command = [*UVICORN, "--app-dir", str(directory), "--port", str(port)]
    with (
        running(command, port, **environment(**variables), PYTHONPATH=str(ROOT)),
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=TIMEOUT) as client,
    ):
        yield client


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_sign_out_at_the_service_is_refused_by_the_application(name: str, tmp_path: Path) -> None:
    sent = bearer(of_session())
    used = EventFile(tmp_path / "shop.jsonl")
    with redis_server() as redis:
        shared = {"REVOCATIONS_URL": redis.url, "EVENT_SPOOL_DIR": str(tmp_path / "spool")}
        with (
            serve(settings=shared) as service,
            run(tmp_path, EXAMPLES[name], shared | {"EVENT_LOG": str(used.path)}) as shop,
        ):
            admitted = until_status(200, lambda: shop.get("/orders", headers=sent))
            anonymous = shop.get("/orders")
            refused = [shop.get("/orders", headers=bearer(sent)) for sent in ("garbage", expired())]
            httpx.delete(f"{service.url}/v1/auth/session", headers=sent)
            signed_out = until_status(401, lambda: shop.get("/orders", headers=sent))
            while not used.path.exists() or not used.path.stat().st_size:
                until_status(401, lambda: shop.get("/orders", headers=sent))
            again = until_status(401, lambda: shop.get("/orders", headers=sent))
    assert admitted.json() == {"user": USER, "orders": []}
    assert anonymous.status_code == 401
    assert [(answer.status_code, answer.json()["reason"]) for answer in refused] == [
        (401, "token-invalid"),
        (401, "token-expired"),
    ]
    assert signed_out.json()["reason"] == again.json()["reason"] == "session-revoked"
    event = used.one()
    assert (event["event"], event["session_id"]) == ("session_used_after_logout", SESSION)


def test_without_its_settings_an_example_ends_with_one_line(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(EXAMPLES["starlette"], encoding="utf-8")
    variables = environment(CLERK_JWT_KEY="", PYTHONPATH=str(ROOT))
    done = subprocess.run(
        UVICORN, cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=TIMEOUT, check=False
    )
    assert done.returncode == 3
    assert done.stderr.count("CLERK_JWT_KEY") == 1
    assert "clerk-logout: CLERK_JWT_KEY: set this or CLERK_SECRET_KEY" in done.stderr
    assert "Traceback" not in done.stderr
