"""How this process and the brokers trust each other.

Owns what a client needs to encrypt and to say who it is, so that every client of the process says
the same. Promises that secrets are in no text made of it. Where they come from is the caller's
part.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Protocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
Mechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]


@dataclass(frozen=True)
class Security:
    """By default there is none."""

    protocol: Protocol = "PLAINTEXT"
    mechanism: Mechanism = "PLAIN"
    """With SASL."""
    username: str = ""
    password: str = field(default="", repr=False)
    ca_file: Path | None = None
    """PEM; whom to believe that a broker is one. None: whom the system believes."""
    certificate_file: Path | None = None
    """PEM; shown to brokers that ask for one (mutual TLS), with the chain that signed it."""
    key_file: Path | None = None
    """PEM; None: in `certificate_file` too."""
    key_password: str = field(default="", repr=False)

    @property
    def encrypted(self) -> bool:
        """Whether it is TLS."""
        return self.protocol in ("SSL", "SASL_SSL")

    @property
    def authenticated(self) -> bool:
        """Whether there is a user name."""
        return self.protocol in ("SASL_PLAINTEXT", "SASL_SSL")

    def context(self) -> ssl.SSLContext | None:
        """The certificates as they are now; None without TLS.

        Raises:
            OSError: a file cannot be read, or has no such thing in it (ssl.SSLError).
        """
        if not self.encrypted:
            return None
        context = ssl.create_default_context(cafile=self.ca_file)
        if self.certificate_file is not None:
            context.load_cert_chain(self.certificate_file, self.key_file, self.key_password)
        return context

    def client_options(self) -> dict[str, Any]:
        """For a client of aiokafka."""
        options: dict[str, Any] = {
            "security_protocol": self.protocol,
            "ssl_context": self.context(),
        }
        if self.authenticated:
            options |= {
                "sasl_mechanism": self.mechanism,
                "sasl_plain_username": self.username,
                "sasl_plain_password": self.password,
            }
        return options
