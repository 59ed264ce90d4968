-- Types are spelled as PostgreSQL's. SQLite takes any name for a type: ids, times and JSON are then text, booleans
-- 0 and 1. Times are UTC; ids are UUIDs made by the server.

CREATE TABLE users (
    id uuid PRIMARY KEY,
    username text NOT NULL,
    email text,
    role text NOT NULL CHECK (role IN ('admin', 'streamer', 'viewer')),
    password_hash text NOT NULL,
    disabled boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    last_login_at timestamptz
);
CREATE UNIQUE INDEX users_username ON users (lower(username));
CREATE UNIQUE INDEX users_email ON users (lower(email)) WHERE email IS NOT NULL;

CREATE TABLE streams (
    id uuid PRIMARY KEY,
    owner_id uuid NOT NULL REFERENCES users (id),
    name text NOT NULL,
    title text NOT NULL,
    description text NOT NULL DEFAULT '',
    category text NOT NULL DEFAULT '',
    is_private boolean NOT NULL DEFAULT false,
    recording_enabled boolean NOT NULL DEFAULT false,
    transcoding_profiles jsonb NOT NULL,
    accepts_publishing boolean NOT NULL DEFAULT true,
    max_viewers bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);
CREATE UNIQUE INDEX streams_name ON streams (name);
CREATE INDEX streams_owner ON streams (owner_id, created_at);
CREATE INDEX streams_created ON streams (created_at, id);

-- digest: HMAC-SHA256 of the key in hex, by which it is found. sealed: the key, encrypted for its owner to read.
CREATE TABLE stream_keys (
    id uuid PRIMARY KEY,
    stream_id uuid NOT NULL REFERENCES streams (id) ON DELETE CASCADE,
    name text NOT NULL DEFAULT '',
    digest text NOT NULL,
    sealed bytea NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz,
    revoked_at timestamptz,
    last_used_at timestamptz,
    last_used_from inet
);
CREATE UNIQUE INDEX stream_keys_digest ON stream_keys (digest);
CREATE INDEX stream_keys_stream ON stream_keys (stream_id, created_at);

-- A login is a family of tokens, each replaced by the next when it is used.
CREATE TABLE refresh_tokens (
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    family_id uuid NOT NULL,
    digest text NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    used_at timestamptz,
    revoked_at timestamptz
);
CREATE UNIQUE INDEX refresh_tokens_digest ON refresh_tokens (digest);
CREATE INDEX refresh_tokens_family ON refresh_tokens (family_id);
CREATE INDEX refresh_tokens_user ON refresh_tokens (user_id, expires_at);

-- One row for each time that a stream was live, from its first publisher to the end of its grace time.
CREATE TABLE stream_sessions (
    id uuid PRIMARY KEY,
    stream_id uuid NOT NULL REFERENCES streams (id) ON DELETE CASCADE,
    protocol text NOT NULL,
    publisher_address inet,
    encoder text NOT NULL DEFAULT '',
    started_at timestamptz NOT NULL,
    ended_at timestamptz,
    end_reason text NOT NULL DEFAULT '',
    reconnects bigint NOT NULL DEFAULT 0,
    bytes_received bigint NOT NULL DEFAULT 0,
    peak_viewers bigint NOT NULL DEFAULT 0
);
CREATE INDEX stream_sessions_stream ON stream_sessions (stream_id, started_at);

-- The file outlives its stream.
CREATE TABLE recordings (
    id uuid PRIMARY KEY,
    stream_id uuid REFERENCES streams (id) ON DELETE SET NULL,
    session_id uuid REFERENCES stream_sessions (id) ON DELETE SET NULL,
    owner_id uuid REFERENCES users (id) ON DELETE SET NULL,
    title text NOT NULL,
    path text NOT NULL,
    state text NOT NULL CHECK (state IN ('writing', 'complete', 'failed')),
    started_at timestamptz NOT NULL,
    ended_at timestamptz,
    duration double precision NOT NULL DEFAULT 0,
    size bigint NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX recordings_path ON recordings (path);
CREATE INDEX recordings_stream ON recordings (stream_id, started_at);
CREATE INDEX recordings_owner ON recordings (owner_id, started_at);

-- No reference to users: who did it stays known after the account is gone.
CREATE TABLE audit_log (
    id uuid PRIMARY KEY,
    at timestamptz NOT NULL,
    actor_id uuid,
    actor text NOT NULL,
    action text NOT NULL,
    target text NOT NULL DEFAULT '',
    address inet,
    details jsonb NOT NULL
);
CREATE INDEX audit_log_at ON audit_log (at);
CREATE INDEX audit_log_actor ON audit_log (actor_id, at);

-- What the server decides while it runs and must remember; not the operator's settings.
CREATE TABLE settings (
    name text PRIMARY KEY,
    value jsonb NOT NULL,
    updated_at timestamptz NOT NULL
);
