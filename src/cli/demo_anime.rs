//! The demo's last chapter: a graph of documents, and what is derived from it.

use std::time::{Duration, Instant};

use super::Report;
use super::demo::Story;
use crate::anime::{derived, ingest, parity, sidecar};
use crate::demo::generate::anime::enriched_artifact;
use crate::error::{Error, ErrorKind, Result};
use crate::manners::Manners;
use crate::pack::Pack;
use crate::parity::{Against, Level, Verdict};
use crate::qdrant::embed::embedder;
use crate::qdrant::{Target, open, outbox};
use crate::store::Postgres;

/// Entries of the artifact.
const ENTRIES: usize = 40;

impl Story<'_> {
    /// Ingests an artifact, brings its entities to the collection, and proves all three stores the
    /// same.
    pub(super) async fn anime(&self, postgres: &Postgres, seed: u64) -> Result<()> {
        let artifact = self.folder.join("anime_database.json");
        let shown = artifact.display();
        self.chapter(
            "6. A graph, and what is derived from it",
            &format!("toolkit backfill --pack anime --source {shown}"),
            "Documents of another application become anime, characters, episodes and edges. A sidecar\n\
             beside the artifact holds the state of ingestion, and a Qdrant collection (here the\n\
             engine in this process) follows Postgres through an outbox.",
        )?;
        enriched_artifact(&artifact, seed, ENTRIES)?;
        let stop = self.output.stop();
        let pack = Pack::find(crate::anime::PACK)?;
        let mut conn = postgres.dedicated().await?;
        let options = crate::migrate::Options { stop: stop.clone(), ..Default::default() };
        crate::migrate::up(&mut conn, &[crate::anime::PACK], &options).await?;
        let roots = [artifact.clone()];
        let options = ingest::Options::default();
        let ready = ingest::prepare(&self.settings, postgres, &pack, &roots, options).await?;
        let report = ingest::run(postgres, &ready, stop, &|_| ()).await?;
        self.say(report.text())?;
        let path = sidecar::path_of(&artifact);
        self.say(sidecar::write(&mut conn, &artifact, &path, false).await?.text())?;
        drop(conn);

        let mut against = vec![Against::Source, Against::Sidecar];
        if cfg!(feature = "embedded-qdrant") {
            against.push(Against::Qdrant);
            self.say("\n$ toolkit outbox drain")?;
            let target = Target::new(open(&self.settings).await?, &self.settings)?;
            let embedder = embedder(&self.settings)?;
            let options = outbox::Options { batch: self.settings.qdrant.batch, workers: 2 };
            let tally = outbox::drain(postgres, &target, &embedder, options, stop).await?;
            self.say(tally.text())?;
        }
        let names: Vec<&str> = against.iter().map(|against| against.name()).collect();
        self.say(format!(
            "\n$ toolkit verify-parity --pack anime --source {shown} --against {}\n",
            names.join(",")
        ))?;
        self.three_ways(postgres, &pack, &roots, &against).await
    }

    async fn three_ways(
        &self,
        postgres: &Postgres,
        pack: &Pack,
        roots: &[std::path::PathBuf],
        against: &[Against],
    ) -> Result<()> {
        let (started, stop) = (Instant::now(), self.output.stop());
        let options = derived::Options { differences_max: 100, settle: Duration::ZERO };
        let compared =
            derived::compare(&self.settings, postgres, against, roots, &options, stop).await?;
        let of_sources = parity::Options {
            level: Level::Full,
            differences_max: 100,
            manners: Manners::default(),
        };
        let sources =
            parity::verify(&self.settings, postgres, pack, roots, &of_sources, stop, &|_| ())
                .await?;
        let report =
            derived::record(postgres, pack, roots, Some(sources), compared, (started, &options));
        let report = report.await?;
        self.say(report.text())?;
        if report.verdict == Verdict::Clean {
            return Ok(());
        }
        let detail = format!("expected no difference, found {}", report.differing_rows);
        Err(Error::new(ErrorKind::Bug, detail).advice("please report it with the seed"))
    }
}
