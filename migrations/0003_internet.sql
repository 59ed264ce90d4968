-- Counts the changes that end an account's access tokens: a new password, and being disabled. A token holds the number
-- of its login. A time did this before, and could not tell a token from a change within the same moment.
ALTER TABLE users ADD COLUMN token_generation bigint NOT NULL DEFAULT 0;
ALTER TABLE users DROP COLUMN tokens_valid_from;

-- Who an account is at an outside issuer of tokens, where it was made for that. NULL for all others.
ALTER TABLE users ADD COLUMN outside_issuer text;
ALTER TABLE users ADD COLUMN outside_subject text;
CREATE UNIQUE INDEX users_outside ON users (outside_issuer, outside_subject) WHERE outside_issuer IS NOT NULL;

-- A broadcast knows which server it ran on and when that was last heard of, so that the rows of one that crashed can be
-- closed without touching those of another that lives; and how many different addresses watched.
ALTER TABLE stream_sessions ADD COLUMN server_id uuid;
ALTER TABLE stream_sessions ADD COLUMN seen_at timestamptz;
ALTER TABLE stream_sessions ADD COLUMN unique_viewers bigint NOT NULL DEFAULT 0;
CREATE INDEX stream_sessions_open ON stream_sessions (seen_at) WHERE ended_at IS NULL;
CREATE INDEX stream_sessions_started ON stream_sessions (started_at);
-- When a broadcast goes, recordings that name it are looked for.
CREATE INDEX recordings_session ON recordings (session_id);

-- Lists of viewers are read by stream, or by stream and type of connection, in the order of their beginning.
DROP INDEX viewer_sessions_stream;
CREATE INDEX viewer_sessions_stream ON viewer_sessions (stream_id, started_at, id);
CREATE INDEX viewer_sessions_type ON viewer_sessions (stream_id, connection_type, started_at, id);

-- How many viewer sessions began in each hour: written in one transaction with them, so that totals are true, and any
-- page of a long list is found, without counting rows. No viewer session was written before this step.
CREATE TABLE viewer_hours (
    stream_id uuid NOT NULL,
    hour timestamptz NOT NULL,
    connection_type text NOT NULL,
    sessions bigint NOT NULL,
    watch_time double precision NOT NULL,
    bytes_sent bigint NOT NULL,
    PRIMARY KEY (stream_id, hour, connection_type)
);
CREATE INDEX viewer_hours_hour ON viewer_hours (hour);

-- What has expired is let go by these.
CREATE INDEX refresh_tokens_expires ON refresh_tokens (expires_at);

-- Networks that a stream key may be used from, such as 203.0.113.0/24; none means from everywhere.
ALTER TABLE stream_keys ADD COLUMN allowed_addresses jsonb NOT NULL DEFAULT '[]';

-- One row may stand for several things of a kind, as for failed logins: so many times, from `at` to `last_at`.
ALTER TABLE audit_log ADD COLUMN times bigint NOT NULL DEFAULT 1;
ALTER TABLE audit_log ADD COLUMN last_at timestamptz;

-- What administrators look for. The name, not the id, says who: it is there for commands and the server itself, too.
DROP INDEX audit_log_actor;
CREATE INDEX audit_log_actor ON audit_log (actor, at);
CREATE INDEX audit_log_action ON audit_log (action, at);
CREATE INDEX audit_log_target ON audit_log (target, at);

-- Why a recording failed, or what else there is to say of it, for people.
ALTER TABLE recordings ADD COLUMN error text NOT NULL DEFAULT '';
-- Administrators list the recordings of all, by time or by size; a start looks for those that a server left behind.
CREATE INDEX recordings_started ON recordings (started_at, id);
CREATE INDEX recordings_size ON recordings (size, id);
CREATE INDEX recordings_writing ON recordings (started_at) WHERE state = 'writing';
