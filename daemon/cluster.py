"""The cluster that the settings name, with the secrets that they lead to.

Owns reading the files of secrets. Promises that what is missing or contradicts itself is told by
the name of its setting, never with the secret.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import SecretStr

from stream.security import Security
from stream.settings import Kafka

from .settings import ConfigurationError, KafkaSection


def kafka(settings: KafkaSection, client_id: str = "headwater") -> Kafka:
    """What `stream` needs of the settings.

    Raises:
        ConfigurationError: a setting is missing beside another, or a file cannot be used.
    """
    return Kafka(settings.bootstrap, settings.prefix, client_id, _security(settings))


def _security(settings: KafkaSection) -> Security:
    security = Security(
        protocol=settings.security,
        mechanism=settings.mechanism,
        username=settings.username,
        password=_secret("password", settings.password, settings.password_file),
        ca_file=settings.ca_file,
        certificate_file=settings.certificate_file,
        key_file=settings.key_file,
        key_password=_secret("key_password", settings.key_password, settings.key_password_file),
    )
    if security.authenticated and not (security.username and security.password):
        raise ConfigurationError(
            f"kafka.security = {security.protocol} needs kafka.username and kafka.password_file "
            "(or HEADWATER_KAFKA__PASSWORD)"
        )
    try:
        security.context()
    except OSError as error:
        raise ConfigurationError(
            f"kafka.ca_file = {security.ca_file}, kafka.certificate_file = "
            f"{security.certificate_file}, kafka.key_file = {security.key_file}: "
            f"{error.strerror or error}; each is a file in PEM"
        ) from None
    return security


def _secret(name: str, given: SecretStr, file: Path | None) -> str:
    value = given.get_secret_value()
    if file is None:
        return value
    if value:
        raise ConfigurationError(f"kafka.{name} and kafka.{name}_file are both set; give one")
    try:
        # Editors and `echo` end a file with a new line, which is no part of a password.
        return file.read_text().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise ConfigurationError(f"kafka.{name}_file = {file}: {reason}") from None
