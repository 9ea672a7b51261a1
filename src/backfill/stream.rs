//! Copying one source of a stream: a reader thread derives chunks, this side commits them.

use std::sync::Arc;

use sqlx::Row as _;
use sqlx::postgres::PgConnection;
use tokio::sync::mpsc;

use crate::backfill::chunk::{Chunk, ChunkLimits, read_chunk};
use crate::backfill::counts::Counts;
use crate::backfill::write::{Place, write_chunk};
use crate::derive::Deriver;
use crate::error::{Error, ErrorKind, Result};
use crate::interrupt::Stop;
use crate::pack::OpenedPack;
use crate::source::{Position, StreamSource};

/// Everything copying a source needs.
pub(super) struct Copying<'a> {
    pub(super) opened: &'a Arc<OpenedPack>,
    pub(super) stream: usize,
    pub(super) run_id: &'a str,
    pub(super) direct: Vec<bool>,
    pub(super) initial_load: bool,
    pub(super) disable_triggers: bool,
    pub(super) limits: ChunkLimits,
    pub(super) stop: &'a Stop,
    pub(super) on_chunk: &'a (dyn Fn(&Counts, usize) + Sync),
}

impl Copying<'_> {
    /// Copies what is still pending of `source`. After a failure it may be called again: it goes
    /// on after the last chunk that is committed, whether or not anybody heard of the commit.
    pub(super) async fn copy(&self, conn: &mut PgConnection, source: StreamSource) -> Result<()> {
        let name = source.name().to_owned();
        let Some((mut chunk_no, from)) = self.pending(conn, &name).await? else { return Ok(()) };
        let mut chunks = self.read_ahead(source, from);
        while let Some(chunk) = chunks.recv().await {
            let chunk = chunk?;
            let plan = &self.opened.plan;
            let place = Place {
                pack: plan,
                stream: &plan.streams[self.stream],
                run_id: self.run_id,
                source: &name,
                chunk_no,
                direct: &self.direct,
                initial_load: self.initial_load,
                disable_triggers: self.disable_triggers,
            };
            let counts = write_chunk(conn, place, &chunk).await?;
            (self.on_chunk)(&counts, chunk.bytes);
            chunk_no += 1;
            self.stop.check()?;
        }
        self.stop.check()
    }

    /// Derives chunks on a thread of its own, one ahead of the writer, so that memory holds at
    /// most three: one being read, one waiting, one being written.
    fn read_ahead(
        &self,
        mut source: StreamSource,
        mut from: Option<Position>,
    ) -> mpsc::Receiver<Result<Chunk>> {
        let (sender, receiver) = mpsc::channel(1);
        let opened = Arc::clone(self.opened);
        let (stream, limits, stop) = (self.stream, self.limits, self.stop.clone());
        tokio::task::spawn_blocking(move || {
            let plan = &opened.plan.streams[stream];
            let mut deriver = Deriver::new(plan, Arc::clone(&opened.redactor));
            let should_stop = || stop.is_requested() || sender.is_closed();
            loop {
                let chunk =
                    read_chunk(&mut source, from.as_ref(), &mut deriver, limits, &should_stop);
                let next = chunk.as_ref().ok().and_then(|chunk| chunk.next.clone());
                if sender.blocking_send(chunk).is_err() || next.is_none() || should_stop() {
                    return;
                }
                from = next;
            }
        });
        receiver
    }

    /// The pending chunk of a source; makes the first one. None: the source is done.
    async fn pending(
        &self,
        conn: &mut PgConnection,
        source: &str,
    ) -> Result<Option<(i64, Option<Position>)>> {
        let stream = &self.opened.plan.streams[self.stream].name;
        let rows = sqlx::query(
            "SELECT chunk_no, status, range_from::text AS range_from FROM toolkit.chunk \
             WHERE run_id = $1::uuid AND stream = $2 AND source = $3 ORDER BY chunk_no DESC LIMIT 1",
        )
        .bind(self.run_id)
        .bind(stream)
        .bind(source)
        .fetch_optional(&mut *conn)
        .await?;
        let Some(row) = rows else {
            sqlx::query(
                "INSERT INTO toolkit.chunk (run_id, stream, source, chunk_no) \
                 VALUES ($1::uuid, $2, $3, 0)",
            )
            .bind(self.run_id)
            .bind(stream)
            .bind(source)
            .execute(conn)
            .await?;
            return Ok(Some((0, None)));
        };
        if row.try_get::<String, _>("status")? == "done" {
            return Ok(None);
        }
        let from: Option<String> = row.try_get("range_from")?;
        let from = from
            .map(|text| {
                serde_json::from_str(&text).map_err(|e| {
                    Error::new(ErrorKind::RunMismatch, "a stored position cannot be read")
                        .advice("start over with --restart")
                        .because(e)
                })
            })
            .transpose()?;
        Ok(Some((row.try_get("chunk_no")?, from)))
    }
}
