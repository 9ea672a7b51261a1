-- Characters that may be one, and what merging them moved. A merged character's own row stays: its
-- redirect leads on, and what is taken back finds everything again.

CREATE TABLE character_candidate (
    id          bigserial CONSTRAINT character_candidate_pkey PRIMARY KEY,
    one_id      uuid NOT NULL CONSTRAINT character_candidate_one_id_fkey
                REFERENCES character (id) ON DELETE CASCADE,
    other_id    uuid NOT NULL CONSTRAINT character_candidate_other_id_fkey
                REFERENCES character (id) ON DELETE CASCADE,
    score       float8 NOT NULL,
    reasons     jsonb NOT NULL,
    state       text NOT NULL DEFAULT 'open' CONSTRAINT character_candidate_state_check
                CHECK (state IN ('open', 'merged', 'rejected')),
    proposed_at timestamptz NOT NULL DEFAULT now(),
    decided_at  timestamptz,
    decided_by  text,
    CONSTRAINT character_candidate_order_check CHECK (one_id < other_id),
    CONSTRAINT character_candidate_pair_key UNIQUE (one_id, other_id)
);
CREATE INDEX character_candidate_other_idx ON character_candidate (other_id);
COMMENT ON TABLE character_candidate IS 'Pairs of characters that may be one, with the reasons.';

CREATE TABLE character_merge (
    id           bigserial CONSTRAINT character_merge_pkey PRIMARY KEY,
    from_id      uuid NOT NULL,
    to_id        uuid NOT NULL,
    candidate_id bigint CONSTRAINT character_merge_candidate_id_fkey
                 REFERENCES character_candidate (id) ON DELETE SET NULL,
    merged_at    timestamptz NOT NULL DEFAULT now(),
    merged_by    text NOT NULL,
    undone_at    timestamptz,
    undone_by    text
);
CREATE UNIQUE INDEX character_merge_standing_uniq ON character_merge (from_id)
    WHERE undone_at IS NULL;
CREATE INDEX character_merge_candidate_idx ON character_merge (candidate_id);
COMMENT ON TABLE character_merge IS 'Merges of characters, undone ones too.';

CREATE TABLE character_merge_row (
    merge_id   bigint NOT NULL CONSTRAINT character_merge_row_merge_id_fkey
               REFERENCES character_merge (id) ON DELETE CASCADE,
    place      int NOT NULL,
    table_name text NOT NULL CONSTRAINT character_merge_row_table_name_check
               CHECK (table_name IN ('anime_character', 'character_alias')),
    before     jsonb,
    after      jsonb,
    CONSTRAINT character_merge_row_pkey PRIMARY KEY (merge_id, place),
    CONSTRAINT character_merge_row_something_check CHECK (num_nonnulls(before, after) > 0)
);
COMMENT ON TABLE character_merge_row IS 'Rows that a merge changed, as they were and as they became.';
