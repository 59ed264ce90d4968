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
