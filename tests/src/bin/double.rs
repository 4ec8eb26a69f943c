//! A `wattctl` with a fault, for tests of upgrades: what its file is called says which. In every other role it is the real one, which is
//! called `real` and beside it.

use std::{
    env,
    ffi::OsString,
    fs,
    os::unix::process::CommandExt,
    process::{self, Command, ExitCode},
    thread,
};

fn main() -> ExitCode {
    let own = fs::read_link("/proc/self/exe").expect("/proc is mounted");
    let name = own.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    let arguments: Vec<OsString> = env::args_os().collect();
    let role = arguments.get(1).and_then(|role| role.to_str()).unwrap_or_default();
    let is_rehearsal = arguments.iter().any(|argument| argument == "--rehearse");
    match (&*name, role) {
        ("crashes-as-spawner", "spawner") => process::abort(),
        ("hangs-as-spawner", "spawner")
        | ("hangs-as-daemon", "daemon")
        | ("hangs-as-proxy", "mesh-proxy") => loop {
            thread::park();
        },
        ("dies-as-daemon", "daemon") | ("dies-as-proxy", "mesh-proxy") => return ExitCode::from(7),
        ("next-form", "spawner") if is_rehearsal => return offer(1, 2),
        ("later-form", "spawner") if is_rehearsal => return offer(2, 3),
        ("earlier-form", "spawner") if is_rehearsal => return offer(0, 0),
        _ => {}
    }
    let real = own.with_file_name("real");
    let mut command = Command::new(&real);
    command.args(arguments.iter().skip(1));
    if let Some(name) = arguments.first() {
        command.arg0(name);
    }
    let error = command.exec();
    eprintln!("cannot become {}: {error}", real.display());
    ExitCode::FAILURE
}

/// What a version says that reads these forms.
fn offer(oldest: u32, newest: u32) -> ExitCode {
    let forms = format!(r#"{{"oldest":{oldest},"newest":{newest}}}"#);
    println!(r#"{{"program":"wattctl","version":"9.9.9","state":{forms},"mesh":{forms}}}"#);
    ExitCode::SUCCESS
}
