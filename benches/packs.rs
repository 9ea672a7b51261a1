//! The packs `webtoon` and `media` at scale: backfill against `psql \copy` of the very same rows into
//! tables with the same keys, references and indexes, and the time of a question about one user from
//! ten thousand to millions of rows.
//!
//! Half a million artifacts and a million rows of `user_media`; `TOOLKIT_BENCH_LARGE=1`: a million and
//! five million; `TOOLKIT_BENCH_SHORT=1`: a twentieth.

// A benchmark prints its figures.
#![allow(clippy::print_stdout, clippy::print_stderr, missing_docs)]

mod shared;

use std::path::{Path, PathBuf};
use std::time::Instant;

use sqlx::Connection as _;
use sqlx::postgres::PgConnection;
use toolkit::backfill::{self, Options};
use toolkit::config::{Database, Settings};
use toolkit::demo::generate::{self, MediaShape};
use toolkit::interrupt::Stop;
use toolkit::pack::Pack;
use toolkit::store::embedded::Embedded;
use toolkit::store::{Postgres, sql};

use shared::{Fallible, median, peak_mib, scratch};

/// Questions about one user: as many of each size are timed, and the middle one counts.
const QUESTIONS: usize = 201;

/// Tables in an order in which references hold, or are deferrable.
const WEBTOON: &[&str] = &[
    "webtoon.projects",
    "webtoon.stories",
    "webtoon.environment_anchors",
    "webtoon.scenes",
    "webtoon.dialogue_layers",
    "webtoon.layers",
    "webtoon.characters",
    "webtoon.story_characters",
    "webtoon.character_reference_images",
    "webtoon.character_variants",
    "webtoon.character_variant_suggestions",
    "webtoon.artifacts",
    "webtoon.images",
    "webtoon.style_presets",
    "webtoon.episodes",
    "webtoon.episode_scenes",
    "webtoon.episode_assets",
    "webtoon.exports",
    "webtoon.audit_logs",
];

const MEDIA: &[&str] = &[
    "media.media",
    "users.users",
    "media.relationships",
    "media.external_links",
    "interaction.user_lists",
    "interaction.list_items",
    "interaction.user_media",
];

struct Bench {
    settings: Settings,
    environment: Vec<(&'static str, String)>,
    scratch: PathBuf,
}

fn main() -> Fallible<()> {
    let is_large = std::env::var_os("TOOLKIT_BENCH_LARGE").is_some();
    let (artifacts, tracked) = match (shared::is_short(), is_large) {
        (true, _) => (25_000, 50_000),
        (false, false) => (500_000, 1_000_000),
        (false, true) => (1_000_000, 5_000_000),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let scratch = scratch()?;
        let settings = Settings::new(Database::Embedded, scratch.path().join("state"));
        let lease = Embedded::new(&settings).acquire().await?;
        let environment = lease.client_environment();
        let bench = Bench { settings, environment, scratch: scratch.path().to_path_buf() };
        println!("{:-<98}", "");
        println!("backfill against psql \\copy of the same rows into tables with the same keys and indexes");
        bench.webtoon(artifacts).await?;
        bench.media(tracked).await?;
        println!("peak resident memory of this process: {} MiB", peak_mib()?);
        lease.release().await?;
        Ok(())
    })
}

impl Bench {
    async fn webtoon(&self, artifacts: usize) -> Fallible<()> {
        let source = self.scratch.join("webtoon");
        eprintln!("generating {artifacts} artifacts");
        generate::webtoon(&source, 1, artifacts)?;
        self.compare("webtoon", WEBTOON, &source).await?;
        std::fs::remove_dir_all(&source)?;
        Ok(())
    }

    async fn media(&self, tracked: usize) -> Fallible<()> {
        let source = self.scratch.join("media");
        let users = (tracked / 50).max(200);
        eprintln!("generating {tracked} rows of user_media");
        generate::media(&source, 1, MediaShape { items: 20_000, users, tracked })?;
        self.compare("media", MEDIA, &source).await?;
        std::fs::remove_dir_all(&source)?;
        self.questions(tracked).await
    }

    /// Loads the whole pack into its empty tables, and the same rows by `\copy`.
    async fn compare(&self, pack: &str, tables: &[&str], source: &Path) -> Fallible<()> {
        let postgres = Postgres::connect(&self.settings).await?;
        let mut conn = postgres.dedicated().await?;
        toolkit::migrate::up(&mut conn, &[pack], &toolkit::migrate::Options::default()).await?;
        let loaded = self.load(&postgres, pack, source).await?;
        let again = self.load(&postgres, pack, source).await?;
        println!("\n{pack}: {}", self.export(tables)?);
        empty(&mut conn, tables).await?;
        let copied = self.copy(tables)?;
        show("psql \\copy into the indexed tables", copied, copied);
        show("toolkit, first load of the empty tables", loaded, copied);
        show("toolkit, every row there and unchanged", again, copied);
        conn.close().await?;
        postgres.close().await?;
        Ok(())
    }

    async fn load(&self, postgres: &Postgres, pack: &str, source: &Path) -> Fallible<f64> {
        let started = Instant::now();
        let options = Options::default();
        let roots = vec![source.to_path_buf()];
        let preparation =
            backfill::prepare(&self.settings, postgres, Pack::find(pack)?, &roots, options).await?;
        let report = backfill::run(postgres, &preparation, &Stop::new(), &|_| ()).await?;
        assert_eq!(report.rejects, 0, "rejects");
        Ok(started.elapsed().as_secs_f64())
    }

    /// Runs a script of psql in one transaction; what it printed.
    fn psql(&self, script: &str) -> Fallible<String> {
        let file = self.scratch.join("script.sql");
        std::fs::write(&file, script)?;
        let done = std::process::Command::new("psql")
            .envs(self.environment.iter().map(|(name, value)| (*name, value.as_str())))
            .args(["-q", "-X", "-A", "-t", "-1", "-v", "ON_ERROR_STOP=1", "-f"])
            .arg(&file)
            .output()?;
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        Ok(String::from_utf8(done.stdout)?.trim().to_owned())
    }

    fn csv(&self, table: &str) -> PathBuf {
        self.scratch.join(format!("{table}.csv"))
    }

    /// The rows as files that `\copy` reads; says how many of which.
    fn export(&self, tables: &[&str]) -> Fallible<String> {
        let mut script = String::new();
        let mut counts = Vec::new();
        for table in tables {
            let csv = self.csv(table);
            script.push_str(&format!(
                "\\copy (SELECT * FROM {table}) TO '{}' WITH (FORMAT csv)\n",
                csv.display()
            ));
            counts.push(format!(
                "SELECT count(*) || ' rows of {table}' AS t, count(*) AS n FROM {table}"
            ));
        }
        script.push_str(&format!(
            "SELECT sum(n) || ' rows, ' || (array_agg(t ORDER BY n DESC))[1] FROM ({}) AS c;\n",
            counts.join(" UNION ALL ")
        ));
        self.psql(&script)
    }

    fn copy(&self, tables: &[&str]) -> Fallible<f64> {
        let mut script = "SET CONSTRAINTS ALL DEFERRED;\n".to_owned();
        for table in tables {
            let csv = self.csv(table);
            script
                .push_str(&format!("\\copy {table} FROM '{}' WITH (FORMAT csv)\n", csv.display()));
        }
        let started = Instant::now();
        self.psql(&script)?;
        Ok(started.elapsed().as_secs_f64())
    }

    /// The same questions over more and more rows: each user has fifty.
    async fn questions(&self, largest: usize) -> Fallible<()> {
        let postgres = Postgres::connect(&self.settings).await?;
        let mut conn = postgres.dedicated().await?;
        println!("\nmedia: one user's 50 rows, by status and as a whole, out of");
        let mut first = None;
        for rows in [10_000, 100_000, 1_000_000, 5_000_000] {
            if rows > largest {
                continue;
            }
            fill(&mut conn, rows).await?;
            let micros = ask(&mut conn, rows / 50).await? * 1e6;
            let first = *first.get_or_insert(micros);
            println!("  {rows:>10} rows {micros:>8.0} us   {:>5.2}x", micros / first);
        }
        conn.close().await?;
        postgres.close().await?;
        Ok(())
    }
}

async fn fill(conn: &mut PgConnection, rows: usize) -> Fallible<()> {
    let statement = format!(
        "TRUNCATE users.users CASCADE;
         INSERT INTO users.users (id, email) SELECT md5('u' || n)::uuid, n || '@x'
             FROM generate_series(1, {}) AS n;
         ALTER TABLE interaction.user_media DISABLE TRIGGER ALL;
         INSERT INTO interaction.user_media (user_id, media_id, status)
             SELECT u.id, m.id, CASE WHEN m.n % 3 = 0 THEN 'completed' ELSE 'planned' END
             FROM users.users AS u, (SELECT id, row_number() OVER () AS n FROM media.media
                                     ORDER BY id LIMIT 50) AS m;
         ALTER TABLE interaction.user_media ENABLE TRIGGER ALL",
        rows / 50
    );
    sqlx::raw_sql(sql(statement)).execute(&mut *conn).await?;
    shared::vacuum(conn, "interaction.user_media").await
}

async fn ask(conn: &mut PgConnection, users: usize) -> Fallible<f64> {
    let mut seconds = Vec::with_capacity(QUESTIONS);
    for number in 0..QUESTIONS {
        let user = (number * 7_919) % users + 1;
        let started = Instant::now();
        for statement in [
            "SELECT status, rating, media_id FROM interaction.user_media \
             WHERE user_id = md5('u' || $1)::uuid AND status = 'completed'",
            "SELECT status, count(*), avg(rating) FROM interaction.user_media \
             WHERE user_id = md5('u' || $1)::uuid GROUP BY status",
        ] {
            let found =
                sqlx::query(statement).bind(i64::try_from(user)?).fetch_all(&mut *conn).await?;
            assert!(!found.is_empty());
        }
        seconds.push(started.elapsed().as_secs_f64());
    }
    Ok(median(seconds))
}

async fn empty(conn: &mut PgConnection, tables: &[&str]) -> Fallible<()> {
    let statement = format!("TRUNCATE {} CASCADE; CHECKPOINT", tables.join(", "));
    sqlx::raw_sql(sql(statement)).execute(conn).await?;
    Ok(())
}

fn show(what: &str, seconds: f64, baseline: f64) {
    println!("  {what:<44} {seconds:>7.2} s   {:>5.2}x", seconds / baseline);
}
