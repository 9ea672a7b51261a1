//! What came from what in the other packs; circles are reported, not followed.

use serde_json::json;
use toolkit::ErrorKind;
use toolkit::graph::lineage::{Subject, trace};

use crate::support::stdout;
use crate::support::world::World;

fn id(number: u8) -> String {
    format!("00000000-0000-0000-0000-0000000000{number:02x}")
}

async fn own(pack: &str, statements: &str) -> World {
    let world = World::builtin(pack, std::path::Path::new("nowhere")).await;
    world.sql(&statements.replace('#', "00000000-0000-0000-0000-0000000000")).await;
    world
}

async fn depths(world: &World, subject: Subject, id: &str) -> Vec<(i32, String, Option<String>)> {
    let mut connection = world.postgres.dedicated().await.unwrap();
    let found = trace(&mut connection, subject, id, 1_000).await.unwrap();
    found.steps.into_iter().map(|step| (step.depth, step.id, step.problem)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn artifacts_and_styles_are_traced_and_their_circles_reported() {
    let world = own(
        "webtoon",
        "INSERT INTO webtoon.projects (project_id, name) VALUES ('#01', 'p');
         INSERT INTO webtoon.stories (story_id, project_id, title, default_image_style)
             VALUES ('#02', '#01', 's', 'soft');
         INSERT INTO webtoon.scenes (scene_id, story_id, source_text) VALUES ('#03', '#02', 'x');
         INSERT INTO webtoon.artifacts (artifact_id, scene_id, type, version) VALUES
             ('#10', '#03', 'plan', 1), ('#11', '#03', 'plan', 2), ('#12', '#03', 'plan', 3),
             ('#18', '#03', 'qc', 1), ('#19', '#03', 'qc', 2);
         UPDATE webtoon.artifacts SET parent_id = '#10' WHERE artifact_id = '#11';
         UPDATE webtoon.artifacts SET parent_id = '#11' WHERE artifact_id = '#12';
         UPDATE webtoon.artifacts SET parent_id = '#19' WHERE artifact_id = '#18';
         UPDATE webtoon.artifacts SET parent_id = '#18' WHERE artifact_id = '#19';
         INSERT INTO webtoon.style_presets (preset_id, style_type, name, label, style_config)
             VALUES ('#20', 'image', 'a', 'a', '{\"x\": 1, \"y\": 1}'),
                    ('#21', 'image', 'b', 'b', '{\"y\": 2}');
         UPDATE webtoon.style_presets SET parent_id = '#20' WHERE preset_id = '#21';",
    )
    .await;
    let up = depths(&world, Subject::ArtifactUp, &id(0x12)).await;
    assert_eq!(up, [(0, id(0x12), None), (1, id(0x11), None), (2, id(0x10), None)]);
    let down = depths(&world, Subject::ArtifactDown, &id(0x10)).await;
    assert_eq!(down, [(0, id(0x10), None), (1, id(0x11), None), (2, id(0x12), None)]);
    for subject in [Subject::ArtifactUp, Subject::ArtifactDown] {
        let circle = depths(&world, subject, &id(0x18)).await;
        assert_eq!(circle.last(), Some(&(2, id(0x18), Some("cycle".to_owned()))));
    }
    let mut connection = world.postgres.dedicated().await.unwrap();
    let style = trace(&mut connection, Subject::Style, &id(0x21), 10).await.unwrap();
    assert_eq!((style.effective, style.depth), (Some(json!({"x": 1, "y": 2})), 1));
    let short = trace(&mut connection, Subject::ArtifactUp, &id(0x12), 1).await.unwrap();
    assert_eq!((short.count, short.meta.truncated), (2, true));
    for (id, kind) in [("no", ErrorKind::Usage), (&*id(0x77), ErrorKind::Usage)] {
        let refused = trace(&mut connection, Subject::ArtifactUp, id, 5).await.unwrap_err();
        assert_eq!(refused.kind(), kind);
    }
    let refused = trace(&mut connection, Subject::Run, "r", 5).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Migration);
    let shown = stdout(&world.run(&["graph", "lineage", "artifact", &id(0x18)]));
    assert!(shown.contains("a circle closes at"), "{shown}");
    let dot = stdout(&world.run(&["graph", "lineage", "artifact", &id(0x10), "--down", "--dot"]));
    assert!(dot.starts_with("digraph toolkit {") && dot.contains("derived"), "{dot}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_leads_to_its_steps_report_and_questions_and_a_paper_to_its_vectors() {
    let world = own(
        "unified",
        "INSERT INTO workflow.run_records (run_id, record_kind, step, record_key, parent_run_id, question)
             VALUES ('r0', 'run', '', 'main', 'r1', NULL), ('r1', 'run', '', 'main', 'r0', NULL),
                    ('r1', 'step', 'prep', 'main', NULL, NULL),
                    ('r1', 'report', 'report', 'main', NULL, NULL),
                    ('r1', 'question', 'agentic', 'q1', NULL, 'why?');
         INSERT INTO ingestion.documents (doc_id, path) VALUES ('d1', '/p');
         INSERT INTO ingestion.run_documents (run_id, doc_id) VALUES ('r1', 'd1');
         INSERT INTO indexing.vectors (id, doc_id, chunk_id, page) VALUES (1, 'd1', 'c1', 4);",
    )
    .await;
    let mut connection = world.postgres.dedicated().await.unwrap();
    let run = trace(&mut connection, Subject::Run, "r1", 10).await.unwrap();
    let kinds: Vec<(i32, &str, &str)> =
        run.steps.iter().map(|step| (step.depth, step.kind.as_str(), step.id.as_str())).collect();
    assert_eq!(
        kinds,
        [
            (0, "run", "r1"),
            (1, "run", "r0"),
            (2, "run", "r1"),
            (1, "step", "prep"),
            (1, "report", "main"),
            (2, "question", "q1"),
            (1, "document", "d1"),
        ]
    );
    assert_eq!(run.cycles, ["r1"]);
    let paper = trace(&mut connection, Subject::Document, "d1", 10).await.unwrap();
    let ids: Vec<&str> = paper.steps.iter().map(|step| step.id.as_str()).collect();
    assert_eq!(ids, ["d1", "r1", "c1", "1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn media_are_related_both_ways_and_a_circle_of_them_ends() {
    let world = own("toolkit", include_str!("../../migrations/media/V1__media.sql")).await;
    world
        .sql(
            &"INSERT INTO media.media (id, external_id, media_type, media_class, title)
             SELECT ('00000000-0000-0000-0000-00000000000' || n)::uuid, 'e' || n, 'anime', 'video',
                    'm' || n FROM generate_series(1, 4) AS n;
         INSERT INTO media.relationships (media_id, related_media_id, relation_type) VALUES
             ('#01', '#02', 'sequel'), ('#02', '#03', 'sequel'), ('#03', '#01', 'adaptation');"
                .replace('#', "00000000-0000-0000-0000-0000000000"),
        )
        .await;
    let found = depths(&world, Subject::Media, &id(1)).await;
    let found: Vec<(i32, String)> = found.into_iter().map(|(depth, id, _)| (depth, id)).collect();
    assert_eq!(found, [(0, id(1)), (1, id(3)), (1, id(2))]);
}
