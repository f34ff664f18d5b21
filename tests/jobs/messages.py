"""Messages that make no sense, and how they get into a queue: past Celery, straight into Redis."""

import base64
import json
import uuid
from typing import Any

from celery import current_app

from jobs.message import HEADER
from tests.jobs.probes import broker

BODY: Any = [["a message"], {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]


def envelope(queue: str, *, body: Any = BODY, **headers: Any) -> dict[str, Any]:
    """What kombu puts into a queue for a task. A header that is `...` is left out."""
    own = {"schema": "public", "durable": queue == "jobs", "request_id": ""}
    named = {"id": str(uuid.uuid4()), "task": "tests.jobs.probes.probe", HEADER: own, **headers}
    return {
        "body": base64.b64encode(json.dumps(body).encode()).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {name: value for name, value in named.items() if value is not ...},
        "properties": {
            "delivery_info": {"exchange": "", "routing_key": queue},
            "delivery_tag": str(uuid.uuid4()),
            "body_encoding": "base64",
        },
    }


def push(queue: str, content: Any) -> None:
    """Into the queue, as the next that is taken: bytes as they are, all else as JSON."""
    prefix = current_app.conf.broker_transport_options["global_keyprefix"]
    broker().rpush(f"{prefix}{queue}", content if isinstance(content, bytes) else json.dumps(content))


def _of_headers(queue: str, cases: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return {name: envelope(queue, **headers) for name, headers in cases.items()}


def _of_parts(queue: str, cases: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return {name: {**envelope(queue), **parts} for name, parts in cases.items()}


def _of_properties(queue: str, cases: dict[str, dict[str, Any]]) -> dict[str, Any]:
    whole = envelope(queue)["properties"]
    return {name: {**envelope(queue), "properties": {**whole, **parts}} for name, parts in cases.items()}


def _without(queue: str, part: str) -> dict[str, Any]:
    return {name: value for name, value in envelope(queue).items() if name != part}


HEADERS: dict[str, dict[str, Any]] = {
    "no id": {"id": ...},
    "no task": {"task": ...},
    "no id and no task": {"id": ..., "task": ...},
    "a null id": {"id": None},
    "a list as id": {"id": ["a"]},
    "an object as id": {"id": {"a": 1}},
    "a number as id": {"id": 5},
    "an empty id": {"id": ""},
    "a huge id": {"id": "x" * 1_000_000},
    "an id of control characters": {"id": "a\0b\n"},
    "an id that is half a character": {"id": "\ud800"},
    "a list as task": {"task": ["a"]},
    "an object as task": {"task": {}},
    "a null task": {"task": None},
    "a huge task": {"task": "x" * 1_000_000},
    "a number as timelimit": {"timelimit": 5},
    "one timelimit": {"timelimit": [5]},
    "words as timelimit": {"timelimit": ["a", "b"]},
    "a negative timelimit": {"timelimit": [-1, None]},
    "no number as timelimit": {"timelimit": [float("nan"), None]},
    "an endless timelimit": {"timelimit": [1e300, None]},
    "an infinite soft limit": {"timelimit": [None, float("inf")]},
    "a word as eta": {"eta": "x"},
    "a number as eta": {"eta": 5},
    "a list as eta": {"eta": ["2020"]},
    "a word as expires": {"expires": "x"},
    "an object as expires": {"expires": {}},
    "a word as retries": {"retries": "x"},
    "a list as retries": {"retries": [1]},
    "endless retries": {"retries": 10**40},
    "negative retries": {"retries": -5},
    "a list as group": {"group": ["a"]},
    "an object as root_id": {"root_id": {"a": 1}},
    "a number as parent_id": {"parent_id": 7},
    "a list as shadow": {"shadow": [1]},
    "a number as stamped_headers": {"stamped_headers": 7},
    "lists as stamped_headers": {"stamped_headers": [[1]]},
    "a list as stamps": {"stamps": [1]},
    "a list as argsrepr": {"argsrepr": [1]},
    "a word as replaced_task_nesting": {"replaced_task_nesting": "x"},
    "a body that is no list": {"body": 5},
    "a body that is text": {"body": "args"},
    "a body of two": {"body": [[], {}]},
    "a body of words": {"body": ["args", {}, {}]},
    "arguments that are a number": {"body": [5, {}, {}]},
    "keyword arguments that are a list": {"body": [[], [], {}]},
    "a number as chord": {"body": [[], {}, {"chord": 5}]},
    "a word as errbacks": {"body": [[], {}, {"errbacks": "x"}]},
    "an embedded number": {"body": [[], {}, 5]},
    "an object of half a protocol 1": {"id": ..., "task": ..., "body": {"task": "tests.jobs.probes.probe"}},
    "a list as task in protocol 1": {"id": ..., "task": ..., "body": {"task": ["a"], "id": "b"}},
    "both protocols": {"body": {"args": 5, "kwargs": {}}},
}
PARTS: dict[str, dict[str, Any]] = {
    "headers that are a list": {"headers": ["a"]},
    "headers that are text": {"headers": "task id"},
    "null headers": {"headers": None},
    "a body that is no base64": {"body": "%%%"},
    "a body that is garbage": {"body": base64.b64encode(b"\x80\x81\xff").decode()},
    "a truncated body": {"body": base64.b64encode(b'[["a", {').decode()},
    "a body that is an object": {"body": {"a": 1}},
    "no body": {"body": None},
    "pickle": {"content-type": "application/x-python-serialize"},
    "an unknown content type": {"content-type": "application/x-nobody-knows"},
    "a list as content type": {"content-type": ["a"]},
    "an unknown compression": {"headers": {**envelope("jobs")["headers"], "compression": "x-nobody-knows"}},
    "null properties": {"properties": None},
    "empty properties": {"properties": {}},
    "properties that are a list": {"properties": ["a"]},
}
PROPERTIES: dict[str, dict[str, Any]] = {
    "a list as delivery tag": {"delivery_tag": ["a"]},
    "an object as delivery tag": {"delivery_tag": {}},
    "a null delivery tag": {"delivery_tag": None},
    "null delivery info": {"delivery_info": None},
    "a list as delivery info": {"delivery_info": ["a"]},
    "a number as routing key": {"delivery_info": {"exchange": "", "routing_key": 5}},
    "an unknown body encoding": {"body_encoding": "x-nobody-knows"},
}
RAW: dict[str, bytes] = {
    "garbage": b"\x00\x80\xff\xfe garbage",
    "nothing": b"",
    "truncated JSON": json.dumps(envelope("jobs")).encode()[:-20],
    "a number": b"5",
    "null": b"null",
    "a list": b'["a"]',
    "text": b'"text"',
    "an empty object": b"{}",
    "a deep nest": b"[" * 100_000,
    "a date that is none": b'{"__type__": "datetime", "__value__": 5}',
    "an id that is none": b'{"__type__": "uuid", "__value__": {"hex": []}}',
}
NO_UUID = {"an id that is no UUID": {"id": "a"}}


#: What makes no sense in the hash `unacked`, where kombu keeps [message, exchange, routing key].
NOTES: dict[str, bytes] = {
    "garbage": b"garbage",
    "binary": b"\x00\x80\xff\xfe",
    "nothing": b"",
    "a number": b"5",
    "null": b"null",
    "a list of two": b'[{}, ""]',
    "a list of four": b'[{}, "", "celery", 5]',
    "an object": b'{"a": 1}',
    "an object of three": b'{"a": 1, "b": 2, "c": 3}',
    "a number as message": b'[5, "", "celery"]',
    "a list as exchange": b'[{}, ["a"], "celery"]',
    "a deep nest": b"[" * 100_000,
    "an id that is none": b'{"__type__": "uuid", "__value__": {"hex": []}}',
}


def hold(tag: str, note: Any, since: float = 0) -> None:
    """As what a worker took then (a Unix time), and did not acknowledge: bytes as they are, all else as JSON."""
    prefix = current_app.conf.broker_transport_options["global_keyprefix"]
    broker().hset(f"{prefix}unacked", tag, note if isinstance(note, bytes) else json.dumps(note))
    broker().zadd(f"{prefix}unacked_index", {tag: since})


def senseless(queue: str) -> dict[str, Any]:
    """What makes no sense in a queue, by what it is."""
    return {
        **_of_headers(queue, HEADERS),
        **_of_parts(queue, PARTS),
        **_of_properties(queue, PROPERTIES),
        **{f"no {part}": _without(queue, part) for part in ("headers", "properties", "content-type")},
        **(_of_headers(queue, NO_UUID) if queue == "jobs" else {}),
        **RAW,
    }
