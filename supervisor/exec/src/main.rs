//! `watt-exec`, the exec stage. The spawner starts it with its plan and report socket under agreed numbers; started by hand
//! it has neither, and says so.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    watt_exec::run()
}
