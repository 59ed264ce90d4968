-- Why a recording failed, or what else there is to say of it, for people.
ALTER TABLE recordings ADD COLUMN error text NOT NULL DEFAULT '';
-- Administrators list the recordings of all, by time or by size; a start looks for those that a server left behind.
CREATE INDEX recordings_started ON recordings (started_at, id);
CREATE INDEX recordings_size ON recordings (size, id);
CREATE INDEX recordings_writing ON recordings (started_at) WHERE state = 'writing';
