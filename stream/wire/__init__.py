"""The records' Protobuf schema, and the module that Google's compiler makes of it.

Owns `headwater.proto`, which producers and consumers in any language compile for themselves.
`headwater_pb2` is generated and never edited; after a change of the schema run

    python -m grpc_tools.protoc -I stream/wire --python_out=stream/wire --pyi_out=stream/wire \\
        headwater.proto

with a compiler no newer than the oldest `protobuf` that `pyproject.toml` allows. A test fails while
the two differ. What the messages mean to the rest is `stream.protobuf`'s part.
"""
