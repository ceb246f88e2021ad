-- The results store. {id}, {integer}, {real}, {text} and {bytes} stand for a database's own types (store/sql/migrate.py).
-- Nouns that many runs share are rows of their own, found by the digest of their content. `content` is the whole noun as JSON;
-- the columns beside it are copies of what queries filter by.

CREATE TABLE devices (
    id {id},
    digest {text} NOT NULL UNIQUE,
    transport {text} NOT NULL,
    name {text} NOT NULL,
    content {text} NOT NULL
);

CREATE TABLE subjects (
    id {id},
    digest {text} NOT NULL UNIQUE,
    label {text} NOT NULL,
    model_sha256 {text} NOT NULL,
    runtime {text} NOT NULL,
    bundle {text},
    version {text},
    target {text},
    content {text} NOT NULL
);

CREATE TABLE conditions (
    id {id},
    digest {text} NOT NULL UNIQUE,
    suite {text} NOT NULL,
    content {text} NOT NULL
);

CREATE TABLE environments (
    id {id},
    digest {text} NOT NULL UNIQUE,
    content {text} NOT NULL
);

-- One call of `edgepack bench`; it began with its first run.
CREATE TABLE benches (
    id {id},
    name {text} NOT NULL UNIQUE,
    started_at {text} NOT NULL
);
CREATE INDEX benches_started_at ON benches (started_at);

-- One process on one device. `key` is RunRecord.key; `attempt` is the one that is kept, `attempts` the highest number that arrived.
CREATE TABLE runs (
    id {id},
    key {text} NOT NULL UNIQUE,
    bench {integer} NOT NULL REFERENCES benches (id),
    device {integer} NOT NULL REFERENCES devices (id),
    subject {integer} NOT NULL REFERENCES subjects (id),
    conditions {integer} NOT NULL REFERENCES conditions (id),
    environment {integer} REFERENCES environments (id),
    round {integer} NOT NULL,
    position {integer} NOT NULL,
    attempt {integer} NOT NULL,
    attempts {integer} NOT NULL,
    started_at {text} NOT NULL,
    status {text} NOT NULL,
    reason {text}
);
CREATE INDEX runs_bench ON runs (bench);
CREATE INDEX runs_subject ON runs (subject);
CREATE INDEX runs_device ON runs (device);
CREATE INDEX runs_started_at ON runs (started_at);

-- Attempts at a run that are not the kept one: what they came to, and why.
CREATE TABLE attempts (
    run {integer} NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    attempt {integer} NOT NULL,
    started_at {text} NOT NULL,
    status {text} NOT NULL,
    reason {text},
    PRIMARY KEY (run, attempt)
);

-- A column for each name of METRICS (records.py), added when a store is opened by an edgepack that knows one more; NULL: not measured.
CREATE TABLE metrics (
    run {integer} NOT NULL PRIMARY KEY REFERENCES runs (id) ON DELETE CASCADE
);

-- What the agent reported beside samples, states and profile, as JSON.
CREATE TABLE reports (
    run {integer} NOT NULL PRIMARY KEY REFERENCES runs (id) ON DELETE CASCADE,
    content {text} NOT NULL
);

-- Every sample, in the order of measuring. kind: 'warmup', 'measured', or 'partial' (what had come home of a run that was cut off).
-- data: `count` numbers of NumPy's `dtype`, compressed by `codec`.
CREATE TABLE samples (
    run {integer} NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    kind {text} NOT NULL,
    dtype {text} NOT NULL,
    codec {text} NOT NULL,
    count {integer} NOT NULL,
    data {bytes} NOT NULL,
    PRIMARY KEY (run, kind)
);

-- The device's state; moment: 'before', 'during' or 'after'.
CREATE TABLE states (
    run {integer} NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    moment {text} NOT NULL,
    place {integer} NOT NULL,
    at_s {real} NOT NULL,
    temperature_c {real},
    throttled {integer},
    content {text} NOT NULL,
    PRIMARY KEY (run, moment, place)
);

-- The profile, operator by operator.
CREATE TABLE layers (
    run {integer} NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    place {integer} NOT NULL,
    name {text} NOT NULL,
    kind {text} NOT NULL,
    mean_ms {real} NOT NULL,
    calls {integer} NOT NULL,
    source_layer {text},
    PRIMARY KEY (run, place)
);

-- Accuracy on the device; correct: one byte a sample (1: right), compressed by `codec`.
CREATE TABLE accuracies (
    run {integer} NOT NULL PRIMARY KEY REFERENCES runs (id) ON DELETE CASCADE,
    metric {text} NOT NULL,
    value {real} NOT NULL,
    inputs_sha256 {text} NOT NULL,
    agreement {real},
    max_steps {real},
    codec {text} NOT NULL,
    count {integer} NOT NULL,
    correct {bytes} NOT NULL
);
