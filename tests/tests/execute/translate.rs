//! A unit as services of watt: one for all commands that run with the same rights, each after the one before.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value as Json, json};

use crate::{
    host::Host,
    sandbox,
    unit::Unit,
    words::{self, Command, Specifiers, specify, split},
};

/// What a unit is for watt.
#[derive(Debug, Default)]
pub(crate) struct Translation {
    /// Its services, in the order in which they run. The last one's end is the unit's.
    pub(crate) services: Vec<(String, Json)>,
    /// Its entries in `secrets`.
    pub(crate) secrets: Map<String, Json>,
    /// Files beside the configuration, by name.
    pub(crate) files: BTreeMap<String, String>,
    /// Folders that systemd makes on the host, and watt does not.
    pub(crate) folders: BTreeSet<String>,
    /// The environment that watt has to be started with.
    pub(crate) environment: BTreeMap<String, String>,
}

/// Why a unit is not run.
pub(crate) type Reason = String;

/// Settings that say something of systemd's own conduct and nothing of the program.
const WITHOUT_MEANING: [&str; 6] =
    ["Type", "Description", "ConditionKernelVersion", "SystemCallArchitectures", "ExecStop", "ExecStopPost"];

/// Settings that watt has nothing for.
const NOT_IN_WATT: [(&str, &str); 6] = [
    ("ExecCondition", "watt has no command that decides whether a service starts"),
    ("RootDirectory", "watt changes what is seen of the host's root, and has no other one"),
    (
        "NetworkNamespacePath",
        "a service gets a network of its own or the host's, and none that is there already",
    ),
    (
        "StateDirectory",
        "a service has one `$STATE_DIRECTORY`, and systemd's layout of `/var/lib/private` is not watt's",
    ),
    ("RuntimeDirectory", "watt makes no folders in `/run`"),
    ("StandardOutput", "what a service writes goes to watt's logs"),
];

/// Translates a unit, as far as watt and this host have what it is about.
pub(crate) fn translate(unit: &Unit, host: &Host) -> Result<Translation, Reason> {
    if unit.name.starts_with("exec-specifier") {
        return Err(
            "asserts what the `%` of unit files stand for, which the translator alone fills in".into()
        );
    }
    let unknown = NOT_IN_WATT.iter().find(|(key, _)| unit.all(key).next().is_some());
    if let Some((_, reason)) = unknown {
        return Err((*reason).to_owned());
    }
    if unit.is("IgnoreSIGPIPE") {
        return Err("a program of watt's starts with every signal's default action".into());
    }
    let secrets = unit.list("LoadCredential").len() + unit.list("SetCredential").len();
    let specifiers = specifiers(unit, host, secrets > 0)?;
    let mut translation = Translation::default();
    let variables = environment(unit, host, &specifiers, &mut translation)?;
    let mut service = service(unit, host, &specifiers, &mut translation)?;
    service.insert("env".into(), Json::Object(variables.written));
    if !variables.unset.is_empty() {
        service.insert("unset_env".into(), json!(variables.unset));
    }
    let groups = groups(unit, &specifiers, &variables.known)?;
    for (index, (is_privileged, commands)) in groups.iter().enumerate() {
        let mut own = service.clone();
        if *is_privileged {
            own.insert("sandbox".into(), json!("off"));
        }
        own.insert("command".into(), command(commands, &variables.search));
        let id = |index| {
            if index + 1 == groups.len() { unit.name.clone() } else { format!("{}-{index}", unit.name) }
        };
        if index > 0 {
            own.insert("depends_on".into(), json!({ id(index - 1): "completed_successfully" }));
        }
        translation.services.push((id(index), Json::Object(own)));
    }
    Ok(translation)
}

/// All of a service but its command and its variables.
fn service(
    unit: &Unit,
    host: &Host,
    specifiers: &Specifiers,
    translation: &mut Translation,
) -> Result<Map<String, Json>, Reason> {
    let mut service = Map::new();
    let mut set = |key: &str, value: Json| service.insert(key.to_owned(), value);
    set("listen", json!("none"));
    set("restart", json!("never"));
    set("path", json!(unit.last("WorkingDirectory").unwrap_or("/")));
    set("network", json!(if unit.is("PrivateNetwork") { "private" } else { "host" }));
    set("sandbox", sandbox::translate(unit, host, specifiers, translation)?);
    set("scheduling", scheduling(unit, host)?);
    if let Some(core) = unit.last("LimitCORE") {
        set("limits", json!({ "core": core.parse::<u64>().map_err(|_| format!("LimitCORE={core}"))? }));
    }
    let credentials = credentials(unit, translation);
    if !credentials.is_empty() {
        set("secrets", Json::Object(credentials));
    }
    if let Some(input) = input(unit, specifiers, translation)? {
        set("stdin", json!(input));
    }
    Ok(service)
}

/// `${CREDENTIALS_DIRECTORY}` is at a place that is known.
fn specifiers(unit: &Unit, host: &Host, has_credentials: bool) -> Result<Specifiers, Reason> {
    let (uid, gid) = match unit.last("User") {
        Some(user) => host.user(user).ok_or_else(|| host.no_user(user))?,
        None => (0, 0),
    };
    let mut specifiers: Specifiers = [
        ('n', format!("{}.service", unit.name)),
        ('t', "/run".to_owned()),
        ('S', "/var/lib".to_owned()),
        ('V', "/var/tmp".to_owned()),
        ('U', uid.to_string()),
        ('G', gid.to_string()),
        ('b', host.boot_id.clone()),
    ]
    .into();
    if has_credentials {
        specifiers.insert('d', format!("{}/credentials/{}/0", host.runtime, unit.name));
    }
    Ok(specifiers)
}

/// Variables of a unit.
struct Variables {
    /// As the configuration has them.
    written: Map<String, Json>,
    /// Those that systemd itself fills into command lines.
    known: BTreeMap<String, String>,
    /// Those that are taken away in the end.
    unset: Vec<String>,
    /// Where programs are looked for, when that is not the program's own `PATH`.
    search: Vec<String>,
}

fn environment(
    unit: &Unit,
    host: &Host,
    specifiers: &Specifiers,
    translation: &mut Translation,
) -> Result<Variables, Reason> {
    let mut known = BTreeMap::new();
    let search: Vec<String> = match unit.last("ExecSearchPath") {
        Some(path) => specify(path, specifiers)?.split(':').map(str::to_owned).collect(),
        None => Vec::new(),
    };
    if !search.is_empty() {
        known.insert("PATH".to_owned(), search.join(":"));
    }
    let mut written: Map<String, Json> = literal(&known);
    for name in unit.list("PassEnvironment").into_iter().flat_map(str::split_whitespace) {
        translation.environment.extend(host.passed(unit, name).map(|value| (name.to_owned(), value)));
        if let Some(value) = translation.environment.get(name) {
            known.insert(name.to_owned(), value.clone());
            written.insert(name.to_owned(), json!(format!("{{{name}}}")));
        }
    }
    let mut own = BTreeMap::new();
    for word in unit.list("Environment").into_iter().flat_map(split) {
        let word = specify(&word, specifiers)?;
        own.extend(word.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
    for file in unit.list("EnvironmentFile") {
        own.extend(host.environment_file(file)?);
    }
    written.extend(literal(&own));
    known.extend(own);
    if let Some(folder) = specifiers.get(&'d') {
        known.insert("CREDENTIALS_DIRECTORY".to_owned(), folder.clone());
    }
    let mut unset = Vec::new();
    for word in unit.list("UnsetEnvironment").into_iter().flat_map(split) {
        let word = specify(&word, specifiers)?;
        match word.split_once('=') {
            Some((name, value)) if known.get(name).is_some_and(|own| own == value) => {
                unset.push(name.to_owned())
            }
            Some(_) => {}
            None => unset.push(word),
        }
    }
    let has_own_path = known.get("PATH").is_some_and(|path| *path != search.join(":"));
    Ok(Variables { written, known, unset, search: if has_own_path { search } else { Vec::new() } })
}

fn literal(variables: &BTreeMap<String, String>) -> Map<String, Json> {
    variables.iter().map(|(name, value)| (name.clone(), json!(verbatim(value)))).collect()
}

/// A text in which no brace starts a placeholder.
pub(crate) fn verbatim(text: &str) -> String {
    let mut out = String::new();
    let mut open = 0;
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        out.push(letter);
        match letter {
            '{' if letters.peek().is_some_and(|next| next.is_ascii_alphabetic() || "_{".contains(*next)) => {
                out.push('{');
                open += 1;
            }
            '}' if open > 0 => {
                out.push('}');
                open -= 1;
            }
            _ => {}
        }
    }
    out
}

/// The commands in their order, those in a row with the same rights together.
fn groups(
    unit: &Unit,
    specifiers: &Specifiers,
    env: &BTreeMap<String, String>,
) -> Result<Vec<(bool, Vec<Command>)>, Reason> {
    let mut groups: Vec<(bool, Vec<Command>)> = Vec::new();
    for key in ["ExecStartPre", "ExecStart", "ExecStartPost"] {
        for line in unit.list(key) {
            for command in words::commands(line, specifiers, env)? {
                let is_privileged = command.prefix.contains('+');
                match groups.last_mut().filter(|(own, _)| *own == is_privileged) {
                    Some((_, commands)) => commands.push(command),
                    None => groups.push((is_privileged, vec![command])),
                }
            }
        }
    }
    Ok(groups)
}

/// One command as it is; several as a script that ends with the first one that fails.
fn command(commands: &[Command], search: &[String]) -> Json {
    let found = |program: &str| {
        let places = search.iter().map(|folder| format!("{folder}/{program}"));
        places
            .into_iter()
            .find(|path| std::path::Path::new(path).is_file())
            .unwrap_or_else(|| program.to_owned())
    };
    let argv = |command: &Command| {
        let program = std::iter::once(found(&command.argv[0]));
        program.chain(command.argv[1..].iter().cloned()).collect::<Vec<_>>()
    };
    if let [command] = commands {
        return argv(command).iter().map(|word| verbatim(word)).collect();
    }
    let line = |command: &Command| {
        let words: Vec<String> =
            argv(command).iter().map(|word| format!("'{}'", word.replace('\'', r"'\''"))).collect();
        format!("{} || exit", words.join(" "))
    };
    let script: Vec<String> = commands.iter().map(line).collect();
    json!(["/bin/sh", "-c", verbatim(&script.join("\n"))])
}

fn scheduling(unit: &Unit, host: &Host) -> Result<Json, Reason> {
    let mut scheduling = Map::new();
    let number = |text: &str| text.parse::<i64>().map_err(|_| format!("the number {text}"));
    if let Some(adjust) = unit.last("OOMScoreAdjust") {
        let adjust = number(adjust)?;
        if adjust < 0 && !host.can_lower_oom_score {
            let reason =
                "root has no CAP_SYS_RESOURCE on this host; systemd's test leaves it out in containers, too";
            return Err(reason.into());
        }
        scheduling.insert("oom_score_adj".into(), json!(adjust));
    }
    match unit.last("IOSchedulingClass") {
        None | Some("none") => {}
        Some(class) => {
            scheduling.insert("io".into(), json!(class.replace('-', "_")));
        }
    }
    let cpus: Vec<String> = unit
        .list("CPUAffinity")
        .into_iter()
        .flat_map(|line| line.split([' ', ',']).map(str::to_owned).collect::<Vec<_>>())
        .collect();
    if !cpus.is_empty() {
        let last = cpus.iter().flat_map(|range| range.split('-')).filter_map(|cpu| cpu.parse().ok()).max();
        if last.is_some_and(|cpu: usize| cpu >= host.cpus) {
            return Err(format!(
                "takes more than {} CPUs; systemd's test leaves it out here, too",
                host.cpus
            ));
        }
        scheduling.insert("affinity".into(), json!(cpus.join(",")));
    }
    Ok(Json::Object(scheduling))
}

/// Its secrets by file: those of systemd's from watt's own credentials, texts from files beside the configuration.
fn credentials(unit: &Unit, translation: &mut Translation) -> Map<String, Json> {
    let mut credentials = Map::new();
    let mut add = |id: &str, source: Json| {
        let secret = format!("{}-{id}", unit.name).replace('.', "_");
        translation.secrets.insert(secret.clone(), source);
        credentials.insert(id.to_owned(), json!(secret));
    };
    for id in unit.list("LoadCredential") {
        add(id, json!({ "credential": id }));
    }
    for (id, text) in unit.list("SetCredential").into_iter().filter_map(|value| value.split_once(':')) {
        let file = format!("{}-{id}", unit.name);
        add(id, json!({ "file": file }));
        translation.files.insert(file, words::unescape(text));
    }
    credentials
}

/// The file it reads.
fn input(
    unit: &Unit,
    specifiers: &Specifiers,
    translation: &mut Translation,
) -> Result<Option<String>, Reason> {
    let Some(input) = unit.last("StandardInput") else { return Ok(None) };
    if let Some(file) = input.strip_prefix("file:") {
        return Ok(Some(file.to_owned()));
    }
    if input != "data" {
        return Err(format!("StandardInput={input}"));
    }
    let mut data = String::new();
    for (key, value) in &unit.settings {
        match key.as_str() {
            "StandardInputText" => {
                data.push_str(&specify(&words::unescape(value), specifiers)?);
                data.push('\n');
            }
            "StandardInputData" => data.push_str(&decode_base64(value)?),
            _ => {}
        }
    }
    let file = format!("{}.input", unit.name);
    translation.files.insert(file.clone(), data);
    Ok(Some(file))
}

fn decode_base64(text: &str) -> Result<String, Reason> {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bytes, mut held, mut bits) = (Vec::new(), 0_u32, 0);
    for letter in text.bytes().filter(|byte| !b" \t=".contains(byte)) {
        let value =
            LETTERS.iter().position(|own| *own == letter).ok_or("StandardInputData= that is no base64")?;
        held = (held << 6) | value as u32;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((held >> bits) as u8);
        }
    }
    String::from_utf8(bytes).map_err(|error| error.to_string())
}

/// What is known and has no meaning of its own, for the check that nothing is passed over.
pub(crate) fn is_understood(key: &str) -> bool {
    WITHOUT_MEANING.contains(&key)
        || NOT_IN_WATT.iter().any(|(own, _)| *own == key)
        || sandbox::KEYS.contains(&key)
        || KEYS.contains(&key)
}

const KEYS: [&str; 25] = [
    "CPUAffinity",
    "Environment",
    "EnvironmentFile",
    "ExecSearchPath",
    "ExecStart",
    "ExecStartPost",
    "ExecStartPre",
    "Group",
    "IOSchedulingClass",
    "IgnoreSIGPIPE",
    "LimitCORE",
    "LoadCredential",
    "OOMScoreAdjust",
    "PassEnvironment",
    "PrivateNetwork",
    "RuntimeDirectoryMode",
    "RuntimeDirectoryPreserve",
    "SetCredential",
    "StandardError",
    "StandardInput",
    "StandardInputData",
    "StandardInputText",
    "UnsetEnvironment",
    "User",
    "WorkingDirectory",
];
