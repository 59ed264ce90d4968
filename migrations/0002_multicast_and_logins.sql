-- What a stream's owner chose for each output, by the output's name.
ALTER TABLE streams ADD COLUMN outputs jsonb NOT NULL DEFAULT '{}';

-- The number of a rendition's multicast group, from which address and port follow. Streams that have no account
-- (rtmp.enable_auth = false) have one too, so nothing is referred to.
CREATE TABLE multicast_groups (
    number bigint PRIMARY KEY,
    stream_id uuid NOT NULL,
    rendition text NOT NULL,
    created_at timestamptz NOT NULL
);
CREATE UNIQUE INDEX multicast_groups_rendition ON multicast_groups (stream_id, rendition);

-- Access tokens from before this time are refused: the password was changed then.
ALTER TABLE users ADD COLUMN tokens_valid_from timestamptz;
