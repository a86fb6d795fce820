"""Kafka in and out: records and their bytes, topics, dead letters, the broker's clients.

Promises that whatever bytes arrive become a typed record or a `Rejected` with a reason, and that
offsets are handed on with the records, so that their owner can keep them beside the state that they
produced. What a record means to the index, the histories or the models is `daemon`'s to decide.
"""
