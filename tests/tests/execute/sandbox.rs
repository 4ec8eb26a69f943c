//! The settings of systemd.exec(5) that are switches of a sandbox. A unit starts from nothing, as a service does from `off`.

use std::collections::BTreeSet;

use serde_json::{Map, Value as Json, json};

use crate::{
    host::Host,
    translate::{Reason, Translation, verbatim},
    unit::{Unit, is_yes},
    words::{Specifiers, specify},
};

/// Switches that are called the same but for the spelling.
const SWITCHES: [(&str, &str); 10] = [
    ("NoNewPrivileges", "no_new_privileges"),
    ("PrivateDevices", "private_devices"),
    ("PrivateTmp", "private_tmp"),
    ("PrivateUsers", "private_users"),
    ("ProtectClock", "protect_clock"),
    ("ProtectControlGroups", "protect_control_groups"),
    ("ProtectKernelLogs", "protect_kernel_logs"),
    ("ProtectKernelModules", "protect_kernel_modules"),
    ("ProtectKernelTunables", "protect_kernel_tunables"),
    ("DynamicUser", "dynamic_user"),
];

/// Lists of paths.
const PATHS: [(&str, &str); 6] = [
    ("ReadOnlyPaths", "read_only_paths"),
    ("ReadWritePaths", "read_write_paths"),
    ("InaccessiblePaths", "inaccessible_paths"),
    ("NoExecPaths", "no_exec_paths"),
    ("BindPaths", "bind_paths"),
    ("BindReadOnlyPaths", "bind_read_only_paths"),
];

/// All settings that are read here.
pub(crate) const KEYS: [&str; 30] = [
    "NoNewPrivileges",
    "PrivateDevices",
    "PrivateTmp",
    "PrivateUsers",
    "ProtectClock",
    "ProtectControlGroups",
    "ProtectKernelLogs",
    "ProtectKernelModules",
    "ProtectKernelTunables",
    "DynamicUser",
    "ReadOnlyPaths",
    "ReadWritePaths",
    "InaccessiblePaths",
    "NoExecPaths",
    "BindPaths",
    "BindReadOnlyPaths",
    "AmbientCapabilities",
    "CapabilityBoundingSet",
    "MountAPIVFS",
    "Personality",
    "PrivateMounts",
    "ProtectHome",
    "ProtectSystem",
    "RestrictNamespaces",
    "SupplementaryGroups",
    "SystemCallErrorNumber",
    "SystemCallFilter",
    "TemporaryFileSystem",
    "UMask",
    "User",
];

/// A unit's sandbox.
pub(crate) fn translate(
    unit: &Unit,
    host: &Host,
    specifiers: &Specifiers,
    translation: &mut Translation,
) -> Result<Json, Reason> {
    if unit.last("PrivateMounts").is_some_and(|value| !is_yes(value)) {
        return Err("every service has a mount namespace of its own".into());
    }
    let mut sandbox = Map::new();
    sandbox.insert("profile".into(), json!("off"));
    // What cannot be done is to be a failure and no warning.
    sandbox.insert("required".into(), json!(true));
    for (key, switch) in SWITCHES {
        if let Some(value) = unit.last(key) {
            sandbox.insert(switch.into(), json!(is_yes(value)));
        }
    }
    protections(unit, &mut sandbox);
    paths(unit, specifiers, &mut sandbox, translation)?;
    account(unit, host, &mut sandbox)?;
    capabilities(unit, host, &mut sandbox);
    calls(unit, &mut sandbox);
    if let Some(mask) = unit.last("UMask") {
        sandbox.insert("umask".into(), json!(mask));
    }
    if let Some(personality) = personality(unit)? {
        sandbox.insert("personality".into(), json!(personality));
    }
    Ok(Json::Object(sandbox))
}

fn protections(unit: &Unit, sandbox: &mut Map<String, Json>) {
    if let Some(home) = unit.last("ProtectHome") {
        sandbox.insert("protect_home".into(), json!(if home == "tmpfs" { "hidden" } else { home }));
    }
    if let Some(system) = unit.last("ProtectSystem") {
        sandbox.insert("protect_system".into(), json!(system));
    }
}

fn paths(
    unit: &Unit,
    specifiers: &Specifiers,
    sandbox: &mut Map<String, Json>,
    translation: &mut Translation,
) -> Result<(), Reason> {
    let mut temporary = Vec::new();
    for path in unit.list("TemporaryFileSystem").into_iter().flat_map(str::split_whitespace) {
        let (path, options) = path.split_once(':').unwrap_or((path, ""));
        let mode = options.split(',').find_map(|option| option.strip_prefix("mode="));
        // The default of systemd.exec(5); strict access times are off in watt.
        let mut own = vec![format!("mode={}", mode.unwrap_or("0755"))];
        own.extend(options.split(',').filter(|option| *option == "ro").map(str::to_owned));
        temporary.push(format!("{path}:{}", own.join(",")));
    }
    if !temporary.is_empty() {
        sandbox.insert("temporary_paths".into(), json!(temporary));
    }
    let is_made = |path: &str| {
        let inner = |outer: &String| path.starts_with(outer.split(':').next().unwrap_or_default());
        temporary.iter().any(inner)
    };
    for (key, own) in PATHS {
        let mut rules = Vec::new();
        for path in unit.list(key).into_iter().flat_map(str::split_whitespace) {
            let path = specify(path, specifiers)?;
            if let Some((_, target)) = path.split_once(':')
                && !is_made(target)
            {
                translation.folders.insert(target.to_owned());
            }
            rules.push(verbatim(&path));
        }
        if !rules.is_empty() {
            sandbox.insert(own.into(), json!(rules));
        }
    }
    Ok(())
}

/// A group alone is that of the user who runs it all. A dynamic user that the host has already is that one.
fn account(unit: &Unit, host: &Host, sandbox: &mut Map<String, Json>) -> Result<(), Reason> {
    let (user, group) = (unit.last("User"), unit.last("Group"));
    if let Some(group) = group {
        host.group(group).ok_or_else(|| host.no_group(group))?;
        sandbox.insert("group".into(), json!(group));
    }
    if user.is_some() || group.is_some() {
        sandbox.remove("dynamic_user");
        sandbox.insert("user".into(), json!(user.unwrap_or("root")));
    }
    let groups: Vec<&str> =
        unit.list("SupplementaryGroups").into_iter().flat_map(str::split_whitespace).collect();
    if !groups.is_empty() {
        sandbox.insert("supplementary_groups".into(), json!(groups));
    }
    Ok(())
}

fn capabilities(unit: &Unit, host: &Host, sandbox: &mut Map<String, Json>) {
    let all = |lines: &mut dyn Iterator<Item = &str>| {
        let mut kept: Option<BTreeSet<String>> = None;
        for line in lines {
            let (takes, words) = line.strip_prefix('~').map_or((false, line), |words| (true, words));
            let words = words.split_whitespace().map(str::to_lowercase);
            match takes {
                true => {
                    let words: BTreeSet<String> = words.collect();
                    kept.get_or_insert_with(|| host.capabilities.clone()).retain(|one| !words.contains(one));
                }
                false if line.is_empty() => kept = Some(BTreeSet::new()),
                false => kept.get_or_insert_default().extend(words),
            }
        }
        kept
    };
    if let Some(bounding) = all(&mut unit.all("CapabilityBoundingSet")) {
        sandbox.insert("capabilities".into(), json!(bounding));
    }
    if let Some(ambient) = all(&mut unit.all("AmbientCapabilities")) {
        sandbox.insert("ambient_capabilities".into(), json!(ambient));
    }
}

fn calls(unit: &Unit, sandbox: &mut Map<String, Json>) {
    let lines = unit.list("SystemCallFilter");
    if !lines.is_empty() {
        // systemd passes over names that are none, which watt has as errors.
        let known = |word: &&str| !["DONOTEXIST", "fexecve"].contains(word);
        let line = |line: &&str| line.split_whitespace().filter(known).collect::<Vec<_>>().join(" ");
        sandbox.insert("system_calls".into(), lines.iter().map(line).collect());
        let error = unit.last("SystemCallErrorNumber").unwrap_or("kill");
        sandbox.insert("system_call_error".into(), json!(error));
    }
    if let Some(namespaces) = namespaces(unit) {
        sandbox.insert("restrict_namespaces".into(), namespaces);
    }
}

/// Lines add up by "or", and those with a `~` by "and".
fn namespaces(unit: &Unit) -> Option<Json> {
    const ALL: [&str; 7] = ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"];
    let mut allowed: Option<BTreeSet<&str>> = None;
    for line in unit.list("RestrictNamespaces") {
        let (takes, words) = line.strip_prefix('~').map_or((false, line), |words| (true, words));
        let words: BTreeSet<&str> = match words {
            "yes" => BTreeSet::new(),
            "no" => ALL.into(),
            words => words.split_whitespace().filter(|word| ALL.contains(word)).collect(),
        };
        match takes {
            true => allowed.get_or_insert_with(|| ALL.into()).retain(|one| !words.contains(one)),
            false => allowed.get_or_insert_default().extend(words),
        }
    }
    allowed.map(|allowed| if allowed.len() == ALL.len() { json!(false) } else { json!(allowed) })
}

fn personality(unit: &Unit) -> Result<Option<&'static str>, Reason> {
    let Some(wanted) = unit.last("Personality") else { return Ok(None) };
    let own = match std::env::consts::ARCH {
        "x86_64" => ["x86-64", "x86"],
        "aarch64" => ["arm64", "arm"],
        _ => return Err("the personalities of this processor are not known here".into()),
    };
    match own.iter().position(|name| *name == wanted) {
        Some(0) => Ok(Some("linux")),
        Some(_) => Ok(Some("linux32")),
        None => Err("the personality of another processor".into()),
    }
}
