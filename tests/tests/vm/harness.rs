//! The part of libtest that these tests need: its options and its output, for cases that are known only when the test runs.
//!
//! Not a crate: the one there is brings another set of clap's features, with which `wattctl` would be tested as it is not built.

use std::process::ExitCode;

/// What was asked for on the command line.
#[derive(Debug, Default)]
pub(super) struct Arguments {
    filters: Vec<String>,
    skip: Vec<String>,
    is_exact: bool,
    is_list: bool,
    wants_ignored: bool,
    wants_all: bool,
}

/// One test.
pub(super) struct Test<'a> {
    pub(super) name: String,
    /// Left out unless it is asked for.
    pub(super) is_ignored: bool,
    pub(super) run: Box<dyn Fn() -> Result<(), String> + 'a>,
}

impl Arguments {
    /// Those of this process. What is about threads, output and colours changes nothing here.
    pub(super) fn from_process() -> Result<Arguments, String> {
        let mut arguments = Arguments::default();
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let (option, value) = match word.split_once('=') {
                Some((option, value)) if option.starts_with("--") => (option, Some(value.to_owned())),
                _ => (&*word, None),
            };
            let mut value = || value.clone().or_else(|| words.next()).ok_or(format!("{option} has no value"));
            match option {
                "--exact" => arguments.is_exact = true,
                "--list" => arguments.is_list = true,
                "--ignored" => arguments.wants_ignored = true,
                "--include-ignored" => arguments.wants_all = true,
                "--skip" => arguments.skip.push(value()?),
                "--nocapture" | "--no-capture" | "--show-output" | "--quiet" | "-q" => {}
                "--test-threads" | "--color" | "--format" | "--logfile" | "-Z" => drop(value()?),
                _ if option.starts_with('-') => return Err(format!("unknown option {option}")),
                _ => arguments.filters.push(word),
            }
        }
        Ok(arguments)
    }

    /// Whether a test is to be run.
    pub(super) fn want(&self, name: &str, is_ignored: bool) -> bool {
        self.name(name) && (self.wants_all || self.wants_ignored == is_ignored)
    }

    fn name(&self, name: &str) -> bool {
        let fits = |filter: &String| if self.is_exact { name == filter } else { name.contains(filter) };
        (self.filters.is_empty() || self.filters.iter().any(fits)) && !self.skip.iter().any(fits)
    }

    /// Runs what is wanted of them, in their order, and says what came of it.
    pub(super) fn run(&self, tests: &[Test]) -> ExitCode {
        let named: Vec<&Test> = tests.iter().filter(|test| self.name(&test.name)).collect();
        if self.is_list {
            named.iter().for_each(|test| println!("{}: test", test.name));
            return ExitCode::SUCCESS;
        }
        println!("\nrunning {} tests", named.len());
        let mut failures = Vec::new();
        let (mut passed, mut ignored) = (0, 0);
        for test in &named {
            let outcome = match self.want(&test.name, test.is_ignored) {
                true => (test.run)(),
                false => {
                    ignored += 1;
                    println!("test {} ... ignored", test.name);
                    continue;
                }
            };
            match outcome {
                Ok(()) => {
                    passed += 1;
                    println!("test {} ... ok", test.name);
                }
                // At once: there are minutes to the end.
                Err(why) => {
                    failures.push(&test.name);
                    println!("test {} ... FAILED\n{why}\n", test.name);
                }
            }
        }
        if !failures.is_empty() {
            println!("\nfailures:");
            failures.iter().for_each(|name| println!("    {name}"));
        }
        let word = if failures.is_empty() { "ok" } else { "FAILED" };
        let (failed, filtered) = (failures.len(), tests.len() - named.len());
        println!(
            "\ntest result: {word}. {passed} passed; {failed} failed; {ignored} ignored; 0 measured; {filtered} filtered out\n"
        );
        if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}
