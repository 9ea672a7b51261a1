//! Named points at which a test makes the process die or fail. Builds without debug assertions
//! have none of it.

use crate::error::Result;

/// `kill:POINT` ends the process there as `kill -9` does; `fail:POINT` makes the step fail.
#[cfg(debug_assertions)]
const VARIABLE: &str = "TOOLKIT_FAULT";

/// Passes the point `name`.
#[cfg(debug_assertions)]
pub(super) fn point(name: &str) -> Result<()> {
    use crate::error::{Error, ErrorKind};
    let Ok(wish) = std::env::var(VARIABLE) else { return Ok(()) };
    match wish.split_once(':') {
        Some(("kill", at)) if at == name => {
            let _ = nix::sys::signal::kill(nix::unistd::getpid(), nix::sys::signal::SIGKILL);
            Ok(())
        }
        Some(("fail", at)) if at == name => {
            Err(Error::new(ErrorKind::StoreFailed, format!("{VARIABLE}: failed at {name}")))
        }
        _ => Ok(()),
    }
}

/// Passes the point.
#[cfg(not(debug_assertions))]
#[expect(clippy::unnecessary_wraps, reason = "as in builds with faults")]
pub(super) fn point(_name: &str) -> Result<()> {
    Ok(())
}
