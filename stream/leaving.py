"""Leaving a group as a member that would otherwise be expected back.

Owns the request by which a static member says that it is gone: aiokafka sends none for those, so
that their partitions would wait for the end of the session.
"""

from __future__ import annotations

from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.errors import KafkaError, for_code
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Int16, Int32, Schema, String

from .errors import BrokerUnavailable
from .settings import Kafka


async def leave_group(kafka: Kafka, group: str, instance_id: str) -> None:
    """Take the static member out of the group; its partitions go to the others at once.

    Raises:
        BrokerUnavailable: the group's coordinator did not do it.
    """
    client = AIOKafkaClient(**kafka.client_options())
    try:
        await client.bootstrap()
        coordinator = await client.coordinator_lookup(CoordinationType.GROUP, group)
        answer = await client.send(coordinator, _LeaveGroupRequest(group, instance_id))
        errors = [answer.error_code, *(member[2] for member in answer.members)]
        for code in filter(None, errors):
            raise for_code(code)
    except KafkaError as error:
        raise BrokerUnavailable(f"{kafka.bootstrap}: {error!r}") from error
    finally:
        await client.close()


class _LeaveGroupResponse(Response):
    API_KEY = 13
    API_VERSION = 3
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("error_code", Int16),
        (
            "members",
            Array(
                ("member_id", String("utf-8")),
                ("group_instance_id", String("utf-8")),
                ("error_code", Int16),
            ),
        ),
    )


class _LeaveGroupRequestV3(RequestStruct):
    API_KEY = 13
    API_VERSION = 3
    RESPONSE_TYPE = _LeaveGroupResponse
    SCHEMA = Schema(
        ("group_id", String("utf-8")),
        (
            "members",
            Array(("member_id", String("utf-8")), ("group_instance_id", String("utf-8"))),
        ),
    )


class _LeaveGroupRequest(Request[_LeaveGroupRequestV3]):
    """Version 3, the first that names static members; aiokafka's own end before that."""

    API_KEY = 13

    def __init__(self, group: str, instance_id: str) -> None:
        self._group = group
        self._instance_id = instance_id

    def build(self, request_struct_class: type[_LeaveGroupRequestV3]) -> _LeaveGroupRequestV3:
        """The request in the version that the broker agrees to, of which there is one."""
        unknown_member_id = ""
        return request_struct_class(self._group, [(unknown_member_id, self._instance_id)])
