-- The two tables that grow without end are partitioned by month, so that old months go by dropping their tables. What
-- belongs to no month that was made ahead lands in the default partition, so that no insert ever fails; making the
-- month moves it. They refer to nothing, as a partition may be dropped, and a stream deleted, without a look at the other.

CREATE TABLE viewer_sessions (
    id uuid NOT NULL,
    stream_id uuid NOT NULL,
    session_id uuid,
    user_id uuid,
    connection_type text NOT NULL,
    rendition text NOT NULL DEFAULT '',
    address inet,
    country text NOT NULL DEFAULT '',
    device text NOT NULL DEFAULT '',
    started_at timestamptz NOT NULL,
    ended_at timestamptz,
    bytes_sent bigint NOT NULL DEFAULT 0,
    startup_time double precision,
    stalls bigint NOT NULL DEFAULT 0,
    stalled_time double precision NOT NULL DEFAULT 0,
    PRIMARY KEY (id, started_at)
) PARTITION BY RANGE (started_at);
CREATE INDEX viewer_sessions_started ON viewer_sessions (started_at);
CREATE INDEX viewer_sessions_stream ON viewer_sessions (stream_id, started_at);
CREATE TABLE viewer_sessions_default PARTITION OF viewer_sessions DEFAULT;

CREATE TABLE stream_metrics (
    stream_id uuid NOT NULL,
    rendition text NOT NULL,
    at timestamptz NOT NULL,
    bitrate bigint NOT NULL,
    frame_rate double precision NOT NULL,
    frames_dropped bigint NOT NULL DEFAULT 0,
    viewers bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (stream_id, rendition, at)
) PARTITION BY RANGE (at);
CREATE INDEX stream_metrics_at ON stream_metrics (at);
CREATE TABLE stream_metrics_default PARTITION OF stream_metrics DEFAULT;
