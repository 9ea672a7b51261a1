//! Ctrl-C and SIGTERM: the first asks the command to stop, the second ends the process.

use tokio::signal::unix::{SignalKind, signal};

use super::Output;
use crate::error::Result;
use crate::interrupt::Stop;

/// As a shell reports a process that Ctrl-C ended.
const EXIT_INTERRUPTED: i32 = 130;

/// Listens from now on; needs the runtime.
pub(super) fn listen(output: &Output) -> Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let stop: Stop = output.stop().clone();
    let notes = Output::with(output.format(), output.log_format(), stop.clone());
    tokio::spawn(async move {
        loop {
            let by_key = tokio::select! {
                _ = interrupt.recv() => true,
                _ = terminate.recv() => false,
            };
            // While another program has the terminal, the key is meant for that program.
            if by_key && stop.is_muted() {
                continue;
            }
            if stop.is_requested() {
                std::process::exit(EXIT_INTERRUPTED);
            }
            stop.request();
            notes.note("stopping after the current step; once more stops at once");
        }
    });
    Ok(())
}
