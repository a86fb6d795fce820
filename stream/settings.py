"""Where Kafka is and how it lets us in: the one setting that every part of this package needs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .security import Security


@dataclass(frozen=True)
class Kafka:
    """A cluster, and the prefix that sets this installation's topics apart on it."""

    bootstrap: str
    """`host:port` of one or more brokers, separated by commas."""
    prefix: str = ""
    """Goes in front of every topic's name."""
    client_id: str = "headwater"
    """What the brokers' logs and quotas call this client."""

    security: Security = field(default_factory=Security)
    """What it takes to be let in."""

    def client_options(self) -> dict[str, Any]:
        """What every client of aiokafka is made with to reach the cluster."""
        return {
            "bootstrap_servers": self.bootstrap,
            "client_id": self.client_id,
            **self.security.client_options(),
        }

    def topic(self, name: str) -> str:
        """The full name on the cluster of the topic called `name` here."""
        return self.prefix + name

    def name(self, topic: str) -> str:
        """The inverse of `topic`: the name without this installation's prefix."""
        return topic.removeprefix(self.prefix)
