//! Kinds of anomalies, and what becomes of each.

use self::Fate::{Ledger, Reject, Stored};

/// What becomes of a row.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fate {
    /// It is stored as it is.
    Stored,
    /// It is stored; these columns and rules are in the ledger.
    #[allow(dead_code)]
    Ledger(&'static str),
    /// It is a reject.
    Reject(&'static str),
}

/// A row that is like its table's first but for some values, as SQL of SQLite.
pub(super) struct Anomaly {
    pub(super) table: &'static str,
    pub(super) values: &'static [(&'static str, &'static str)],
    pub(super) fate: Fate,
}

const fn of(
    table: &'static str,
    values: &'static [(&'static str, &'static str)],
    fate: Fate,
) -> Anomaly {
    Anomaly { table, values, fate }
}

const DANGLING: &str = "'ffffffffffffffffffffffffffffffff'";

pub(super) const ANOMALIES: &[Anomaly] = &[
    // Ids.
    of("images", &[("image_id", "'not-a-uuid'")], Reject("invalid_uuid")),
    of("images", &[("image_id", "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1'")], Reject("invalid_uuid")),
    of("images", &[("image_id", "'a0eebc999c0b4ef8bb6d6bb9bd380a1'")], Reject("invalid_uuid")),
    of("images", &[("image_id", "'a0eebc999c0b4ef8bb6d6bb9bd380a111'")], Reject("invalid_uuid")),
    of("images", &[("image_id", "'g0eebc999c0b4ef8bb6d6bb9bd380a11'")], Reject("invalid_uuid")),
    of("images", &[("image_id", "'a0eebc999-c0b-4ef8-bb6d-6bb9bd380a11'")], Reject("invalid_uuid")),
    of("images", &[("image_id", "' a0eebc999c0b4ef8bb6d6bb9bd380a11'")], Reject("invalid_uuid")),
    of("images", &[("image_id", "''")], Reject("invalid_uuid")),
    of("images", &[("image_id", "x'a0eebc999c0b4ef8bb6d6bb9bd380a12'")], Reject("invalid_uuid")),
    of("images", &[("image_id", "NULL")], Reject("null_not_allowed")),
    of("images", &[("image_id", "'{A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A13}'")], Stored),
    of("images", &[("image_id", "'urn:uuid:a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a14'")], Stored),
    of("exports", &[("scene_id", "'scene 7'")], Reject("invalid_uuid")),
    of("episode_assets", &[("asset_id", "12345678901234567890")], Reject("invalid_uuid")),
    // Moments.
    of("images", &[("created_at", "'yesterday'")], Reject("invalid_timestamp")),
    of("images", &[("created_at", "'2026-13-01 00:00:00'")], Reject("invalid_timestamp")),
    of("images", &[("created_at", "'2026-02-30 10:00:00'")], Reject("invalid_timestamp")),
    of("images", &[("created_at", "'2026-01-01 25:00:00'")], Reject("invalid_timestamp")),
    of("images", &[("created_at", "'2026-01-01 10:00:61'")], Reject("invalid_timestamp")),
    of("images", &[("created_at", "'01/02/2026 10:00'")], Reject("invalid_timestamp")),
    of("images", &[("created_at", "'2026-01-01T10:00:00+99:00'")], Reject("invalid_timestamp")),
    of("images", &[("created_at", "''")], Reject("invalid_timestamp")),
    of("images", &[("created_at", "1767225600")], Reject("wrong_type")),
    of("images", &[("created_at", "'Thu Jan  1 2026'")], Reject("invalid_timestamp")),
    of("images", &[("created_at", "NULL")], Reject("null_not_allowed")),
    of("images", &[("created_at", "x'32303236'")], Reject("wrong_type")),
    of("images", &[("created_at", "'2026-01-01T10:00:00+05:30'")], Stored),
    // Documents.
    of("artifacts", &[("payload", "'{\"a\": NaN}'")], Reject("nan")),
    of("artifacts", &[("payload", "'{\"a\": [-Infinity]}'")], Reject("nan")),
    of("artifacts", &[("payload", "'{\"a\": 1, \"a\": 2}'")], Reject("json_duplicate_keys")),
    of("artifacts", &[("payload", "'{\"a\": \"\\ud800\"}'")], Reject("invalid_utf8")),
    of("artifacts", &[("payload", "'{\"a\": \"\\u0000\"}'")], Reject("nul")),
    of("artifacts", &[("payload", "'{\"a\": \"\\u0000\", \"a\": NaN'")], Reject("invalid_json")),
    of("artifacts", &[("payload", "'{\"a\": 1'")], Reject("invalid_json")),
    of("artifacts", &[("payload", "'{''a'': 1}'")], Reject("invalid_json")),
    of("artifacts", &[("payload", "'None'")], Reject("invalid_json")),
    of("artifacts", &[("payload", "''")], Reject("invalid_json")),
    of("artifacts", &[("payload", "x'7b7d'")], Reject("wrong_type")),
    of("artifacts", &[("payload", "CAST(x'7b2261223a22ff227d' AS TEXT)")], Reject("invalid_utf8")),
    of("artifacts", &[("payload", "NULL")], Reject("null_not_allowed")),
    of("artifacts", &[("payload", "'null'")], Stored),
    of("artifacts", &[("payload", "123")], Stored),
    // Texts.
    of("stories", &[("title", "CAST(x'610062' AS TEXT)")], Reject("nul")),
    of("stories", &[("title", "CAST(x'61ff' AS TEXT)")], Reject("invalid_utf8")),
    of("stories", &[("title", "CAST(x'eda080' AS TEXT)")], Reject("invalid_utf8")),
    of("stories", &[("title", "x'6162'")], Reject("wrong_type")),
    of("stories", &[("title", "NULL")], Reject("null_not_allowed")),
    of("stories", &[("title", "''")], Stored),
    of("stories", &[("title", "'\\N \\. ' || char(9, 13, 10)")], Stored),
    of(
        "stories",
        &[("generation_error", "'postgres://u:secret@h/db'")],
        Ledger("generation_error redact_url_password"),
    ),
    // Numbers.
    of("artifacts", &[("version", "2147483648")], Reject("overflow")),
    of("artifacts", &[("version", "-9223372036854775808")], Reject("overflow")),
    of("artifacts", &[("version", "'two'")], Reject("wrong_type")),
    of("artifacts", &[("version", "1.5")], Reject("wrong_type")),
    of("artifacts", &[("version", "NULL")], Reject("null_not_allowed")),
    of("environment_anchors", &[("usage_count", "9e999")], Reject("nan")),
    of("environment_anchors", &[("usage_count", "x'31'")], Reject("wrong_type")),
    of("environment_anchors", &[("pinned", "2")], Reject("wrong_type")),
    of("environment_anchors", &[("pinned", "'maybe'")], Reject("wrong_type")),
    // References.
    of("artifacts", &[("parent_id", DANGLING)], Reject("orphan")),
    of("artifacts", &[("scene_id", DANGLING)], Reject("orphan")),
    of("scenes", &[("story_id", DANGLING)], Reject("orphan")),
    of("scenes", &[("selected_render_artifact_id", DANGLING)], Reject("orphan")),
    of("images", &[("artifact_id", DANGLING)], Reject("orphan")),
    of("episode_assets", &[("asset_id", DANGLING)], Stored),
    of("audit_logs", &[("entity_id", DANGLING)], Stored),
    // A circle of three, one that is its own parent, and one whose parent is a reject.
    of(
        "style_presets",
        &[
            ("preset_id", "'c0000000000000000000000000000001'"),
            ("parent_id", "'c0000000000000000000000000000002'"),
        ],
        Stored,
    ),
    of(
        "style_presets",
        &[
            ("preset_id", "'c0000000000000000000000000000002'"),
            ("parent_id", "'c0000000000000000000000000000003'"),
        ],
        Stored,
    ),
    of(
        "style_presets",
        &[
            ("preset_id", "'c0000000000000000000000000000003'"),
            ("parent_id", "'c0000000000000000000000000000001'"),
        ],
        Stored,
    ),
    of(
        "artifacts",
        &[
            ("artifact_id", "'c0000000000000000000000000000004'"),
            ("parent_id", "'c0000000000000000000000000000004'"),
        ],
        Stored,
    ),
    of(
        "artifacts",
        &[("artifact_id", "'c0000000000000000000000000000005'"), ("payload", "'{'")],
        Reject("invalid_json"),
    ),
    of("artifacts", &[("parent_id", "'c0000000000000000000000000000005'")], Reject("orphan")),
    // Twins.
    of("artifacts", &[("version", "7777")], Stored),
    of("artifacts", &[("version", "7777")], Reject("unique_collision")),
    of("images", &[("image_id", "'d0000000000000000000000000000001'")], Stored),
    of(
        "images",
        &[("image_id", "'D0000000-0000-0000-0000-000000000001'"), ("image_url", "'another'")],
        Reject("duplicate_key"),
    ),
    of("dialogue_layers", &[("bubbles", "'[]'")], Reject("unique_collision")),
    of("characters", &[("canonical_code", "'CHAR_ZZZ'")], Stored),
    of("characters", &[("canonical_code", "'CHAR_ZZZ'")], Reject("unique_collision")),
];
