-- A data key has a use; a run may share its memory of nonces with other nodes.

ALTER TABLE data_keys ADD COLUMN used_for TEXT NOT NULL DEFAULT 'at_rest'
    CHECK (used_for IN ('at_rest', 'fleet'));

ALTER TABLE run_state ADD COLUMN shared INTEGER NOT NULL DEFAULT 0 CHECK (shared IN (0, 1));

PRAGMA user_version = 2;
