-- Counts the changes that end an account's access tokens: a new password, and being disabled. A token holds the number
-- of its login. A time did this before, and could not tell a token from a change within the same moment.
ALTER TABLE users ADD COLUMN token_generation bigint NOT NULL DEFAULT 0;
ALTER TABLE users DROP COLUMN tokens_valid_from;

-- Who an account is at an outside issuer of tokens, where it was made for that. NULL for all others.
ALTER TABLE users ADD COLUMN outside_issuer text;
ALTER TABLE users ADD COLUMN outside_subject text;
CREATE UNIQUE INDEX users_outside ON users (outside_issuer, outside_subject) WHERE outside_issuer IS NOT NULL;
