//! Pack `webtoon`: the questions that the studio's document asks of its database.

use crate::query::{Argument, Kind, Question};

const fn required(name: &'static str, kind: Kind) -> Argument {
    Argument { name, kind, required: true }
}

const fn optional(name: &'static str, kind: Kind) -> Argument {
    Argument { name, kind, required: false }
}

/// Every debugging question of the document, and those that its promises imply. Views and
/// functions of schema `webtoon` do the work, so that psql asks the same.
pub const QUESTIONS: &[Question] = &[
    Question {
        name: "project-characters",
        about: "characters of a project, in the order of their codes",
        arguments: &[required("project", Kind::Uuid)],
        sql: "SELECT canonical_code, name, role, gender, age_range, character_id
                FROM webtoon.project_characters WHERE project_id = $1::text::uuid
               ORDER BY code_number NULLS LAST, canonical_code, name, character_id",
    },
    Question {
        name: "global-actors",
        about: "characters that belong to no project",
        arguments: &[],
        sql: "SELECT * FROM webtoon.global_actors ORDER BY name, character_id",
    },
    Question {
        name: "shared-characters",
        about: "characters that appear in more than one story",
        arguments: &[],
        sql: "SELECT * FROM webtoon.shared_characters ORDER BY stories DESC, character_id",
    },
    Question {
        name: "active-variants",
        about: "the active variants of a story's characters",
        arguments: &[required("story", Kind::Uuid)],
        sql: "SELECT variant_name, variant_type, is_active_for_story, variant_id, character_id
                FROM webtoon.active_variants WHERE story_id = $1::text::uuid
               ORDER BY character_id, variant_id",
    },
    Question {
        name: "story-generation",
        about: "generation status, error and progress of one story, or of all",
        arguments: &[optional("story", Kind::Uuid)],
        sql: "SELECT * FROM webtoon.story_generation
               WHERE $1::text IS NULL OR story_id = $1::text::uuid ORDER BY title, story_id",
    },
    Question {
        name: "scene-styles",
        about: "style override, planning lock and resolved style of a story's scenes",
        arguments: &[required("story", Kind::Uuid)],
        sql: "SELECT scene_id, image_style_override, planning_locked, image_style, decided_by,
                     preset_id
                FROM webtoon.scene_styles WHERE story_id = $1::text::uuid ORDER BY scene_id",
    },
    Question {
        name: "scene-style",
        about: "the style of one scene: its override, or its story's default",
        arguments: &[required("scene", Kind::Uuid)],
        sql: "SELECT * FROM webtoon.scene_styles WHERE scene_id = $1::text::uuid",
    },
    Question {
        name: "style-chain",
        about: "the presets a preset inherits from, nearest first; circles are named",
        arguments: &[required("preset", Kind::Uuid)],
        sql: "SELECT * FROM webtoon.style_chain($1::text::uuid)",
    },
    Question {
        name: "effective-style",
        about: "the merged config of a preset and all it inherits from; a child's key wins",
        arguments: &[required("preset", Kind::Uuid)],
        sql: "SELECT * FROM webtoon.effective_style($1::text::uuid)",
    },
    Question {
        name: "artifacts",
        about: "all artifacts of a scene, newest version first within each type",
        arguments: &[required("scene", Kind::Uuid)],
        sql: "SELECT type, version, created_at, created_by, artifact_id FROM webtoon.artifacts
               WHERE scene_id = $1::text::uuid ORDER BY type, version DESC",
    },
    Question {
        name: "latest-artifacts",
        about: "the latest version of each artifact type of a scene",
        arguments: &[required("scene", Kind::Uuid)],
        sql: "SELECT type, latest_version, artifact_id FROM webtoon.latest_artifacts
               WHERE scene_id = $1::text::uuid ORDER BY type",
    },
    Question {
        name: "missing-artifacts",
        about: "required artifact types that scenes lack; of one scene, or of all",
        arguments: &[optional("scene", Kind::Uuid)],
        sql: "SELECT scene_id, story_id, type FROM webtoon.missing_artifacts
               WHERE $1::text IS NULL OR scene_id = $1::text::uuid ORDER BY scene_id, type",
    },
    Question {
        name: "version-anomalies",
        about: "scene and type whose versions have gaps or duplicates, or do not start at 1",
        arguments: &[],
        sql: "SELECT * FROM webtoon.version_anomalies ORDER BY scene_id, type",
    },
    Question {
        name: "lineage",
        about: "what an artifact was derived from, nearest first; circles are named",
        arguments: &[required("artifact", Kind::Uuid)],
        sql: "SELECT * FROM webtoon.artifact_ancestors($1::text::uuid)",
    },
    Question {
        name: "derived",
        about: "what was derived from an artifact, nearest first; circles are named",
        arguments: &[required("artifact", Kind::Uuid)],
        sql: "SELECT * FROM webtoon.artifact_descendants($1::text::uuid)",
    },
    Question {
        name: "lineage-depths",
        about: "how many artifacts lie how far from the first of their line",
        arguments: &[],
        sql: "SELECT depth, count(*) AS artifacts FROM webtoon.artifact_depths
               GROUP BY depth ORDER BY depth",
    },
    Question {
        name: "lineage-cycles",
        about: "artifacts that are on a circle of parents, or derived from one",
        arguments: &[],
        sql: "SELECT * FROM webtoon.artifact_cycles ORDER BY artifact_id",
    },
    Question {
        name: "episode-scenes",
        about: "scenes of an episode, in order",
        arguments: &[required("episode", Kind::Uuid)],
        sql: "SELECT order_index, scene_id, source_text FROM webtoon.scenes_in_order
               WHERE episode_id = $1::text::uuid ORDER BY order_index, scene_id",
    },
    Question {
        name: "episode-assets",
        about: "what is attached to an episode",
        arguments: &[required("episode", Kind::Uuid)],
        sql: "SELECT asset_type, asset_id, episode_asset_id FROM webtoon.episode_assets
               WHERE episode_id = $1::text::uuid ORDER BY asset_type, asset_id, episode_asset_id",
    },
    Question {
        name: "exports",
        about: "status of one export job, or of all, newest first",
        arguments: &[optional("export", Kind::Uuid)],
        sql: "SELECT export_id, status, output_url, scene_id, episode_id, created_at, metadata_
                FROM webtoon.export_jobs WHERE $1::text IS NULL OR export_id = $1::text::uuid
               ORDER BY created_at DESC, export_id",
    },
    Question {
        name: "audit-entity",
        about: "all changes of one entity, newest first",
        arguments: &[required("entity_type", Kind::Text), required("entity", Kind::Uuid)],
        sql: "SELECT action, timestamp, old_value, new_value, request_id
                FROM webtoon.audit_trail
               WHERE entity_type = $1::text AND entity_id = $2::text::uuid
               ORDER BY timestamp DESC, audit_id",
    },
    Question {
        name: "audit-request",
        about: "all changes made by one request, in order",
        arguments: &[required("request", Kind::Text)],
        sql: "SELECT entity_type, entity_id, action, timestamp FROM webtoon.audit_trail
               WHERE request_id = $1::text ORDER BY timestamp, audit_id",
    },
    Question {
        name: "environment-usage",
        about: "usage_count of each environment beside the scenes that use it",
        arguments: &[],
        sql: "SELECT * FROM webtoon.environment_usage ORDER BY agrees, environment_id",
    },
    Question {
        name: "soft-references",
        about: "references without a key, by kind: how many lead nowhere, and how many are no uuid",
        arguments: &[],
        sql: "SELECT * FROM webtoon.soft_references ORDER BY source, kind",
    },
    Question {
        name: "value-drift",
        about: "values outside the documented lists",
        arguments: &[],
        sql: "SELECT * FROM webtoon.value_drift ORDER BY source, rows DESC, value",
    },
];
