//! A pack, its SQLite file and a target, driven through the phases by the built binary.

use std::process::{Command, Output};

use serde_json::Value;

use crate::support::backfill::Move;
use crate::support::{stderr, stdout};

pub(crate) const TABLES: &str = "CREATE SCHEMA app; \
    CREATE TABLE app.item (id bigint CONSTRAINT item_pkey PRIMARY KEY, name text NOT NULL, \
        amount bigint);";

pub(crate) const STREAMS: &str = "[phase]\nclean_runs = 2\nrelease_window = \"0s\"\n\n\
    [[stream]]\nname = \"items\"\nsource = { sqlite = \"app.sqlite\", table = \"item\" }\n\
    target = \"app.item\"\nkey = [\"id\"]\n";

pub(crate) const ROWS: &str = "PRAGMA journal_mode = WAL; \
    CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT NOT NULL, amount INTEGER); \
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200) \
    INSERT INTO item SELECT i, 'item ' || i, i * 10 FROM n;";

/// See the module.
pub(crate) struct Stage {
    pub(crate) scene: Move,
}

impl Stage {
    /// A small pack of one table, migrated, with 200 rows in its source.
    pub(crate) async fn small() -> Self {
        Self { scene: Move::own(TABLES, STREAMS, ROWS).await }
    }

    pub(crate) fn of(scene: Move) -> Self {
        Self { scene }
    }

    /// `toolkit WHAT... --pack P --source S MORE...`, printing JSON.
    pub(crate) fn command(&self, what: &[&str], more: &[&str]) -> Command {
        let mut command = self.scene.command(&["--format", "json"]);
        command.args(what).args(["--pack", &self.scene.pack]);
        command.arg("--source").arg(&self.scene.source).args(more);
        command
    }

    pub(crate) fn run(&self, what: &[&str], more: &[&str]) -> Output {
        self.command(what, more).output().unwrap()
    }

    /// Runs a command that has to exit with `code`; its JSON.
    #[track_caller]
    pub(crate) fn exits(&self, code: i32, what: &[&str], more: &[&str]) -> Value {
        let output = self.run(what, more);
        let shown = format!("{what:?} {more:?}: {}{}", stdout(&output), stderr(&output));
        assert_eq!(output.status.code(), Some(code), "{shown}");
        serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
    }

    #[track_caller]
    pub(crate) fn advance(&self, code: i32, more: &[&str]) -> Value {
        self.exits(code, &["phase", "advance"], more)
    }

    /// The phase and the route.
    pub(crate) async fn place(&self) -> String {
        let query = "SELECT phase || ' ' || reads FROM toolkit.phase";
        self.scene.text(query).await
    }

    /// Findings of what is missing, as `name: finding`.
    #[track_caller]
    pub(crate) fn missing(&self) -> Vec<String> {
        let status = self.run(&["phase", "status"], &[]);
        let found: Value = serde_json::from_slice(&status.stdout)
            .unwrap_or_else(|_| panic!("{}", stderr(&status)));
        let checks = found["packs"][0]["gate"]["checks"].as_array().expect("checks").clone();
        checks
            .iter()
            .filter(|check| check["verdict"] != "met")
            .map(|check| {
                format!(
                    "{}: {}",
                    check["name"].as_str().unwrap(),
                    check["finding"].as_str().unwrap()
                )
            })
            .collect()
    }

    /// Up to phase 2, everything copied and verified as often as the gate asks.
    pub(crate) fn ready_for_cutover(&self) {
        self.advance(0, &[]);
        self.exits(0, &["dual-write", "enable"], &[]);
        self.exits(0, &["dual-write", "run"], &["--until-caught-up"]);
        self.advance(0, &[]);
        self.exits(0, &["backfill"], &[]);
        self.exits(0, &["dual-write", "run"], &["--until-caught-up"]);
        for _ in 0..2 {
            self.exits(0, &["verify-parity"], &[]);
        }
    }

    /// Up to phase 3.
    pub(crate) fn cut_over(&self) {
        self.ready_for_cutover();
        self.advance(0, &[]);
    }

    /// Writes to the SQLite file as an application does; the error's text if it is refused.
    pub(crate) fn write(&self, statement: &str) -> Result<usize, String> {
        let file = self.scene.sqlite();
        file.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
        file.execute(statement, []).map_err(|error| error.to_string())
    }
}
