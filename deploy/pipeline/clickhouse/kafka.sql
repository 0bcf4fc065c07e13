-- Not run here: chDB, in which the tests run events.sql, has no Kafka engine. After events.sql, on a server:
-- takes the raw lines from Kafka, and commits once a block is inserted, so at least once.

CREATE TABLE IF NOT EXISTS kafka_lines (line String)
ENGINE = Kafka
SETTINGS
    kafka_broker_list = 'kafka-1:9092,kafka-2:9092',
    kafka_topic_list = 'clerk-logout',
    kafka_group_name = 'clickhouse',
    kafka_format = 'LineAsString';

CREATE MATERIALIZED VIEW IF NOT EXISTS kafka_to_lines TO lines AS SELECT line FROM kafka_lines;
