//! Progress of long work: a bar on a terminal, plain or JSON lines when piped.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Output;
use crate::backfill::Event;
use crate::parity;
use crate::runs::{Forecast, span};

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
    whole: Whole,
}

/// All streams together.
struct Whole {
    /// Records that will be read, about; 0: nobody said.
    records: u64,
    done: u64,
    started: Instant,
}

impl Whole {
    /// How long it takes at the rate so far, if there is more than the stream at hand.
    fn left(&self, of_stream: u64) -> Option<f64> {
        let rate = self.done as f64 / self.started.elapsed().as_secs_f64().max(0.001);
        (self.records > of_stream && rate > 0.0)
            .then(|| self.records.saturating_sub(self.done) as f64 / rate)
    }
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
            whole: Whole { records: 0, done: 0, started: now },
        };
        Self { output, state: Mutex::new(state) }
    }

    /// Says what is to be done, if it is much, and goes by it from then on.
    pub(super) fn expect(&self, forecast: &Forecast) {
        if forecast.is_long() {
            self.output.note(forecast.sentence());
        }
        if let Ok(mut state) = self.state.lock() {
            state.whole = Whole { records: forecast.records, done: 0, started: Instant::now() };
        }
    }

    /// Shows an event of a comparison.
    pub(super) fn show_comparison(&self, event: parity::Event) {
        match event {
            parity::Event::Begun { pack, rows, forecast } => {
                if forecast.is_long() {
                    self.output.note(format!("comparing: {}", forecast.sentence()));
                }
                if let Ok(mut state) = self.state.lock() {
                    state.whole.records = 0;
                }
                self.show(Event::Stream { name: format!("comparing {pack}"), records: rows });
            }
            parity::Event::Read { rows } => self.show(Event::Chunk { records: rows, rejects: 0 }),
            parity::Event::Paused { reason } => self.show(Event::Paused { reason }),
            parity::Event::Resumed => self.show(Event::Resumed),
            parity::Event::Done => self.show(Event::StreamDone),
        }
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
                state.whole.done += records;
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
        let all = state
            .whole
            .left(state.records)
            .map_or_else(String::new, |left| format!(" ({} in all)", span(left)));
        // Of a file that is read piece by piece the number is a guess.
        let of = if state.done > state.records {
            String::new()
        } else {
            format!(" of {}", state.records)
        };
        self.output.note(format!(
            "{}: {}{of} records, {rate:.0}/s, about {left:.0} s left{all}, {} rejects",
            state.stream, state.done, state.rejects
        ));
    }
}
