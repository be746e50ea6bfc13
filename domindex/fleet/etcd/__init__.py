"""The engine on etcd. Nothing outside this folder imports grpc or aetcd.

`wire.py` is one line to one member, `members.py` chooses among several, `engine.py`, `claim.py` and
`feed.py` do what `fleet/ports.py` asks for.
"""
