//! Progress of long work: a bar on a terminal, plain or JSON lines when piped.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Output;
use crate::backfill::Event;

/// Lines are no closer together than this when piped.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Draws the events of a backfill.
pub(super) struct Progress<'a> {
    output: &'a Output,
    state: Mutex<State>,
}

struct State {
    bar: ProgressBar,
    stream: String,
    records: u64,
    done: u64,
    rejects: u64,
    started: Instant,
    last_line: Instant,
    paused_at: Option<Instant>,
}

impl<'a> Progress<'a> {
    pub(super) fn new(output: &'a Output) -> Self {
        let now = Instant::now();
        let state = State {
            bar: ProgressBar::hidden(),
            stream: String::new(),
            records: 0,
            done: 0,
            rejects: 0,
            started: now,
            last_line: now,
            paused_at: None,
        };
        Self { output, state: Mutex::new(state) }
    }

    /// Shows one event.
    pub(super) fn show(&self, event: Event) {
        let Ok(mut state) = self.state.lock() else { return };
        match event {
            Event::Joined { run_id } => {
                self.output.note(format!("joining run {run_id}, which another process has begun"));
            }
            Event::Stream { name, records } => self.begin(&mut state, name, records),
            Event::Chunk { records, rejects } => {
                state.done += records;
                state.rejects += rejects;
                state.bar.set_position(state.done);
                if state.rejects > 0 {
                    state.bar.set_message(format!("{} rejects", state.rejects));
                }
                if !self.output.draws_progress() && state.last_line.elapsed() >= LINE_EVERY {
                    state.last_line = Instant::now();
                    self.line(&state);
                }
            }
            Event::Paused { reason } => {
                state.paused_at = Some(Instant::now());
                state.bar.suspend(|| self.output.note(format!("paused: {reason}")));
            }
            Event::Resumed => {
                let seconds = state.paused_at.take().map_or(0, |at| at.elapsed().as_secs());
                state.bar.suspend(|| self.output.note(format!("goes on, after {seconds} s")));
            }
            Event::StreamDone => {
                state.bar.finish_and_clear();
                if !self.output.draws_progress() && state.started.elapsed() >= LINE_EVERY {
                    self.line(&state);
                }
            }
        }
    }

    fn begin(&self, state: &mut State, name: String, records: u64) {
        state.stream = name;
        state.records = records;
        state.done = 0;
        state.rejects = 0;
        state.started = Instant::now();
        state.last_line = state.started;
        if self.output.draws_progress() {
            let style = ProgressStyle::with_template(
                "{prefix:22} {bar:24} {pos}/{len} {per_sec} eta {eta} {msg}",
            )
            .unwrap_or_else(|_| ProgressStyle::default_bar());
            state.bar = ProgressBar::with_draw_target(Some(records), ProgressDrawTarget::stderr())
                .with_style(style)
                .with_prefix(state.stream.clone());
        }
    }

    fn line(&self, state: &State) {
        let rate = state.done as f64 / state.started.elapsed().as_secs_f64().max(0.001);
        let left = state.records.saturating_sub(state.done) as f64 / rate.max(1.0);
        self.output.note(format!(
            "{}: {} of {} records, {rate:.0}/s, about {left:.0} s left, {} rejects",
            state.stream, state.done, state.records, state.rejects
        ));
    }
}
