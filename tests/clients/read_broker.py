"""Prints the messages of a broker as its own Python client sees them, one JSON object a line, in order of arrival.

Usage: read_broker.py pubsub HOST SUBSCRIPTION COUNT   until so many with different keys have come, or none for a while
       read_broker.py nats URL STREAM                  all that the stream holds
       read_broker.py make URL STREAM SUBJECT          makes a stream of NATS
"""

import asyncio
import json
import os
import sys
import time

import nats
from google.api_core.exceptions import DeadlineExceeded
from google.cloud import pubsub_v1

# A pull waits for messages, and what it was about to get when it gave up is not given again for long: so it is patient.
PULL_S = 60
SILENT_PULLS_MAX = 3


def show(data: bytes, **beside) -> None:
    json.dump({"record": json.loads(data), **beside}, sys.stdout)
    sys.stdout.write("\n")


def read_pubsub(host: str, subscription: str, count: str) -> None:
    os.environ["PUBSUB_EMULATOR_HOST"] = host
    keys, silent = set(), 0
    with pubsub_v1.SubscriberClient() as client:
        while len(keys) < int(count) and silent < SILENT_PULLS_MAX:
            try:
                pulled = client.pull(subscription=subscription, max_messages=1000, timeout=PULL_S)
            except DeadlineExceeded:
                silent += 1
                continue
            silent = 0 if pulled.received_messages else silent + 1
            for received in pulled.received_messages:
                message = received.message
                keys.add((message.attributes["job"], message.attributes["key"]))
                show(message.data, order=message.ordering_key, attributes=dict(message.attributes))
            if pulled.received_messages:
                acks = [received.ack_id for received in pulled.received_messages]
                client.acknowledge(subscription=subscription, ack_ids=acks)


async def read_nats(url: str, stream: str) -> None:
    client = await nats.connect(url)
    jetstream = client.jetstream()
    left = (await jetstream.stream_info(stream)).state.messages
    consumer = await jetstream.pull_subscribe("", stream=stream, durable=f"reader-{time.time_ns()}")
    while left > 0:
        for message in await consumer.fetch(min(left, 1000), timeout=30):
            show(message.data, subject=message.subject, id=message.headers["Nats-Msg-Id"])
            await message.ack()
            left -= 1
    await client.close()


async def make(url: str, stream: str, subject: str) -> None:
    client = await nats.connect(url)
    await client.jetstream().add_stream(name=stream, subjects=[subject])
    await client.close()


def main() -> int:
    kind, *rest = sys.argv[1:]
    if kind == "pubsub":
        read_pubsub(*rest)
    elif kind == "nats":
        asyncio.run(read_nats(*rest))
    else:
        asyncio.run(make(*rest))
    return 0


if __name__ == "__main__":
    sys.exit(main())
