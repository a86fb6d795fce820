"""TLS, SASL and mutual TLS against a real broker that asks for them, by every client there is."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from daemon.client import WorkerClient
from daemon.process import WorkerProcess
from stream.broker import Broker
from stream.cluster import look
from stream.ends import EndsReader
from stream.errors import BrokerUnavailable
from stream.publish import Publisher
from stream.reader import TopicReader
from stream.requests import RequestAgent, RequestMessage
from stream.security import Security
from stream.settings import Kafka
from stream.topics import SCORE_REQUESTS, TopicSpec, check, create_missing

WriteConfig = Callable[..., Path]

DEADLINE_S = 30.0
USER, PASSWORD = "head", "s3cret-Wasser"

# Three more ways in beside the open one, which the broker uses to talk to itself.
PROPERTIES = """
listeners=PLAINTEXT://127.0.0.1:${port},CONTROLLER://127.0.0.1:${controller_port},\
SASL_SSL://127.0.0.1:SASL_PORT,SSL://127.0.0.1:SSL_PORT
advertised.listeners=PLAINTEXT://127.0.0.1:${port},CONTROLLER://127.0.0.1:${controller_port},\
SASL_SSL://127.0.0.1:SASL_PORT,SSL://127.0.0.1:SSL_PORT
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL,SSL:SSL
ssl.keystore.type=PEM
ssl.keystore.location=FOLDER/broker.pem
ssl.truststore.type=PEM
ssl.truststore.location=FOLDER/ca.pem
listener.name.ssl.ssl.client.auth=required
listener.name.sasl_ssl.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
listener.name.sasl_ssl.plain.sasl.jaas.config=\
org.apache.kafka.common.security.plain.PlainLoginModule required user_USER="PASSWORD";
listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config=\
org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=\
org.apache.kafka.common.security.scram.ScramLoginModule required;
"""


@dataclass(frozen=True)
class Secured:
    """A broker's two guarded doors, and what opens them."""

    sasl: str
    """`host:port` for a name and a password."""
    mutual: str
    """`host:port` for a certificate."""
    folder: Path

    def kafka(self, way: str, prefix: str) -> Kafka:
        """As a client that comes in by SSL or by a mechanism of SASL."""
        ca = self.folder / "ca.pem"
        if way == "SSL":
            client = Security("SSL", ca_file=ca, certificate_file=self.folder / "client.pem")
            return Kafka(self.mutual, prefix, security=client)
        by_name = Security("SASL_SSL", way, USER, PASSWORD, ca)  # type: ignore[arg-type]
        return Kafka(self.sasl, prefix, security=by_name)


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory, kafka_jars: Path) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("secured")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    for name, identity in (("broker", "127.0.0.1"), ("client", "headwater")):
        write_identity(authority.issue_cert(identity), folder / f"{name}.pem")
    sasl_port, ssl_port = free_ports(2)
    words = {
        "SASL_PORT": sasl_port,
        "SSL_PORT": ssl_port,
        "FOLDER": folder,
        "USER": USER,
        "PASSWORD": PASSWORD,
    }
    properties = PROPERTIES
    for word, value in words.items():
        properties = properties.replace(word, str(value))
    broker = Broker(
        folder / "kafka", kafka_jars, more_properties=properties, users={USER: PASSWORD}
    )
    try:
        broker.start()
        yield Secured(f"127.0.0.1:{sasl_port}", f"127.0.0.1:{ssl_port}", folder)
    finally:
        broker.stop()


def write_identity(identity: trustme.LeafCert, path: Path) -> None:
    """Key and certificate in one file; Kafka takes keys in PKCS 8 only."""
    key = load_pem_private_key(identity.private_key_pem.bytes(), None)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(pem + b"".join(blob.bytes() for blob in identity.cert_chain_pems))


def free_ports(count: int) -> list[int]:
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


@pytest.mark.parametrize("way", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "SSL"])
async def test_every_client_gets_in(
    secured: Secured, tmp_path: Path, prefix: str, way: str
) -> None:
    kafka = secured.kafka(way, prefix)
    topic = kafka.topic(SCORE_REQUESTS)
    specs = [TopicSpec(topic, 1, {})]
    handled: list[bytes | None] = []

    async def handler(message: RequestMessage) -> None:
        handled.append(message.value)

    await create_missing(kafka, specs)
    assert await check(kafka, specs) == []
    agent = RequestAgent(kafka, "headwater", "w1", tmp_path, handler)
    async with Publisher(kafka) as publisher, TopicReader(kafka, [topic]) as reader:
        await agent.start()
        await publisher.send_all([(topic, b"1", b"in", ())])
        deadline = time.monotonic() + DEADLINE_S
        read: list[bytes | None] = []
        while not (read and handled):
            assert time.monotonic() < deadline, (read, handled)
            read += [record.value for record in await reader.read(100)]
    await agent.stop()
    assert (read, handled) == ([b"in"], [b"in"])
    assert (await look(kafka, [SCORE_REQUESTS])).topics[SCORE_REQUESTS].partitions == 1
    async with EndsReader(kafka) as ends:
        assert await ends.ends({SCORE_REQUESTS: [0]}, 10) == {SCORE_REQUESTS: {0: 1}}


@pytest.mark.parametrize("wrong", ["password", "authority", "no certificate", "no TLS"])
async def test_who_may_not_come_in_is_told_so_without_the_secret(
    secured: Secured, prefix: str, wrong: str
) -> None:
    by_name, by_certificate = (secured.kafka(way, prefix) for way in ("SCRAM-SHA-256", "SSL"))
    security = {
        "password": replace(by_name.security, password="wr0ng-Wein"),
        "authority": replace(by_name.security, ca_file=None),
        "no certificate": replace(by_certificate.security, certificate_file=None),
        "no TLS": Security(),
    }[wrong]
    kafka = by_certificate if wrong == "no certificate" else by_name
    with pytest.raises(BrokerUnavailable, match=kafka.bootstrap) as refused:
        await look(replace(kafka, security=security), [SCORE_REQUESTS], 5.0)
    assert "wr0ng" not in repr(refused.value) + repr(security)


async def test_a_worker_with_its_password_in_a_file_serves_and_never_shows_it(
    secured: Secured, tmp_path: Path, prefix: str, write_config: WriteConfig
) -> None:
    kafka = secured.kafka("SCRAM-SHA-512", prefix)
    secret = tmp_path / "password"
    secret.write_text(PASSWORD + "\n")
    more = f"""
        [kafka]
        security = "SASL_SSL"
        mechanism = "SCRAM-SHA-512"
        username = "{USER}"
        password_file = "{secret}"
        ca_file = "{secured.folder / "ca.pem"}"
        [worker]
        log_level = "debug"
        [impressions]
        share = 1.0
    """
    log = tmp_path / "worker.log"
    worker = WorkerProcess(write_config(tmp_path, kafka, more), log)
    try:
        async with WorkerClient(await worker.start()) as client:
            await worker.wait_ready(client)
            deadline = time.monotonic() + DEADLINE_S
            while '"worker_ready"' not in log.read_text():
                assert time.monotonic() < deadline
                await asyncio.sleep(0.02)
            pages = "/v1/status", "/metrics", "/readyz?verbose"
            shown = [await client.text(page) for page in pages]
            answer = await client.post("/v1/score", {"request_id": "r", "user_id": "1"})
            assert answer["error"] is None
            shown.append(os.fsdecode(Path(f"/proc/{worker.pid}/cmdline").read_bytes()))
            assert await worker.stop() == 0
    finally:
        await worker.stop()
    shown.append(log.read_text())
    assert not [text for text in shown if PASSWORD in text]
