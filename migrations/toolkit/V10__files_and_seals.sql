-- When a file's size, times and inode vouch for its hash, and where a sealed file stood.

ALTER TABLE toolkit.capture_file
    ADD COLUMN changed_ns bigint NOT NULL DEFAULT 0,
    ADD COLUMN inode bigint NOT NULL DEFAULT 0,
    ADD COLUMN settled boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN toolkit.capture_file.changed_ns IS
    'The status change time (ctime), which no application can set back; nanoseconds of the Unix epoch.';
COMMENT ON COLUMN toolkit.capture_file.settled IS
    'The hash was taken when size, times and inode had long been the same: while they are, it holds.';

ALTER TABLE toolkit.sealed_file
    ADD COLUMN lsn text,
    ADD COLUMN parity_run uuid;
COMMENT ON COLUMN toolkit.sealed_file.lsn IS
    'Position of PostgreSQL''s log at which the files held what PostgreSQL held; NULL: it was forced.';
COMMENT ON COLUMN toolkit.sealed_file.parity_run IS
    'The full verification at that very position (toolkit.parity_run).';
