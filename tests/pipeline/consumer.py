"""A consumer that does in a test what ClickHouse's Kafka engine does: insert the lines, then commit the offsets.

    python -m tests.pipeline.consumer BROKERS DIRECTORY

Killed in between, it inserts the same lines again. The directory is chDB's, of one process at a time. How many events
the table has is printed over and over.
"""

import sys

from confluent_kafka import Consumer

from tests.pipeline.warehouse import Warehouse

TOPIC = "clerk-logout"


def consume(brokers: str, directory: str) -> None:
    """Take from Kafka until somebody stops it."""
    consumer = Consumer(
        {
            "bootstrap.servers": brokers,
            "group.id": "clickhouse",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "session.timeout.ms": 6000,  # how long a killed one keeps its partitions
        }
    )
    consumer.subscribe([TOPIC])
    with Warehouse(directory) as warehouse:
        while True:
            print(warehouse.one("SELECT count(DISTINCT event_id) FROM events"), flush=True)  # noqa: T201 - for the test
            lines = [value for message in consumer.consume(1000, timeout=0.2) if (value := message.value()) is not None]
            if lines:
                warehouse.insert(lines)
                consumer.commit(asynchronous=False)


if __name__ == "__main__":
    consume(*sys.argv[1:])
