//! Copying one source of a stream: each worker has a reader thread that derives chunks, and a
//! connection that commits them.

use std::sync::Arc;
use std::time::Duration;

use sqlx::Connection as _;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{JoinHandle, JoinSet};

use crate::backfill::chunk::{Chunk, ChunkLimits, read_chunk};
use crate::backfill::lease::{Field, Lease, RENEW_EVERY, Taken, Worker, renew, take};
use crate::backfill::parents::Parents;
use crate::backfill::run::Event;
use crate::backfill::write::{Place, Sifting, write_chunk};
use crate::derive::Deriver;
use crate::error::Result;
use crate::interrupt::Stop;
use crate::manners::{Gate, Pass};
use crate::pack::{OpenedPack, join_error};
use crate::retry::{is_passing, pause};
use crate::source::{Position, StreamSource};
use crate::store::Connector;

/// How long a worker waits before it asks again, while all chunks are others'.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// A source to copy, as all workers of this process see it.
pub(super) struct Work {
    pub(super) opened: Arc<OpenedPack>,
    pub(super) connector: Connector,
    pub(super) run_id: String,
    pub(super) stream: usize,
    /// The source's name in checkpoints.
    pub(super) source: String,
    pub(super) direct: Vec<bool>,
    pub(super) parents: Vec<Option<Parents>>,
    pub(super) early: Vec<usize>,
    pub(super) initial_load: bool,
    pub(super) sifting: Vec<Sifting>,
    pub(super) disable_triggers: bool,
    pub(super) is_captured: bool,
    pub(super) limits: ChunkLimits,
    /// Asked before each chunk is written.
    pub(super) gate: Gate,
    pub(super) stop: Stop,
    /// One for all workers: of chunks that a single record makes larger than their share, one at
    /// a time is on its way to the store.
    pub(super) oversize: Arc<Semaphore>,
    /// Set when a worker fails, for the others to end after their chunk.
    pub(super) failed: Stop,
}

/// Lets a worker per source copy what is pending, and waits for chunks that others have. The
/// workers come back to `crew`, for the next source.
pub(super) async fn copy(
    work: Work,
    crew: &mut Vec<Worker>,
    sources: Vec<StreamSource>,
    on_event: &(dyn Fn(Event) + Sync),
) -> Result<()> {
    let work = Arc::new(work);
    let (sender, mut events) = mpsc::unbounded_channel();
    let mut working = JoinSet::new();
    for source in sources {
        let worker = match crew.pop() {
            Some(worker) => worker,
            None => work.hire().await?,
        };
        let (work, sender) = (Arc::clone(&work), sender.clone());
        working.spawn(async move { work.all(worker, source, sender).await });
    }
    drop(sender);
    while let Some(event) = events.recv().await {
        on_event(event);
    }
    let mut outcome = Ok(());
    while let Some(joined) = working.join_next().await {
        let (worker, done) = joined.map_err(join_error)?;
        crew.push(worker);
        outcome = outcome.and(done);
    }
    outcome
}

impl Work {
    /// A new worker, while the store may be away for a while.
    async fn hire(&self) -> Result<Worker> {
        let mut tries = 1;
        loop {
            let error = match Worker::start(&self.connector, &self.opened.plan.name).await {
                Ok(worker) => return Ok(worker),
                Err(error) => error,
            };
            let Some(pause) = pause(tries).filter(|_| is_passing(&error)) else {
                return Err(error);
            };
            tracing::warn!(tries, "{error}; retrying");
            tries += 1;
            self.wait(pause).await?;
        }
    }

    async fn all(
        &self,
        mut worker: Worker,
        source: StreamSource,
        events: mpsc::UnboundedSender<Event>,
    ) -> (Worker, Result<()>) {
        let done = self.spans(&mut worker, source, &events).await;
        if done.is_err() {
            self.failed.request();
        }
        (worker, done)
    }

    /// Copies span after span. After a failure that passes it goes on behind the last chunk that
    /// is committed, whether or not anybody heard of the commit.
    async fn spans(
        &self,
        worker: &mut Worker,
        source: StreamSource,
        events: &mpsc::UnboundedSender<Event>,
    ) -> Result<()> {
        let mut source = source;
        let mut tries = 1;
        loop {
            self.stop.check()?;
            if self.failed.is_requested() {
                return Ok(());
            }
            self.until_open().await?;
            let lease = take(worker, self.field()).await;
            let copied = match lease {
                Ok(Taken::Done) => return Ok(()),
                Ok(Taken::Nothing) => {
                    self.wait(ASK_AGAIN).await?;
                    continue;
                }
                Ok(Taken::Lease(lease)) => {
                    let is_document = matches!(source, StreamSource::Documents(_));
                    let documents = match self.documents_position(worker, is_document).await {
                        Ok(position) => position,
                        Err(error) => {
                            tracing::debug!("{error}");
                            Some(i64::MIN)
                        }
                    };
                    let mut reader = Reader::start(self, source, &lease, documents);
                    let mut committed = 0;
                    let copied =
                        self.span(worker, lease, &mut reader, &mut committed, events).await;
                    source = reader.finish().await?;
                    if committed > 0 {
                        tries = 1;
                    }
                    copied
                }
                Err(error) => Err(error),
            };
            if let Err(error) = copied {
                self.stop.check()?;
                let stream = &self.opened.plan.streams[self.stream].name;
                let pause = pause(tries).filter(|_| is_passing(&error));
                let Some(pause) = pause else {
                    return Err(error.context(format!("stream {stream}")));
                };
                tracing::warn!(stream, tries, "{error}; retrying");
                tries += 1;
                self.wait(pause).await?;
                self.mend(worker).await?;
            }
        }
    }

    /// Copies the rest of a span, as long as it is the worker's.
    async fn span(
        &self,
        worker: &mut Worker,
        mut lease: Lease,
        reader: &mut Reader,
        committed: &mut u64,
        events: &mpsc::UnboundedSender<Event>,
    ) -> Result<()> {
        let plan = &self.opened.plan;
        loop {
            let chunk = tokio::select! {
                chunk = reader.chunks.recv() => chunk,
                () = tokio::time::sleep(RENEW_EVERY) => {
                    if renew(worker, self.field(), &lease).await? {
                        continue;
                    }
                    self.lost(&lease);
                    return Ok(());
                }
            };
            let Some(chunk) = chunk else { return Ok(()) };
            let chunk = chunk?;
            let Some(pass) = self.admit(worker, &lease, &chunk).await? else { return Ok(()) };
            let place = Place {
                pack: plan,
                stream: &plan.streams[self.stream],
                run_id: &self.run_id,
                source: &self.source,
                span: lease.span,
                chunk_no: lease.chunk_no,
                worker: &worker.name,
                direct: &self.direct,
                parents: &self.parents,
                early: &self.early,
                initial_load: self.initial_load,
                sifting: &self.sifting,
                holds: true,
                disable_triggers: self.disable_triggers,
                is_captured: self.is_captured,
            };
            let Some(counts) = write_chunk(&mut worker.conn, place, &chunk).await? else {
                self.lost(&lease);
                return Ok(());
            };
            drop(pass);
            *committed += 1;
            lease.chunk_no += 1;
            // Nobody listens any more only where the run itself was dropped.
            let _ = events.send(Event::Chunk { records: counts.read, rejects: counts.rejects() });
            if self.is_ending() {
                return Ok(());
            }
        }
    }

    /// Waits until the chunk may be written, and keeps it meanwhile; None: it is not to be written.
    async fn admit(
        &self,
        worker: &mut Worker,
        lease: &Lease,
        chunk: &Chunk,
    ) -> Result<Option<Pass>> {
        let mut admission = std::pin::pin!(self.gate.admit(chunk.amount()));
        loop {
            tokio::select! {
                biased;
                pass = &mut admission => return Ok(Some(pass)),
                () = self.stop.wait() => return Ok(None),
                () = self.failed.wait() => return Ok(None),
                () = tokio::time::sleep(RENEW_EVERY) => {}
            }
            if !renew(worker, self.field(), lease).await? {
                self.lost(lease);
                return Ok(None);
            }
        }
    }

    /// Asks nobody for a chunk that could not be written now.
    async fn until_open(&self) -> Result<()> {
        self.stop
            .unless(async {
                tokio::select! {
                    () = self.gate.opened() => {}
                    () = self.failed.wait() => {}
                }
                Ok(())
            })
            .await
    }

    /// How far documents were rescanned before these are read; None: they are not.
    async fn documents_position(
        &self,
        worker: &mut Worker,
        is_document: bool,
    ) -> Result<Option<i64>> {
        if !self.is_captured || !is_document {
            return Ok(None);
        }
        let position = sqlx::query_scalar(
            "SELECT coalesce(max(position), 0) FROM toolkit.capture_file \
                                WHERE pack = $1",
        )
        .bind(&self.opened.plan.name)
        .fetch_one(&mut worker.conn)
        .await?;
        Ok(Some(position))
    }

    fn lost(&self, lease: &Lease) {
        tracing::info!(
            stream = self.opened.plan.streams[self.stream].name,
            "chunk {} of span {} was taken over; what was read of it is dropped",
            lease.chunk_no,
            lease.span
        );
    }

    /// Makes a new connection where the old one is gone; if that fails, so will the next try.
    async fn mend(&self, worker: &mut Worker) -> Result<()> {
        if worker.conn.ping().await.is_ok() {
            return Ok(());
        }
        match worker.reconnect(&self.connector, &self.opened.plan.name).await {
            Err(error) if !is_passing(&error) => Err(error),
            _ => Ok(()),
        }
    }

    async fn wait(&self, pause: Duration) -> Result<()> {
        self.stop
            .unless(async {
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = self.failed.wait() => {}
                }
                Ok(())
            })
            .await
    }

    fn is_ending(&self) -> bool {
        self.stop.is_requested() || self.failed.is_requested()
    }

    fn field(&self) -> Field<'_> {
        Field {
            run_id: &self.run_id,
            stream: &self.opened.plan.streams[self.stream].name,
            source: &self.source,
        }
    }
}

/// A thread that derives the chunks of a span, one ahead of the writer, so that memory holds at
/// most three a worker: one being read, one waiting, one being written.
struct Reader {
    chunks: mpsc::Receiver<Result<Chunk>>,
    thread: JoinHandle<StreamSource>,
}

impl Reader {
    fn start(work: &Work, mut source: StreamSource, lease: &Lease, documents: Option<i64>) -> Self {
        let (sender, chunks) = mpsc::channel(1);
        let opened = Arc::clone(&work.opened);
        let (stream, limits) = (work.stream, work.limits);
        let (stop, failed) = (work.stop.clone(), work.failed.clone());
        let (oversize, runtime) = (Arc::clone(&work.oversize), Handle::current());
        let (mut from, to): (Option<Position>, _) = (lease.from.clone(), lease.to.clone());
        let thread = tokio::task::spawn_blocking(move || {
            let plan = &opened.plan.streams[stream];
            let mut deriver = Deriver::new(plan, Arc::clone(&opened.redactor));
            let should_stop = || stop.is_requested() || failed.is_requested() || sender.is_closed();
            loop {
                let mut chunk = read_chunk(
                    &mut source,
                    from.as_ref(),
                    to.as_ref(),
                    &mut deriver,
                    limits,
                    &should_stop,
                );
                let next = chunk.as_ref().ok().and_then(|chunk| chunk.next.clone());
                if let Ok(chunk) = &mut chunk {
                    chunk.position = chunk.position.or(documents);
                }
                if let Ok(chunk) = &mut chunk
                    && chunk.bytes > 2 * limits.bytes_max
                {
                    // Whoever holds it is being written; nobody closes the semaphore.
                    chunk.oversize = runtime.block_on(Arc::clone(&oversize).acquire_owned()).ok();
                }
                if sender.blocking_send(chunk).is_err() || next.is_none() || should_stop() {
                    return source;
                }
                from = next;
            }
        });
        Self { chunks, thread }
    }

    /// Ends the thread after its chunk and gives the source back.
    async fn finish(self) -> Result<StreamSource> {
        drop(self.chunks);
        self.thread.await.map_err(join_error)
    }
}
