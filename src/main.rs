//! The command `toolkit`.

use std::process::ExitCode;

fn main() -> ExitCode {
    toolkit::cli::main_entry()
}
