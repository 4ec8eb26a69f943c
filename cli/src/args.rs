//! The command line.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::{Shell, engine::ArgValueCompleter};

use crate::{complete, exit};

/// Runs one application made of several services on one Linux host.
#[derive(Debug, Parser)]
#[command(name = "wattctl", version, about, max_term_width = 100, after_help = after_help(), subcommand_required = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

fn after_help() -> String {
    let codes =
        exit::ALL.iter().map(|(exit, text)| format!("  {}  {text}\n", *exit as u8)).collect::<String>();
    format!(
        "Exit codes:\n{codes}\nA command finds its application by --app, by the configuration file in this folder or above it, or, when only one runs, by that."
    )
}

/// Which application a command is for.
#[derive(Debug, Clone, Default, Args)]
pub struct Which {
    /// The application's name
    #[arg(short, long, value_name = "NAME", global = true, add = ArgValueCompleter::new(complete::apps))]
    pub app: Option<String>,
    /// The configuration file, or a folder with one
    #[arg(long, value_name = "PATH", global = true)]
    pub file: Option<PathBuf>,
}

/// How to print.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct Print {
    /// Print JSON for programs
    #[arg(long)]
    pub json: bool,
}

/// The services an operation is for.
#[derive(Debug, Clone, Args)]
pub struct Services {
    /// Services by name; all of them when none is given
    #[arg(value_name = "SERVICE", add = ArgValueCompleter::new(complete::services))]
    pub services: Vec<String>,
    #[command(flatten)]
    pub which: Which,
    #[command(flatten)]
    pub print: Print,
}

/// A command without arguments of its own.
#[derive(Debug, Clone, Args)]
pub struct Plain {
    #[command(flatten)]
    pub which: Which,
    #[command(flatten)]
    pub print: Print,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start the application; follow its log until Ctrl-C, which stops it
    Up(Up),
    /// Stop the application and leave nothing behind
    Down(Down),
    /// Show what every service is doing
    Status(Status),
    /// Start services that were stopped or have failed, with what they depend on
    Start(Services),
    /// Stop services; the application stays up
    Stop(Services),
    /// Replace workers by new ones, each of which is ready before the old one is stopped
    Restart(Services),
    /// Give services another number of workers, without losing a request
    Scale(Scale),
    /// Read the configuration again and apply what differs, all of it or nothing
    Reload(Reload),
    /// Apply one service, new or in place of what it is; the next reload takes the file's word again
    Apply(Apply),
    /// Take one service out of the application; the next reload takes the file's word again
    Remove(Remove),
    /// Have another version of watt take over while traffic flows; it goes back by itself when that is not well
    Upgrade(Upgrade),
    /// Show what the services wrote: text on a terminal, JSON lines elsewhere
    Logs(Logs),
    /// Run a command inside a worker's sandbox, a shell when none is given
    Exec(Exec),
    /// Run a command once in a new sandbox of a service; it is none of its workers
    Run(Run),
    /// Show everything about one service
    Inspect(Inspect),
    /// Show limits, with what they bound and did, or change them
    Limits(Limits),
    /// Show figures for Prometheus: requests, workers, limits
    Metrics(Metrics),
    /// Show who waits for whom, and who is started anew together
    Graph(Graph),
    /// Show which requests of clients go where, and for one request why
    Routes(Routes),
    /// Show what the proxy has stored of responses, or remove it
    Cache(Cache),
    /// Show what the last start waited for, and what was slow
    Analyze(Analyze),
    /// Show how exposed each service leaves the host and its neighbours, and the switch that would lower that most
    Audit(Audit),
    /// Show jobs, with the next instant of each and what came of the last one
    Jobs(Jobs),
    /// Show tasks that run, commands of exec, run, jobs and hooks, or stop one
    Tasks(Tasks),
    /// Show what happened
    Events(Events),
    /// Send a request to a service, over the mesh
    Inject(Inject),
    /// Show what this host offers, and how to get what it does not
    Doctor(Print),
    /// Make a certificate for development, of an authority that is this user's own
    Cert(Cert),
    /// Check, show or describe the configuration
    Config(Config),
    /// Write the watt.yaml that means what a project of Platformatic Watt does
    Migrate(Migrate),
    /// Print a completion script: wattctl completion bash > /etc/bash_completion.d/wattctl
    Completion {
        /// For this shell
        shell: Shell,
    },

    /// Write man pages into a folder, for packages
    #[command(hide = true)]
    Man {
        /// The folder
        folder: PathBuf,
    },
    #[command(hide = true)]
    Spawner(Spawner),
    #[command(hide = true)]
    Daemon(Daemon),
    #[command(hide = true, name = "mesh-proxy")]
    MeshProxy(MeshProxy),
}

/// `up`
#[derive(Debug, Args)]
pub struct Up {
    /// A folder with watt.yaml (or .yml, .json, .toml), or the file itself
    #[arg(value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Return when every service is ready, and leave the application running
    #[arg(short, long)]
    pub detach: bool,
    /// Become the application's supervisor in place, as the main process of a unit of systemd
    #[arg(long, conflicts_with = "detach")]
    pub unit: bool,
    /// The application's name, in place of the configured one
    #[arg(short, long, value_name = "NAME")]
    pub app: Option<String>,
    /// The configuration file, in place of DIR
    #[arg(long, value_name = "PATH", conflicts_with = "dir")]
    pub file: Option<PathBuf>,
    #[command(flatten)]
    pub print: Print,
}

/// `down`
#[derive(Debug, Args)]
pub struct Down {
    /// Kill at once in place of letting requests end
    #[arg(long)]
    pub now: bool,
    #[command(flatten)]
    pub which: Which,
    #[command(flatten)]
    pub print: Print,
}

/// `status`
#[derive(Debug, Args)]
pub struct Status {
    /// Show each worker
    #[arg(short, long)]
    pub workers: bool,
    #[command(flatten)]
    pub which: Which,
    #[command(flatten)]
    pub print: Print,
}

/// `reload`
#[derive(Debug, Args)]
pub struct Reload {
    /// Only show what would change
    #[arg(long)]
    pub plan: bool,
    /// Return when new workers have taken over and what was removed has gone
    #[arg(short, long)]
    pub wait: bool,
    #[command(flatten)]
    pub which: Which,
    #[command(flatten)]
    pub print: Print,
}

/// `apply`
#[derive(Debug, Args)]
pub struct Apply {
    /// The service
    #[arg(add = ArgValueCompleter::new(complete::services))]
    pub service: String,
    /// A file with one entry of `services`: its keys, in YAML or JSON, or in TOML where the name ends so
    #[arg(short = 'f', long, value_name = "FILE", default_value = "-")]
    pub from: PathBuf,
    /// Only show what would change
    #[arg(long)]
    pub plan: bool,
    /// Return when new workers have taken over
    #[arg(short, long)]
    pub wait: bool,
    #[command(flatten)]
    pub which: Which,
    #[command(flatten)]
    pub print: Print,
}

/// `remove`
#[derive(Debug, Args)]
pub struct Remove {
    /// The service
    #[arg(add = ArgValueCompleter::new(complete::services))]
    pub service: String,
    /// Only show what would change
    #[arg(long)]
    pub plan: bool,
    /// Return when it has gone
    #[arg(short, long)]
    pub wait: bool,
    #[command(flatten)]
    pub which: Which,
    #[command(flatten)]
    pub print: Print,
}

/// `scale`
#[derive(Debug, Args)]
pub struct Scale {
    /// How many workers each is to have: api=3. `api=auto` is what the configuration says
    #[arg(value_name = "SERVICE=N", required = true, value_parser = service_count, add = ArgValueCompleter::new(complete::services))]
    pub services: Vec<(String, Option<u16>)>,
    #[command(flatten)]
    pub which: Which,
    #[command(flatten)]
    pub print: Print,
}

fn service_count(text: &str) -> Result<(String, Option<u16>), String> {
    let (service, count) = text.split_once('=').ok_or("write it as SERVICE=N, such as api=3")?;
    let count = match count {
        "auto" => None,
        count => Some(count.parse().map_err(|_| "write a number of workers, or `auto`")?),
    };
    Ok((service.to_owned(), count))
}

/// `upgrade`
#[derive(Debug, Args)]
pub struct Upgrade {
    /// The program, in place of what is installed where the running one was
    #[arg(long, value_name = "FILE")]
    pub to: Option<PathBuf>,
    /// Only look whether it could take over
    #[arg(long)]
    pub check: bool,
    /// How long it may take to show that all is well, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub timeout: u64,
    #[command(flatten)]
    pub which: Which,
    #[command(flatten)]
    pub print: Print,
}

/// `logs`
#[derive(Debug, Args)]
pub struct Logs {
    /// Go on with what is written from now on
    #[arg(short, long)]
    pub follow: bool,
    /// From this time on: 10m, 2h, or 2026-11-26T08:00:00Z
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// The last lines only
    #[arg(short = 'n', long, value_name = "LINES")]
    pub tail: Option<usize>,
    #[command(flatten)]
    pub services: Services,
}

/// `exec`
#[derive(Debug, Args)]
pub struct Exec {
    /// The service, or one of its workers: api, api/1
    #[arg(value_name = "SERVICE[/WORKER]", add = ArgValueCompleter::new(complete::services))]
    pub target: String,
    /// No terminal for the command, although there is one here
    #[arg(short = 'T', long = "no-tty")]
    pub no_tty: bool,
    #[command(flatten)]
    pub which: Which,
    /// Program and arguments; /bin/sh, when there are none
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

/// `run`
#[derive(Debug, Args)]
pub struct Run {
    /// The service whose sandbox it gets
    #[arg(add = ArgValueCompleter::new(complete::services))]
    pub service: String,
    /// Print its name and let it run; its output goes to the service's log
    #[arg(short, long)]
    pub detach: bool,
    /// No terminal for the command, although there is one here
    #[arg(short = 'T', long = "no-tty", conflicts_with = "detach")]
    pub no_tty: bool,
    /// Stop it after this time: 30s, 10m
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub timeout: Option<Duration>,
    #[command(flatten)]
    pub which: Which,
    #[command(flatten)]
    pub print: Print,
    /// Program and arguments; the service's own, when there are none
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}

fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "write 90s, 10m or 2h".to_owned();
    let span: jiff::SignedDuration = text.parse().map_err(|_| wrong())?;
    Duration::try_from(span).map_err(|_| wrong())
}

/// `inspect`
#[derive(Debug, Args)]
pub struct Inspect {
    /// The service
    #[arg(add = ArgValueCompleter::new(complete::services))]
    pub service: String,
    #[command(flatten)]
    pub which: Which,
    #[command(flatten)]
    pub print: Print,
}

/// `limits`
#[derive(Debug, Args)]
pub struct Limits {
    /// What to do; without one, limits are shown
    #[command(subcommand)]
    pub command: Option<LimitsCommand>,
    #[command(flatten)]
    pub which: Which,
    #[command(flatten)]
    pub print: Print,
}

/// `cache`
#[derive(Debug, Args)]
pub struct Cache {
    /// What to do
    #[command(subcommand)]
    pub command: CacheCommand,
}

/// The commands of `cache`.
#[derive(Debug, Subcommand)]
pub enum CacheCommand {
    /// Show how much is stored, and of what use it was to each service
    Status(Plain),
    /// Remove stored responses, those that all options hold for
    Purge(CachePurge),
}

/// `cache purge`
#[derive(Debug, Args)]
#[group(id = "purged", required = true, multiple = true, args = ["service", "uri", "prefix", "tag", "all"])]
pub struct CachePurge {
    /// Of this service
    #[arg(long, value_name = "SERVICE", add = ArgValueCompleter::new(complete::services))]
    pub service: Option<String>,
    /// With this URI: `https://example.org/a?b`, or `/a?b` for any host
    #[arg(long, value_name = "URI")]
    pub uri: Option<String>,
    /// With a URI that begins like this: `https://example.org/a`, or `/a` for any host
    #[arg(long, value_name = "URI")]
    pub prefix: Option<String>,
    /// With this tag
    #[arg(long, value_name = "TAG")]
    pub tag: Option<String>,
    /// All of them
    #[arg(long, conflicts_with_all = ["service", "uri", "prefix", "tag"])]
    pub all: bool,
    #[command(flatten)]
    pub which: Which,
    #[command(flatten)]
    pub print: Print,
}

/// The commands of `limits`.
#[derive(Debug, Subcommand)]
pub enum LimitsCommand {
    /// Change limits in place, without a restart, until the next `up`
    Set(LimitsSet),
}

/// `limits set`
#[derive(Debug, Args)]
pub struct LimitsSet {
    /// The service
    #[arg(add = ArgValueCompleter::new(complete::services))]
    pub service: String,
    /// Limits as the configuration has them: memory=1G cpu=1.5 pids=none
    #[arg(value_name = "LIMIT=VALUE", required = true, value_parser = key_value)]
    pub changes: Vec<(String, String)>,
    /// For all workers of the service together, in place of for each
    #[arg(long)]
    pub total: bool,
    #[command(flatten)]
    pub print: Print,
}

fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write it as LIMIT=VALUE, such as memory=1G")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// `metrics`
#[derive(Debug, Args)]
pub struct Metrics {
    /// OpenMetrics in place of the text format of Prometheus
    #[arg(long)]
    pub openmetrics: bool,
    #[command(flatten)]
    pub which: Which,
}

/// `graph`
#[derive(Debug, Args)]
pub struct Graph {
    /// How to show it: text, or for Graphviz or Mermaid
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "text")]
    pub format: GraphFormat,
    /// The running application's name
    #[arg(short, long, value_name = "NAME", add = ArgValueCompleter::new(complete::apps))]
    pub app: Option<String>,
    /// Of this configuration alone (the file, or its folder), and not of what runs
    #[arg(long, value_name = "PATH", conflicts_with = "app")]
    pub file: Option<PathBuf>,
    #[command(flatten)]
    pub print: Print,
}

/// The formats of `graph`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum GraphFormat {
    /// For people
    Text,
    /// For Graphviz
    Dot,
    /// For Mermaid
    Mermaid,
}

/// `routes`
#[derive(Debug, Args)]
pub struct Routes {
    /// A request, such as `GET https://example.org/users/7`: which route takes it, and why no other one does
    #[arg(long, value_name = "REQUEST")]
    pub test: Option<String>,
    /// A header of that request: 'name: value'
    #[arg(short = 'H', long = "header", value_name = "HEADER", requires = "test")]
    pub headers: Vec<String>,
    /// The listener that it comes in by: `server`, or a name in `gateway.listeners`. Else the one that the URL leads to, or the first
    #[arg(long, value_name = "NAME", requires = "test")]
    pub listener: Option<String>,
    /// The running application's name
    #[arg(short, long, value_name = "NAME", add = ArgValueCompleter::new(complete::apps))]
    pub app: Option<String>,
    /// Of this configuration alone (the file, or its folder), and not of what runs
    #[arg(long, value_name = "PATH", conflicts_with = "app")]
    pub file: Option<PathBuf>,
    #[command(flatten)]
    pub print: Print,
}

/// `cert`
#[derive(Debug, Args)]
pub struct Cert {
    /// Hosts and addresses that it is for: shop.test '*.shop.test'; localhost, 127.0.0.1 and ::1 when none is given
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,
    /// The folder for its files, in place of this one
    #[arg(long, value_name = "PATH")]
    pub dir: Option<PathBuf>,
    /// Replace files that are there
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub print: Print,
}

/// `analyze`
#[derive(Debug, Args)]
pub struct Analyze {
    /// The last start of this service, in place of the application's
    #[arg(value_name = "SERVICE", add = ArgValueCompleter::new(complete::services))]
    pub service: Option<String>,
    #[command(flatten)]
    pub which: Which,
    #[command(flatten)]
    pub print: Print,
}

/// `audit`
#[derive(Debug, Args)]
pub struct Audit {
    /// Services by name: each is shown with every check and what it can do. Without, all are, in a line each
    #[arg(value_name = "SERVICE", add = ArgValueCompleter::new(complete::services))]
    pub services: Vec<String>,
    /// The running application's name
    #[arg(short, long, value_name = "NAME", add = ArgValueCompleter::new(complete::apps))]
    pub app: Option<String>,
    /// Look at this configuration alone (the file, or its folder) and not at what runs
    #[arg(long, value_name = "PATH", conflicts_with = "app")]
    pub file: Option<PathBuf>,
    /// Fail when a service is more exposed than this, 0.0 to 10.0
    #[arg(long, value_name = "EXPOSURE", value_parser = exposure)]
    pub threshold: Option<f64>,
    #[command(flatten)]
    pub print: Print,
}

fn exposure(text: &str) -> Result<f64, String> {
    let number: Option<f64> = text.parse().ok().filter(|number| (0.0..=10.0).contains(number));
    number.ok_or_else(|| "write a number from 0.0 (nothing is open) to 10.0".to_owned())
}

/// `jobs`
#[derive(Debug, Args)]
pub struct Jobs {
    /// What to do; without one, jobs are shown
    #[command(subcommand)]
    pub command: Option<JobsCommand>,
    #[command(flatten)]
    pub which: Which,
    #[command(flatten)]
    pub print: Print,
}

impl Jobs {
    /// How to print, wherever that was said.
    pub fn print(&self) -> Print {
        let of_command = match &self.command {
            None => false,
            Some(JobsCommand::Show(job) | JobsCommand::Pause(job) | JobsCommand::Resume(job)) => {
                job.print.json
            }
            Some(JobsCommand::Next(next)) => next.job.print.json,
            Some(JobsCommand::Run(run)) => run.job.print.json,
        };
        Print { json: self.print.json || of_command }
    }
}

/// The commands of `jobs`.
#[derive(Debug, Subcommand)]
pub enum JobsCommand {
    /// Show one job, with its history and what it said last
    Show(Job),
    /// Show the next instants of a job
    Next(JobNext),
    /// Have a job fire now, also while it is paused
    Run(JobRun),
    /// Have a job fire no more by itself, over restarts, until it is resumed
    Pause(Job),
    /// Have a paused job go on; what was in between is not made up for
    Resume(Job),
}

/// A job.
#[derive(Debug, Args)]
pub struct Job {
    /// The job
    #[arg(value_name = "JOB", add = ArgValueCompleter::new(complete::jobs))]
    pub name: String,
    #[command(flatten)]
    pub print: Print,
}

/// `jobs next`
#[derive(Debug, Args)]
pub struct JobNext {
    #[command(flatten)]
    pub job: Job,
    /// How many, 1000 at most
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 10)]
    pub count: u64,
}

/// `jobs run`
#[derive(Debug, Args)]
pub struct JobRun {
    #[command(flatten)]
    pub job: Job,
    /// Return when it has ended, and fail when it did
    #[arg(short, long)]
    pub wait: bool,
}

/// `tasks`
#[derive(Debug, Args)]
pub struct Tasks {
    /// What to do; without one, tasks are shown
    #[command(subcommand)]
    pub command: Option<TasksCommand>,
    #[command(flatten)]
    pub which: Which,
    #[command(flatten)]
    pub print: Print,
}

impl Tasks {
    /// How to print, wherever that was said.
    pub fn print(&self) -> Print {
        let of_command = match &self.command {
            None => false,
            Some(TasksCommand::Ls(print)) => print.json,
            Some(TasksCommand::Stop(stop)) => stop.print.json,
        };
        Print { json: self.print.json || of_command }
    }
}

/// The commands of `tasks`.
#[derive(Debug, Subcommand)]
pub enum TasksCommand {
    /// Show those that have not ended
    Ls(Print),
    /// End one: the service's stop signal, and after its grace a kill of all its processes
    Stop(TasksStop),
}

/// `tasks stop`
#[derive(Debug, Args)]
pub struct TasksStop {
    /// The task: t7, api/t7
    #[arg(value_name = "TASK", add = ArgValueCompleter::new(complete::tasks))]
    pub task: String,
    /// Kill it at once
    #[arg(long)]
    pub now: bool,
    #[command(flatten)]
    pub print: Print,
}

/// `events`
#[derive(Debug, Args)]
pub struct Events {
    /// Go on with what happens from now on
    #[arg(short, long)]
    pub follow: bool,
    /// After this sequence number, which --json shows as `seq`
    #[arg(long, value_name = "SEQ")]
    pub since: Option<u64>,
    #[command(flatten)]
    pub which: Which,
    #[command(flatten)]
    pub print: Print,
}

/// `inject`
#[derive(Debug, Args)]
pub struct Inject {
    /// The service
    #[arg(add = ArgValueCompleter::new(complete::services))]
    pub service: String,
    /// Path and query
    #[arg(default_value = "/")]
    pub path: String,
    /// The method
    #[arg(short = 'X', long, value_name = "METHOD")]
    pub method: Option<String>,
    /// A header: 'name: value'
    #[arg(short = 'H', long = "header", value_name = "HEADER")]
    pub headers: Vec<String>,
    /// A body, or @FILE, or @- for standard input; makes the method POST
    #[arg(short, long, value_name = "DATA")]
    pub data: Option<String>,
    /// Show the status line and headers as well
    #[arg(short, long)]
    pub include: bool,
    #[command(flatten)]
    pub which: Which,
    #[command(flatten)]
    pub print: Print,
}

/// `config`
#[derive(Debug, Args)]
pub struct Config {
    /// What to do with it
    #[command(subcommand)]
    pub command: ConfigCommand,
}

/// `config …`
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Say whether the configuration is right, and everything that is not
    Check(ConfigFile),
    /// Show the configuration in effect, and where each value came from
    Show(ConfigShow),
    /// Print the JSON Schema that editors use
    Schema,
}

/// `config show`
#[derive(Debug, Args)]
pub struct ConfigShow {
    #[command(flatten)]
    pub file: ConfigFile,
    /// Leave out what may be a secret: values of `env`, and those with a variable in them
    #[arg(long)]
    pub redact: bool,
}

/// A configuration file.
#[derive(Debug, Args)]
pub struct ConfigFile {
    /// A folder with watt.yaml (or .yml, .json, .toml), or the file itself
    #[arg(value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// The configuration file, in place of DIR
    #[arg(long, value_name = "PATH", conflicts_with = "dir")]
    pub file: Option<PathBuf>,
    #[command(flatten)]
    pub print: Print,
}

impl ConfigFile {
    /// What was named.
    pub fn named(&self) -> Option<&Path> {
        self.file.as_deref().or(self.dir.as_deref())
    }
}

/// `migrate`
#[derive(Debug, Args)]
pub struct Migrate {
    /// The project
    #[command(flatten)]
    pub file: ConfigFile,
    /// Print it in place of writing it
    #[arg(long)]
    pub stdout: bool,
    /// Write it even where there is a watt.yaml already
    #[arg(long)]
    pub force: bool,
}

/// The role of the spawner.
#[derive(Debug, Args)]
pub struct Spawner {
    /// The file to lock
    #[arg(long)]
    pub lock: PathBuf,
    /// For `ps`
    #[arg(long)]
    pub app: String,
    /// A service manager started us, and is to be told how it goes
    #[arg(long)]
    pub managed: bool,
    /// What we say goes to the journal as well
    #[arg(long)]
    pub journal: bool,
    /// Another program was this process before, and its table is at this descriptor
    #[arg(long)]
    pub resume: Option<i32>,
    /// That program, which goes on when this one cannot
    #[arg(long)]
    pub or_else: Option<i32>,
    /// Why the program that was to take over from this one did not
    #[arg(long)]
    pub because: Option<String>,
    /// Only say whether we could take over, with the configuration in force at this descriptor
    #[arg(long)]
    pub rehearse: Option<i32>,
    /// The daemon's command line
    #[arg(last = true, required = true)]
    pub daemon: Vec<OsString>,
}

/// The role of the daemon.
#[derive(Debug, Args)]
pub struct Daemon {
    /// The application
    #[arg(long)]
    pub app: String,
    /// The configuration file
    #[arg(long)]
    pub file: PathBuf,
    /// Its runtime folder
    #[arg(long)]
    pub runtime: PathBuf,
    /// Its state folder
    #[arg(long)]
    pub state: PathBuf,
    /// What is said goes to the journal as well, unless the configuration says otherwise
    #[arg(long)]
    pub journal: bool,
}

/// The role of the mesh proxy.
#[derive(Debug, Args)]
pub struct MeshProxy {
    /// For `ps`
    #[arg(long)]
    pub app: String,
    /// How many threads serve
    #[arg(long)]
    pub threads: Option<usize>,
}
