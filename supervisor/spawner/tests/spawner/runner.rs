//! Runs the cases and reports as libtest does, for people and for tools that read its output.

use std::{
    env,
    panic::{self, AssertUnwindSafe},
    process::ExitCode,
    sync::Mutex,
    thread,
};

/// A test: its name and what it does.
pub(crate) type Case = (&'static str, fn());

/// Makes the list of cases from functions.
macro_rules! cases {
    ($($name:ident),* $(,)?) => { vec![$((stringify!($name), $name as fn())),*] };
}
pub(crate) use cases;

/// Cases that run at the same time. Each starts many processes.
const PARALLEL: usize = 4;

/// Runs those that the command line asks for: `[--exact] [--list] [NAME …]`, as cargo and nextest say it.
pub(crate) fn run(cases: &[Case]) -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let wanted = |name: &str| {
        let mut filters =
            arguments.iter().filter(|argument| !argument.starts_with('-') && *argument != "terse").peekable();
        filters.peek().is_none()
            || filters
                .any(|filter| if has("--exact") { name == filter } else { name.contains(filter.as_str()) })
    };
    // None is ever ignored.
    let chosen: Vec<&Case> = cases.iter().filter(|(name, _)| wanted(name) && !has("--ignored")).collect();
    if has("--list") {
        chosen.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    println!("\nrunning {} tests", chosen.len());
    let failed = run_parallel(&chosen);
    let (verdict, passed, filtered) =
        (if failed == 0 { "ok" } else { "FAILED" }, chosen.len() - failed, cases.len() - chosen.len());
    println!(
        "\ntest result: {verdict}. {passed} passed; {failed} failed; 0 ignored; 0 measured; {filtered} filtered out\n"
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run_parallel(cases: &[&Case]) -> usize {
    let queue = Mutex::new(cases.iter());
    let failed = Mutex::new(0);
    thread::scope(|scope| {
        for _ in 0..PARALLEL {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().unwrap().next();
                    let Some((name, case)) = next else { break };
                    let passed = panic::catch_unwind(AssertUnwindSafe(case)).is_ok();
                    println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
                    *failed.lock().unwrap() += usize::from(!passed);
                }
            });
        }
    });
    failed.into_inner().unwrap()
}
