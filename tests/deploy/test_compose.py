"""``deploy/compose``: its own settings and commands, with processes in place of containers."""

import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml  # type: ignore[import-untyped]

from service.settings import Settings
from tests.support.debian import need
from tests.support.lines import EventFile
from tests.support.processes import ROOT, TIMEOUT, ask_session, free_port, serve, wait_until
from tests.support.prometheus import promtool
from tests.support.proxies import nginx
from tests.support.signing import ORIGIN, pem, token

DIRECTORY = ROOT / "deploy" / "compose"
COMPOSE = yaml.safe_load((DIRECTORY / "compose.yaml").read_text("utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
REPLICAS = [name for name in SERVICES if name.startswith("clerk-logout-")]


@contextmanager
def redis(password: Path) -> Iterator[int]:
    """Redis, started by the command that compose runs."""
    need("redis-server", "redis-server")
    port = free_port()
    *shell, command = SERVICES["redis"]["command"]
    command = command.replace("$$", "$").replace("/run/secrets/redis_password", str(password))
    command = command.replace("requirepass", f"port {port}\nbind 127.0.0.1\nrequirepass")
    process = subprocess.Popen([*shell, command], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert any(b"Ready to accept connections" in line for line in process.stdout)
        assert str(password.read_text("utf-8")) not in Path(f"/proc/{process.pid}/cmdline").read_text("utf-8")
        yield port
    finally:
        process.terminate()
        process.communicate(timeout=TIMEOUT)


def test_one_replicas_sign_out_is_refused_at_the_other(tmp_path: Path) -> None:
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "redis_password").write_text("a-password", "utf-8")
    with ExitStack() as stack:
        port = stack.enter_context(redis(secrets / "redis_password"))
        (secrets / "revocations_url").write_text(f"redis://:a-password@127.0.0.1:{port}/0\n", "utf-8")
        (secrets / "clerk_secret_key").write_text("sk_test_compose\n", "utf-8")
        replicas = []
        for name in REPLICAS:
            own = {name: str(value) for name, value in SERVICES[name]["environment"].items()}
            assert own["CLERK_AUTHORIZED_PARTIES"].startswith("${CLERK_AUTHORIZED_PARTIES:?")
            own["CLERK_AUTHORIZED_PARTIES"] = ORIGIN
            own["EVENT_LOG"] = str(tmp_path / Path(own["EVENT_LOG"]).name)
            own["FORWARDED_ALLOW_IPS"] = "127.0.0.1"
            own["SECRETS_DIR"] = own["SECRETS_DIR"].replace("/run/secrets", str(secrets))
            replicas.append(stack.enter_context(serve(settings=own | {"CLERK_JWT_KEY": pem()})))
        assert len(replicas) == 2
        proxy = stack.enter_context(nginx(tmp_path, *replicas))
        one, other = replicas
        sent = token()
        assert ask_session(proxy.url, sent).status_code == 200
        headers = {"Authorization": f"Bearer {sent}"}
        called = httpx.delete(f"{one.url}/v1/auth/session", headers=headers, timeout=TIMEOUT).json()
        # At once, unless Redis missed its 100 ms on a busy machine, and was told by the next look.
        wait_until(lambda: ask_session(other.url, sent).status_code == 401, "the refusal at the other")
        assert ask_session(other.url, sent).json()["reason"] == "session-revoked"
        assert {ask_session(proxy.url, sent).status_code for _ in range(4)} == {401}
        (event,) = EventFile(tmp_path / "events-1.jsonl").awaited()
        assert (event["event_id"], event["auth"]) == (called["event_id"], "verified")


def test_each_replica_has_a_spool_and_an_event_file_of_its_own() -> None:
    mounts = [volume for name in REPLICAS for volume in SERVICES[name]["volumes"] if "/var/spool/" in volume]
    files = [SERVICES[name]["environment"]["EVENT_LOG"] for name in REPLICAS]
    assert len(set(mounts)) == len(set(files)) == 2


def test_the_proxy_is_believed_and_knows_both_replicas() -> None:
    addresses = {
        name: service["networks"]["internal"]["ipv4_address"]
        for name, service in SERVICES.items()
        if isinstance(service.get("networks"), dict)
    }
    command = SERVICES["nginx"]["command"][-1]
    site = (ROOT / "deploy" / "nginx" / "clerk-logout.conf").read_text("utf-8")
    for replica in REPLICAS:
        assert SERVICES[replica]["environment"]["FORWARDED_ALLOW_IPS"] == addresses["nginx"]
        (replaced,) = re.findall(rf"s/([0-9.:]+)/{addresses[replica]}:8000/", command)
        assert f"server {replaced} " in site


def test_secrets_are_files_that_the_service_reads() -> None:
    for replica in REPLICAS:
        assert set(SERVICES[replica]["secrets"]) <= set(Settings.model_fields)
    assert {name: secret["file"] for name, secret in COMPOSE["secrets"].items()} == {
        name: f"secrets/{name}" for name in COMPOSE["secrets"]
    }


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_watched_and_its_files_exist(name: str) -> None:
    service = SERVICES[name]
    assert "healthcheck" in service or name in REPLICAS  # the image's own
    for volume in service.get("volumes", ()):
        source = volume.partition(":")[0]
        assert (DIRECTORY / source).exists() if source.startswith(".") else source in COMPOSE["volumes"]


def test_prometheus_accepts_its_configuration(tmp_path: Path) -> None:
    for source in (DIRECTORY / "prometheus.yml", ROOT / "deploy" / "alerts.yml"):
        (tmp_path / source.name).symlink_to(source)
    done = promtool("check", "config", tmp_path / "prometheus.yml")
    assert done.returncode == 0, done.stderr
