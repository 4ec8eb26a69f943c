//! What a spawn costs: `/bin/true` through the spawner and the exec stage, against a bare spawn of the standard library. Prints one
//! table; `bench/run e` runs it. The program is its own spawner and its own daemon.

use std::{
    ffi::OsString,
    io,
    process::Command,
    time::{Duration, Instant},
};

use watt_exec::plan::{LaunchPlan, Task};
use watt_os::memfd;
use watt_spawner::{
    Handle, Settings,
    protocol::{Message, Request},
};

const ROUNDS: u64 = 300;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    if std::env::args().nth(1).as_deref() == Some("daemon") {
        return Ok(measure()?);
    }
    let lock = std::env::temp_dir().join(format!("watt-spawn-cost-{}", std::process::id()));
    let daemon: Vec<OsString> = vec![std::env::current_exe()?.into(), "daemon".into()];
    let ended =
        watt_spawner::run(&Settings { lock: lock.clone(), daemon, stall_max: watt_spawner::STALL_MAX });
    std::fs::remove_file(lock)?;
    ended?;
    Ok(())
}

fn measure() -> io::Result<()> {
    let handle = Handle::from_env()?;
    let mut through: Vec<Duration> = (0..ROUNDS).map(|run| one(&handle, run)).collect::<io::Result<_>>()?;
    let mut bare: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let started = Instant::now();
            Command::new("/bin/true").spawn()?.wait()?;
            Ok(started.elapsed())
        })
        .collect::<io::Result<_>>()?;
    through.sort();
    bare.sort();
    let (through, bare) = (through[through.len() / 2].as_micros(), bare[bare.len() / 2].as_micros());
    println!("\n### (e) spawn, exec and exit of /bin/true\n\n| by | median µs | × bare |\n|---|---|---|");
    println!("| a bare spawn | {bare} | 1.00 |");
    println!("| the spawner and the exec stage | {through} | {:.2} |", through as f64 / bare as f64);
    handle.send(
        &Request::Exit { status: 0, join_cgroups: vec![], remove: vec![], remove_if_empty: vec![] },
        &[],
    )
}

fn one(handle: &Handle, run: u64) -> io::Result<Duration> {
    let plan = LaunchPlan {
        argv: vec![b"/bin/true".to_vec()],
        cwd: "/".into(),
        no_new_privs: true,
        ..LaunchPlan::default()
    };
    let started = Instant::now();
    let task = postcard::to_stdvec(&Task::Launch(Box::new(plan))).map_err(io::Error::other)?;
    let task = memfd::sealed(c"plan", &task)?;
    let request = Request::Spawn { run, tag: vec![], cgroup: false, pass: vec![] };
    handle.send(&request, &[std::os::fd::AsFd::as_fd(&task)])?;
    loop {
        match handle.recv()? {
            Some((Message::Exited { .. }, _)) => break,
            Some((Message::SpawnFailed { errno, .. } | Message::ExecFailed { errno, .. }, _)) => {
                return Err(io::Error::from_raw_os_error(errno));
            }
            Some(_) => {}
            // Nothing yet; the kernel gives the processor to who has work.
            None => std::thread::yield_now(),
        }
    }
    let took = started.elapsed();
    handle.send(&Request::Forget { run }, &[])?;
    Ok(took)
}
