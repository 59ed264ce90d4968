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
