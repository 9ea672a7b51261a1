//! The database of a webtoon studio, as `SQLAlchemy` leaves it in `SQLite`.

use std::path::Path;

use rusqlite::types::Value;

use super::dice::{Dice, iso, whole_second};
use super::prose;
use super::sqlite::{Insert, Writer, text};
use crate::{Error, ErrorKind, Result};

const FILE: &str = "webtoon.db";
const SCENES_PER_STORY: usize = 20;
const ARTIFACTS_PER_SCENE: usize = 15;
const TYPES: [&str; 10] = [
    "scene_intent",
    "panel_plan",
    "panel_plan_normalized",
    "layout_template",
    "panel_semantics",
    "render_spec",
    "render_result",
    "qc_report",
    "dialogue_suggestions",
    "art_direction",
];

/// Writes `webtoon.db` into `folder` (created if need be), with about `artifacts` artifacts and
/// everything around them in proportion; every reference holds. Returns the rows written.
pub fn webtoon(folder: &Path, seed: u64, artifacts: usize) -> Result<usize> {
    if folder.join(FILE).exists() {
        let detail = format!("{} already holds {FILE}", folder.display());
        return Err(Error::new(ErrorKind::Usage, detail).advice("name an empty folder"));
    }
    std::fs::create_dir_all(folder)
        .map_err(|error| Error::from(error).context(folder.display()))?;
    let writer = Writer::create(folder, FILE, true, include_str!("webtoon.sql"))?;
    let rows = {
        let mut studio = Studio { writer: &writer, dice: Dice::new(seed, 1), rows: 0, moment: 0 };
        studio.fill(artifacts)?;
        studio.rows
    };
    writer.finish("")?;
    Ok(rows)
}

struct Studio<'w> {
    writer: &'w Writer,
    dice: Dice,
    rows: usize,
    moment: usize,
}

impl<'w> Studio<'w> {
    fn fill(&mut self, artifacts: usize) -> Result<()> {
        let scenes = artifacts.div_ceil(ARTIFACTS_PER_SCENE).max(1);
        let stories = scenes.div_ceil(SCENES_PER_STORY);
        let projects = self.projects(stories.div_ceil(4))?;
        let presets = self.presets(&projects, 4 + stories)?;
        let environments = self.environments(1 + stories)?;
        let stories = self.stories(&projects, stories)?;
        self.characters(&projects, &stories)?;
        let (scenes, renders) = self.scenes(&stories, &environments, scenes, artifacts)?;
        self.episodes(&stories, &scenes, &presets)?;
        self.images(&renders)?;
        self.audit(&scenes)
    }

    fn table<const N: usize>(&self, table: &str) -> Result<Insert<'w>> {
        let places = vec!["?"; N].join(", ");
        self.writer.prepare(&format!("INSERT INTO {table} VALUES ({places})"))
    }

    fn put<const N: usize>(&mut self, insert: &mut Insert<'_>, row: &[Value; N]) -> Result<()> {
        self.rows += 1;
        insert.row(row)
    }

    fn id(&mut self) -> Value {
        text(self.dice.uuid_hex())
    }

    /// With six digits of fraction from the application, without one from `CURRENT_TIMESTAMP`.
    fn time(&mut self) -> Value {
        self.moment += 1;
        let micros = self.dice.moment(self.moment, 1 << 22);
        if self.dice.chance(50) {
            return text(iso(whole_second(micros))[..19].replace('T', " "));
        }
        let fraction = micros.rem_euclid(1_000_000);
        text(format!("{}.{fraction:06}", iso(whole_second(micros))[..19].replace('T', " ")))
    }

    fn flag(&mut self) -> Value {
        Value::Integer(i64::from(self.dice.chance(50)))
    }

    fn maybe(&mut self, value: Value) -> Value {
        if self.dice.chance(70) { value } else { Value::Null }
    }

    fn prose(&mut self) -> Value {
        text(prose::sentence(&mut self.dice))
    }

    /// As `json.dumps` writes it: ASCII, with the other letters escaped.
    fn json(&mut self) -> Value {
        let (weight, words) = (self.dice.unit(), prose::sentence(&mut self.dice));
        let words = serde_json::Value::String(words);
        text(format!(
            "{{\"note\": {words}, \"weight\": {weight}, \"title\": \"\\ud504\\ub9ac\", \"n\": [1, 2.0, null]}}"
        ))
    }

    /// None given: the text null; None left out: SQL NULL.
    fn json_or_null(&mut self) -> Value {
        match self.dice.below(4) {
            0 => Value::Null,
            1 => text("null"),
            2 => Value::Integer(self.dice.between(0, 9_999)),
            _ => self.json(),
        }
    }

    fn projects(&mut self, count: usize) -> Result<Vec<Value>> {
        let mut insert = self.table::<3>("projects")?;
        (0..count.max(1))
            .map(|_| {
                let (id, row) = (self.id(), [self.prose(), self.time()]);
                let [name, created] = row;
                self.put(&mut insert, &[id.clone(), name, created])?;
                Ok(id)
            })
            .collect()
    }

    /// Chains of presets, each inheriting from an earlier one.
    fn presets(&mut self, projects: &[Value], count: usize) -> Result<Vec<Value>> {
        let mut insert = self.table::<12>("style_presets")?;
        let mut ids: Vec<Value> = Vec::with_capacity(count);
        for ordinal in 0..count {
            let id = self.id();
            let parent = if ordinal % 4 == 0 { Value::Null } else { ids[ordinal - 1].clone() };
            let project = projects[self.dice.index(projects.len())].clone();
            let project = self.maybe(project);
            let config = text(format!("{{\"grain\": {}, \"line\": null}}", ordinal % 3));
            let row = [
                id.clone(),
                project,
                parent,
                text(if ordinal % 2 == 0 { "story" } else { "image" }),
                text(format!("preset_{ordinal}")),
                self.prose(),
                Value::Null,
                config,
                self.flag(),
                self.flag(),
                self.time(),
                self.time(),
            ];
            self.put(&mut insert, &row)?;
            ids.push(id);
        }
        Ok(ids)
    }

    fn environments(&mut self, count: usize) -> Result<Vec<Value>> {
        let mut insert = self.table::<8>("environment_anchors")?;
        (0..count)
            .map(|_| {
                let id = self.id();
                let row = [
                    id.clone(),
                    self.prose(),
                    Value::Integer(self.dice.between(0, 30)),
                    text("descriptive"),
                    text("[]"),
                    text("[\"window\"]"),
                    self.flag(),
                    self.time(),
                ];
                self.put(&mut insert, &row)?;
                Ok(id)
            })
            .collect()
    }

    fn stories(&mut self, projects: &[Value], count: usize) -> Result<Vec<Value>> {
        let mut insert = self.table::<12>("stories")?;
        (0..count)
            .map(|ordinal| {
                let id = self.id();
                let author = text(self.dice.uuid_dashed());
                let row = [
                    id.clone(),
                    projects[ordinal % projects.len()].clone(),
                    self.prose(),
                    text(format!("preset_{}", ordinal % 7)),
                    text(self.dice.pick(&["idle", "succeeded", "failed", "queued"])),
                    Value::Null,
                    self.json_or_null(),
                    self.time(),
                    self.time(),
                    self.time(),
                    self.maybe(author.clone()),
                    author,
                ];
                self.put(&mut insert, &row)?;
                Ok(id)
            })
            .collect()
    }

    fn characters(&mut self, projects: &[Value], stories: &[Value]) -> Result<()> {
        let mut insert = self.table::<18>("characters")?;
        let mut link = self.table::<4>("story_characters")?;
        let mut reference = self.table::<8>("character_reference_images")?;
        let mut variant = self.table::<13>("character_variants")?;
        let mut suggestion = self.table::<6>("character_variant_suggestions")?;
        for (ordinal, story) in stories.iter().enumerate() {
            let (id, image) = (self.id(), self.id());
            let global = ordinal % 9 == 8;
            let project = projects[ordinal % projects.len()].clone();
            let row = [
                id.clone(),
                if global { Value::Null } else { project },
                if global { Value::Null } else { text(code(ordinal / projects.len())) },
                self.prose(),
                self.prose(),
                text(self.dice.pick(&["protagonist", "secondary", "main"])),
                text(self.dice.pick(&["male", "female", "non_binary"])),
                text("adult"),
                self.json_or_null(),
                Value::Null,
                Value::Null,
                self.prose(),
                Value::Null,
                Value::Null,
                Value::Null,
                self.flag(),
                self.flag(),
                self.time(),
            ];
            self.put(&mut insert, &row)?;
            let created = self.time();
            self.put(&mut link, &[story.clone(), id.clone(), Value::Null, created.clone()])?;
            let other = &stories[(ordinal + 1) % stories.len()];
            if stories.len() > 1 {
                let row = [other.clone(), id.clone(), self.prose(), created];
                self.put(&mut link, &row)?;
            }
            let row = [
                image.clone(),
                id.clone(),
                text("/media/face.png"),
                text("face"),
                self.flag(),
                self.flag(),
                self.json(),
                self.time(),
            ];
            self.put(&mut reference, &row)?;
            let row = [
                self.id(),
                id.clone(),
                self.maybe(story.clone()),
                text("base"),
                Value::Null,
                Value::Null,
                text("{}"),
                self.json(),
                self.maybe(image),
                text(format!("[\"{}\"]", self.dice.uuid_dashed())),
                self.flag(),
                self.flag(),
                self.time(),
            ];
            self.put(&mut variant, &row)?;
            let row = [self.id(), story.clone(), id, text("mood_change"), self.json(), self.time()];
            self.put(&mut suggestion, &row)?;
        }
        Ok(())
    }

    /// Scenes with their artifacts; returns the scenes and the rendered artifacts.
    fn scenes(
        &mut self,
        stories: &[Value],
        environments: &[Value],
        count: usize,
        artifacts: usize,
    ) -> Result<(Vec<Value>, Vec<Value>)> {
        let mut insert = self.table::<12>("scenes")?;
        let mut dialogue = self.table::<4>("dialogue_layers")?;
        let mut layer = self.table::<5>("layers")?;
        let (mut scenes, mut renders) = (Vec::with_capacity(count), Vec::new());
        let mut left = artifacts;
        for ordinal in 0..count {
            let id = self.id();
            let wanted = left.min(ARTIFACTS_PER_SCENE);
            left -= wanted;
            let rendered = self.artifacts(&id, wanted)?;
            let environment = environments[self.dice.index(environments.len())].clone();
            let row = [
                id.clone(),
                stories[ordinal / SCENES_PER_STORY].clone(),
                self.maybe(environment),
                self.prose(),
                text(self.dice.pick(&["critical", "build", "climax"])),
                self.flag(),
                if ordinal % 6 == 0 { text("preset_1") } else { Value::Null },
                rendered.clone().unwrap_or(Value::Null),
                self.time(),
                self.time(),
                Value::Null,
                Value::Null,
            ];
            self.put(&mut insert, &row)?;
            if ordinal % 2 == 0 {
                let row = [self.id(), id.clone(), text("[{\"text\": \"hm\"}]"), self.time()];
                self.put(&mut dialogue, &row)?;
            }
            if ordinal % 5 == 0 {
                let row = [self.id(), id.clone(), text("sfx"), text("[]"), self.time()];
                self.put(&mut layer, &row)?;
            }
            renders.extend(rendered);
            scenes.push(id);
        }
        Ok((scenes, renders))
    }

    /// Versions 1, 2, 3 within each type, each derived from the one before.
    fn artifacts(&mut self, scene: &Value, count: usize) -> Result<Option<Value>> {
        let mut insert = self.table::<9>("artifacts")?;
        let mut newest: [(i64, Value); TYPES.len()] = std::array::from_fn(|_| (0, Value::Null));
        let mut rendered = None;
        for ordinal in 0..count {
            let place = if ordinal < TYPES.len() { ordinal } else { self.dice.index(TYPES.len()) };
            let id = self.id();
            let (version, parent) = newest[place].clone();
            let row = [
                id.clone(),
                scene.clone(),
                text(TYPES[place]),
                Value::Integer(version + 1),
                parent,
                self.json(),
                self.time(),
                Value::Null,
                Value::Null,
            ];
            self.put(&mut insert, &row)?;
            if TYPES[place] == "render_result" {
                rendered = Some(id.clone());
            }
            newest[place] = (version + 1, id);
        }
        Ok(rendered)
    }

    fn episodes(&mut self, stories: &[Value], scenes: &[Value], presets: &[Value]) -> Result<()> {
        let mut insert = self.table::<6>("episodes")?;
        let mut order = self.table::<4>("episode_scenes")?;
        let mut asset = self.table::<4>("episode_assets")?;
        let mut export = self.table::<7>("exports")?;
        for (ordinal, story) in stories.iter().enumerate() {
            let id = self.id();
            let row = [
                id.clone(),
                story.clone(),
                self.prose(),
                text("default"),
                text("draft"),
                self.time(),
            ];
            self.put(&mut insert, &row)?;
            let first = ordinal * SCENES_PER_STORY;
            for (place, scene) in scenes.iter().skip(first).take(SCENES_PER_STORY).enumerate() {
                let place = Value::Integer(i64::try_from(place).unwrap_or(i64::MAX));
                let row = [self.id(), id.clone(), scene.clone(), place];
                self.put(&mut order, &row)?;
            }
            let preset = presets[self.dice.index(presets.len())].clone();
            let row = [self.id(), id.clone(), text("style"), preset];
            self.put(&mut asset, &row)?;
            let row = [
                self.id(),
                Value::Null,
                self.maybe(id),
                text("succeeded"),
                Value::Null,
                self.json(),
                self.time(),
            ];
            self.put(&mut export, &row)?;
        }
        Ok(())
    }

    fn images(&mut self, renders: &[Value]) -> Result<()> {
        let mut insert = self.table::<5>("images")?;
        for render in renders {
            let row = [
                self.id(),
                self.maybe(render.clone()),
                text("/media/panel.png"),
                self.json(),
                self.time(),
            ];
            self.put(&mut insert, &row)?;
        }
        Ok(())
    }

    /// The trail outlives what it is about: every fourth entry is about a scene that is gone.
    fn audit(&mut self, scenes: &[Value]) -> Result<()> {
        let mut insert = self.table::<8>("audit_logs")?;
        for (ordinal, scene) in scenes.iter().enumerate() {
            let about = if ordinal % 4 == 3 { self.id() } else { scene.clone() };
            let row = [
                self.id(),
                text("scene"),
                about,
                text("created"),
                self.time(),
                text(self.dice.uuid_dashed()),
                self.json_or_null(),
                self.json_or_null(),
            ];
            self.put(&mut insert, &row)?;
        }
        Ok(())
    }
}

/// `CHAR_A`, `CHAR_B`, ... `CHAR_AA`, counted from 0.
fn code(ordinal: usize) -> String {
    let (mut rest, mut letters) = (ordinal + 1, Vec::new());
    while rest > 0 {
        letters.push(b'A' + u8::try_from((rest - 1) % 26).unwrap_or(0));
        rest = (rest - 1) / 26;
    }
    letters.reverse();
    format!("CHAR_{}", String::from_utf8_lossy(&letters))
}
