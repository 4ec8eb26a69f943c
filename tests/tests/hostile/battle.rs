//! One application in one setting: a victim, the attacks beside it, and what came of them.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs::{self, Permissions},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
    time::Duration,
};

use serde_json::Value;
use watt_tests::{App, get, wait_within};

use super::{Attack, Outcome, Setting, Verdict, outside::Outside, systemd};

/// How long all of them together may take, in six settings at the same time, of which some take all that there is.
const ATTACKS_PATIENCE: Duration = Duration::from_secs(300);
/// Of a service's log: a file and the one before it.
const LOG_FILE: u64 = 1 << 20;
const LOG_FILES: u64 = 2;

/// Groups whose attacks take what all share. Each has a worker to itself, which may be killed.
const ALONE: &str = "resources";
/// Others that have one to themselves, because they end it or need one that is not ready yet.
const ALSO_ALONE: [&str; 4] = ["crash-loop", "folder-links", "notify-malformed", "notify-rights"];
/// Attacks whose success is seen from outside only.
const JUDGED: [&str; 3] = ["folder-links", "notify-malformed", "notify-rights"];

/// An application with a victim, and a service for each attack or group of attacks.
pub(super) struct Battle {
    setting: Setting,
    app: App,
    /// By service, its attacks.
    services: BTreeMap<String, Vec<String>>,
}

impl Battle {
    pub(super) fn new(setting: Setting, attacks: &[Attack]) -> Battle {
        let app = App::case("hostile", setting.user);
        app.write("victim/secret", "of the victim");
        app.write("keys/token", "of the victim");
        write_secret(&app, "keys/replaced");
        app.write("attacker/README", "");
        app.write("../beside/README", "");
        let mut services: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for attack in attacks {
            let alone = attack.group == ALONE || ALSO_ALONE.contains(&&*attack.name);
            let service = if alone { &attack.name } else { &attack.group };
            services.entry(service.clone()).or_default().push(attack.name.clone());
        }
        let battle = Battle { setting, app, services };
        battle.app.write("watt.yaml", &battle.configuration(&Outside::new(&battle.tag())));
        battle
    }

    fn home(&self) -> &Path {
        self.app.dir.parent().expect("it is in a folder of its own")
    }

    fn tag(&self) -> String {
        self.home().file_name().expect("it has a name").to_string_lossy().into_owned()
    }

    fn configuration(&self, outside: &Outside) -> String {
        let dir = self.app.dir.display();
        let is_off = self.setting.profile == "off";
        let is_systemds = self.setting.profile == systemd::PROFILE;
        let sandbox = if is_systemds { systemd::SANDBOX } else { self.setting.profile };
        let network = match is_off {
            true => "network: host",
            false => "network: private\n    egress: { allow: [] }",
        };
        // On the host's network the kernel gives it one, and it tells which.
        let (port, listen) = if is_off { (0, "auto") } else { (8080, "8080") };
        let tag = self.tag();
        let key = tag.bytes().fold(7_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte)));
        let mut text = format!(
            "name: hostile
sandbox: {sandbox}
server: {{ port: 0 }}
gateway: {{ routes: [{{ path: /, service: victim }}] }}
logs: {{ file_size: {LOG_FILE}, files: {LOG_FILES} }}
policies: [{{ from: victim, to: forbidden }}]
secrets: {{ token: {{ file: keys/token }}, replaced: {{ file: keys/replaced }} }}
x-env: &env
  VICTIM_TAG: {tag}
  VICTIM_KEY: \"{key}\"
  VICTIM_PORT: \"{port}\"
services:
  victim:
    path: victim
    command: python3 -B {dir}/victim.py {dir} {port}
    listen: {listen}
    {victims_network}
    ready: listening
    secrets: [token]
    env: {{ <<: *env, VICTIM_SECRET: of the victim }}
  forbidden:
    path: victim
    command: python3 -m http.server {{port}} --bind 127.0.0.1
    listen: port
",
            key = key & 0x7fff_ffff,
            victims_network = network.lines().next().unwrap_or_default(),
        );
        for (service, attacks) in &self.services {
            let (ready, restart) = match service.as_str() {
                "notify-malformed" | "notify-rights" => ("notify", "never"),
                "crash-loop" | "folder-links" => ("started", "on-failure"),
                _ => ("started", "never"),
            };
            // The limits of open files and of the processor would be in the way of other attacks.
            let limits = match service.as_str() {
                _ if is_off => "{ pids: 1000 }",
                "cpu-spin" => "{ memory: 64M, pids: 32, cpu: 0.02 }",
                "notify-rights" | "supervisor" => "{ memory: 64M, pids: 32 }",
                _ => "{ memory: 64M, pids: 32, nofile: 40, memlock: 1M }",
            };
            let _ = write!(
                text,
                "  {service}:
    path: attacker
    command: python3 -B {dir}/attack.py {}
    listen: none
    ready: {ready}
    restart: {restart}
    depends_on: [victim, forbidden]
    {network}
    limits: {limits}
    env:
      <<: *env
      VICTIM_MARK: {dir}
      VICTIM_SECRET_FILE: {dir}/victim/secret
      VICTIM_STATE: {}
      OUTSIDE: {}
      OUTSIDE_PORT: \"{}\"
      HOST_NET: \"{}\"
      HOST_MNT: \"{}\"
",
                attacks.join(" "),
                self.home().join("state/hostile/services/victim").display(),
                outside.address,
                outside.port,
                inode("net"),
                inode("mnt"),
            );
        }
        text
    }

    /// Lets all attacks have their time, and looks whether everybody else is well.
    pub(super) fn fight(self, attacks: &[Attack]) -> Outcome {
        self.app.run(&["up", "-d"]);
        self.replace_a_secret();
        let before = self.bystanders();
        let secret = self.app.dir.join("victim/secret");
        let ours = |path: &Path| {
            let file = fs::symlink_metadata(path).expect("the victim's file is there");
            (file.uid(), file.mode(), fs::read(path).expect("root reads it"))
        };
        let file = ours(&secret);
        wait_within(ATTACKS_PATIENCE, "all attacks have ended", || {
            let status = self.app.status();
            let going = self.services.keys().filter(|service| !has_ended(&status, service));
            let going: Vec<_> = going.collect();
            if going.is_empty() { Ok(()) } else { Err(format!("{:?}: {going:?}", self.setting)) }
        });
        if self.setting.profile != "off" {
            assert_eq!(self.bystanders(), before, "{:?}", self.setting);
            assert_eq!(ours(&secret), file, "{:?}", self.setting);
            let (status, _) = get(&self.app.gateway(), "/").expect("the gateway answers");
            assert_eq!(status, 200, "{:?}", self.setting);
        }
        let mut verdicts = BTreeMap::new();
        for (service, names) in &self.services {
            let log = self.app.ok(&["logs", service, "--json"]);
            let exit = self.app.worker(service, 0)["last_exit"].clone();
            for name in names {
                verdicts.insert(name.clone(), self.verdict(name, &log, &exit));
            }
        }
        assert_eq!(verdicts.len(), attacks.len());
        let outcome = Outcome { verdicts, is_walled: self.is_walled() };
        self.app.down();
        outcome
    }

    /// As an operator does who gives a secret another value: whoever reads it has the old one or the new one.
    fn replace_a_secret(&self) {
        write_secret(&self.app, "keys/new");
        let keys = self.app.dir.join("keys");
        fs::rename(keys.join("new"), keys.join("replaced")).expect("both are there");
    }

    /// Nothing of the sandbox is missing here but users of their own, which an ordinary user cannot give.
    fn is_walled(&self) -> bool {
        let all = self.app.service("kernel")["unenforced"].as_array().cloned().unwrap_or_default();
        let missing = all
            .iter()
            .filter_map(Value::as_str)
            .filter(|what| what.contains("is not available on this host"));
        missing
            .inspect(|what| eprintln!("{:?}: {what}", self.setting))
            .all(|what| what.contains("dynamic_user"))
    }

    /// The victim and watt itself, by their pids.
    fn bystanders(&self) -> Vec<u32> {
        let status = self.app.status();
        let own = ["spawner_pid", "daemon_pid", "proxy_pid"].map(|name| &status["supervisor"][name]);
        let own = own.map(|pid| pid.as_u64().and_then(|pid| pid.try_into().ok()));
        own.into_iter()
            .map(|pid| pid.expect("watt has its pids"))
            .chain([self.app.pid("victim", 0)])
            .collect()
    }

    fn verdict(&self, name: &str, log: &str, exit: &Value) -> Verdict {
        let contained = |why: &str| Verdict { is_contained: true, why: why.to_owned() };
        if name == "disk-log" {
            let kept = self.log_size(name);
            // A line more than its file holds may be in each.
            let is_contained = kept <= LOG_FILES * (LOG_FILE + LOG_FILE / 2);
            let why = if is_contained { "rotated".to_owned() } else { format!("{kept} bytes are kept") };
            return Verdict { is_contained, why };
        }
        let start = format!("verdict: {name}: ");
        let text = |line| Some(serde_json::from_str::<Value>(line).ok()?["text"].as_str()?.to_owned());
        let said =
            log.lines().rev().filter_map(text).find_map(|text| Some(text.strip_prefix(&start)?.to_owned()));
        match said.as_deref().and_then(|said| said.split_once(": ")) {
            // A child of it was killed, and it is before or after it said so.
            Some((_, "SIGKILL")) => contained("killed"),
            // Held up, it has not done what there is to judge.
            Some((word, why)) if JUDGED.contains(&name) => match word {
                "done" => contained("nobody is the worse for it"),
                _ => Verdict { is_contained: false, why: why.to_owned() },
            },
            Some(_) | None if exit["cause"] == "oom" => contained("killed"),
            Some((word, why)) => Verdict { is_contained: word == "contained", why: why.to_owned() },
            None => panic!("{name} in {:?} has no end: {exit}: {log}", self.setting),
        }
    }

    /// What is kept of a service's output.
    fn log_size(&self, service: &str) -> u64 {
        let folder = fs::read_dir(self.home().join("state/hostile/logs")).expect("there are logs");
        let files = folder.flatten().filter(|file| file.file_name().to_string_lossy().starts_with(service));
        files.filter_map(|file| Some(file.metadata().ok()?.len())).sum()
    }
}

/// For its owner alone.
fn write_secret(app: &App, name: &str) {
    app.write(name, "of the victim");
    fs::set_permissions(app.dir.join(name), Permissions::from_mode(0o600)).expect("it is there");
}

fn has_ended(status: &Value, service: &str) -> bool {
    let all = status["services"].as_array().into_iter().flatten();
    all.filter(|entry| entry["id"] == service)
        .any(|entry| matches!(entry["state"].as_str(), Some("completed" | "failed")))
}

fn inode(namespace: &str) -> u64 {
    fs::metadata(format!("/proc/self/ns/{namespace}")).expect("/proc is mounted").ino()
}
