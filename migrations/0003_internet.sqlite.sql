-- What was changed lately, for every server on this database to look at again. A number is never given twice.
CREATE TABLE changes (
    sequence integer PRIMARY KEY AUTOINCREMENT,
    at timestamptz NOT NULL,
    stream_id uuid,
    user_id uuid,
    key_id uuid
);
CREATE INDEX changes_at ON changes (at);
