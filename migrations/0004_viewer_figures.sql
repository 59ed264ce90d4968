-- How a viewer was served, as its output has it in words and numbers: losses, round trips, switches of rendition.
ALTER TABLE viewer_sessions ADD COLUMN figures jsonb NOT NULL DEFAULT '{}';
