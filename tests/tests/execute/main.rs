//! systemd's own tests of what its units do to a program (`test/test-execute`), run as services of watt. What comes of each unit is
//! docs/test-execute.md; the test fails when one does not hold that holds there.
//!
//! The units come from the distribution's source package. Where that cannot be fetched the test says so and has
//! nothing to try, but fails where `WATT_TEST_ALL` is set, as scripts/test does. It takes root: most units do.

mod archive;
mod host;
mod page;
mod sandbox;
mod translate;
mod unit;
mod words;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use archive::{Ending, Suite};
use host::Host;
use serde_json::{Map, Value as Json, json};
use translate::Translation;
use unit::Unit;
use watt_tests::{App, User, is_root, printed, repository, wait};

/// What came of a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    /// It ended as it is to end.
    Holds,
    /// It did not.
    Fails(String),
    /// It was not run, for this reason.
    NotRun(String),
}

/// Why units do not hold that could be run.
const EXPLAINED: [(&str, &str); 1] = [(
    "exec-temporaryfilesystem-options",
    "looks for the mode in the field of `mountinfo` that has it for a shared mount; watt's are not shared",
)];

/// The fewest that have to hold.
const HOLDING_MIN: usize = 110;

#[test]
fn systemds_own_units_hold() {
    let suite = match Suite::get() {
        _ if !is_root() => return println!("not run: systemd's units take root"),
        Ok(suite) => suite,
        Err(error) if std::env::var_os("WATT_TEST_ALL").is_none() => {
            return println!("NOT RUN: systemd's units cannot be fetched: {error}");
        }
        Err(error) => panic!("systemd's units cannot be fetched: {error}"),
    };
    let units: BTreeMap<&str, &Unit> = suite.units.iter().map(|unit| (unit.name.as_str(), unit)).collect();
    for unit in units.values() {
        let unknown = unit.settings.iter().find(|(key, _)| !translate::is_understood(key));
        assert_eq!(unknown, None, "nobody translates this of {}", unit.name);
    }
    let verdicts = verdicts(&suite, &units);
    let page = page::write(&verdicts);
    println!("{page}");
    let path = repository().join("docs/test-execute.md");
    if std::env::var_os("WATT_BLESS").is_some() {
        fs::write(&path, &page).expect("docs can be written");
    }
    let kept = page::holding(&fs::read_to_string(path).expect("the page is there"));
    assert!(kept.len() >= HOLDING_MIN, "{} of {} hold", kept.len(), units.len());
    let lost: Vec<_> = kept
        .iter()
        .map(|name| (name, verdicts.get(name)))
        .filter(|(_, verdict)| !matches!(verdict, Some(Verdict::Holds)))
        .filter(|(_, verdict)| !verdict.is_some_and(is_of_the_host))
        .collect();
    assert!(lost.is_empty(), "held according to docs/test-execute.md: {lost:#?}");
}

/// Other hosts have other users and fewer CPUs.
fn is_of_the_host(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::NotRun(reason) if reason.contains("systemd's test leaves it out"))
}

/// Runs all that can be translated.
fn verdicts(suite: &Suite, units: &BTreeMap<&str, &Unit>) -> BTreeMap<String, Verdict> {
    let endings = suite.endings();
    let mut verdicts = BTreeMap::new();
    let mut waiting: Vec<&Unit> = units.values().copied().collect();
    // Those that use the same places of the host, or another environment, do not run at the same time.
    while !waiting.is_empty() {
        let mut batch = Batch::new();
        let mut later = Vec::new();
        for unit in waiting {
            match translate::translate(unit, &batch.host) {
                Err(reason) => {
                    verdicts.insert(unit.name.clone(), Verdict::NotRun(reason));
                }
                Ok(translation) if batch.takes(unit, &translation) => batch.add(unit, translation),
                Ok(_) => later.push(unit),
            }
        }
        waiting = later;
        verdicts.extend(batch.run(&endings));
    }
    verdicts
}

/// Units that run as services of one application.
struct Batch {
    app: App,
    host: Host,
    units: BTreeMap<String, Translation>,
    places: BTreeSet<String>,
    environment: Option<BTreeMap<String, String>>,
}

impl Batch {
    fn new() -> Batch {
        let app = App::empty(User::Root);
        app.pass_through();
        let host = Host::this(&app.runtime().display().to_string());
        Batch { app, host, units: BTreeMap::new(), places: BTreeSet::new(), environment: None }
    }

    fn takes(&self, unit: &Unit, translation: &Translation) -> bool {
        self.places.is_disjoint(&places(unit))
            && self.environment.as_ref().is_none_or(|own| *own == translation.environment)
    }

    fn add(&mut self, unit: &Unit, translation: Translation) {
        self.places.extend(places(unit));
        self.environment = Some(translation.environment.clone());
        self.units.insert(unit.name.clone(), translation);
    }

    fn run(self, endings: &BTreeMap<String, Ending>) -> BTreeMap<String, Verdict> {
        if self.units.is_empty() {
            return BTreeMap::new();
        }
        self.write();
        self.up();
        let verdicts = wait("every unit has ended", || {
            let status = self.app.status();
            let ended =
                |name: &String| self.verdict(&status, name, endings.get(name)).map(|own| (name.clone(), own));
            let ended: BTreeMap<_, _> = self.units.keys().filter_map(ended).collect();
            let missing = self.units.keys().find(|name| !ended.contains_key(*name));
            missing.map_or(Ok(ended), |name| Err(format!("{name} has not: {status}")))
        });
        self.app.down();
        verdicts
    }

    fn write(&self) {
        let all = || self.units.values();
        let services: Map<String, Json> = all().flat_map(|own| own.services.clone()).collect();
        let secrets: Map<String, Json> = all().flat_map(|own| own.secrets.clone()).collect();
        let configuration = json!({ "services": services, "secrets": secrets });
        let text = serde_json::to_string_pretty(&configuration).expect("it is JSON");
        self.app.write("watt.json", &text);
        for (name, text) in all().flat_map(|own| &own.files) {
            self.app.write(name, text);
        }
        // Credentials of watt's own unit, as systemd's program has them.
        self.app.write("credentials/test-execute.load-credential", "foo");
        self.app.write("credentials/very_top_secret", "");
    }

    /// In namespaces of its own, where the units find the host that they expect, and change none.
    fn up(&self) {
        let folders: Vec<_> = self.units.values().flat_map(|own| &own.folders).collect();
        let makes = folders.iter().map(|folder| format!("mkdir -p '{folder}'\n"));
        let script = format!("{}{}exec \"$@\"\n", host::PREPARE, makes.collect::<String>());
        let home = self.app.dir.parent().expect("the application's folder is in one");
        let wattctl = watt_tests::wattctl();
        let output = self
            .app
            .command("/usr/bin/unshare")
            .args(["--mount", "--net", "--propagation", "private", "/bin/sh", "-c", &script, "sh"])
            .arg(home)
            .arg(&wattctl)
            .arg("/usr/bin/env")
            .args(self.environment.iter().flatten().map(|(name, value)| format!("{name}={value}")))
            .arg(&wattctl)
            .args(["up", "-d"])
            .env("CREDENTIALS_DIRECTORY", self.app.dir.join("credentials"))
            .output()
            .expect("unshare runs");
        // Units that are to fail make it fail.
        let text = printed(&output);
        let is_up = self.app.run(&["status"]).status.code() != Some(4) && !text.contains("error: watt.json");
        assert!(is_up, "{text}");
    }

    /// `None` while it is not known.
    fn verdict(&self, status: &Json, name: &str, ending: Option<&Ending>) -> Option<Verdict> {
        let wanted = *ending.unwrap_or(&Ending::Exit(0));
        let services = status["services"].as_array()?;
        for (id, _) in &self.units[name].services {
            let service = services.iter().find(|service| service["id"] == **id)?;
            let exit = &service["workers"][0]["last_exit"];
            let code = exit["code"].as_i64()? as i32;
            let got = match exit["cause"].as_str()? {
                "exit" => Some(Ending::Exit(code)),
                "signal" => Some(Ending::Signal(code)),
                _ => None,
            };
            let wanted = if id == name { wanted } else { Ending::Exit(0) };
            if got != Some(wanted) {
                let said = service["workers"][0]["last_output"].as_array().into_iter().flatten();
                let said: Vec<&str> = said.filter_map(Json::as_str).collect();
                let text = exit["text"].as_str().unwrap_or_default();
                let seen = format!("{text} in place of {wanted:?}: {}", said.join("; "));
                let why = EXPLAINED.iter().find(|(own, _)| *own == name).map(|(_, why)| (*why).to_owned());
                return Some(Verdict::Fails(why.unwrap_or(seen)));
            }
        }
        Some(Verdict::Holds)
    }
}

/// The places of the host that a unit names, by the words that begin like a path there.
fn places(unit: &Unit) -> BTreeSet<String> {
    if unit.is("PrivateTmp") {
        return BTreeSet::new();
    }
    let values =
        unit.settings.iter().flat_map(|(_, value)| value.split([' ', '"', '\'', ':', ';', '=', ')']));
    values.filter(|word| word.len() > 5 && word.starts_with("/tmp/")).map(str::to_owned).collect()
}
