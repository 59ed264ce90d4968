-- What was changed lately, for every server on this database to look at again. Numbers are given before transactions
-- are committed, so a lower one may be seen later than a higher one.
CREATE TABLE changes (
    sequence bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL,
    stream_id uuid,
    user_id uuid,
    key_id uuid
);
CREATE INDEX changes_at ON changes (at);
