//! What services may see and do: a profile, and switches that differ from it.

use std::{
    collections::BTreeSet,
    sync::{Arc, LazyLock},
};

use serde_json::{Value as Json, json};
use watt_core::sandbox::{
    AddressFamily, Capability, Namespace, Personality, Profile, ProtectHome, ProtectProc, ProtectSystem,
    Sandbox, User,
};

use super::{
    Decoder,
    fields::{Field, Fields, Written, show_word, word_of},
    path_rules, system_calls,
};
use crate::{
    keys::{
        ALL_OR_NONE, AllOrNone, NAMESPACES, PERSONALITY, PROFILE, PROTECT_HOME, PROTECT_PROC, PROTECT_SYSTEM,
        SANDBOX, Words,
    },
    report::Problem,
    scalar::{Account, Scalar, Umask, quote},
    show::{DEFAULT, Shown},
};

/// A sandbox that others start from, and how it is shown.
#[derive(Debug, Clone)]
pub(super) struct Base {
    sandbox: Arc<Sandbox>,
    shown: Shown,
    /// Where its values come from, for those that have no place of their own.
    pub(super) from: String,
}

/// A profile with its values.
type Start = (Arc<Sandbox>, Vec<(&'static str, Json)>);

/// Switches that are on or off.
macro_rules! switches {
    ($($name:ident),+ $(,)?) => {
        [$((stringify!($name), |sandbox| sandbox.$name, |sandbox, on| sandbox.$name = on)),+]
    };
}

type Switch = (&'static str, fn(&Sandbox) -> bool, fn(&mut Sandbox, bool));

const SWITCHES: [Switch; 21] = switches![
    required,
    no_new_privileges,
    private_tmp,
    private_devices,
    protect_services,
    protect_kernel_tunables,
    protect_kernel_modules,
    protect_kernel_logs,
    protect_control_groups,
    protect_clock,
    protect_hostname,
    private_pids,
    private_ipc,
    private_cgroup,
    private_users,
    private_keyring,
    restrict_realtime,
    restrict_suid_sgid,
    memory_deny_write_execute,
    lock_personality,
    landlock,
];

impl Base {
    /// What an application without a `sandbox` starts from.
    pub(super) fn of_nothing() -> Base {
        Base::of(Profile::Standard, DEFAULT.to_owned())
    }

    fn of(profile: Profile, from: String) -> Base {
        static PROFILES: LazyLock<[Start; 3]> = LazyLock::new(|| {
            [Profile::Off, Profile::Standard, Profile::Strict].map(|profile| {
                let sandbox = Sandbox::of(profile);
                let values = values(&sandbox);
                (Arc::new(sandbox), values)
            })
        });
        let (sandbox, values) = match profile {
            Profile::Off => &PROFILES[0],
            Profile::Standard => &PROFILES[1],
            Profile::Strict => &PROFILES[2],
        };
        let leaf = |value: &Json| Shown::Leaf { value: value.clone(), from: from.clone(), span: None };
        let shown = values.iter().map(|(key, value)| ((*key).to_owned(), leaf(value))).collect();
        Base { sandbox: Arc::clone(sandbox), shown: Shown::Map(shown), from }
    }

    pub(super) fn sandbox(&self) -> &Arc<Sandbox> {
        &self.sandbox
    }

    pub(super) fn shown(&self) -> &Shown {
        &self.shown
    }
}

/// A profile's values, as they would be written.
pub(crate) fn values(sandbox: &Sandbox) -> Vec<(&'static str, Json)> {
    let mut values = vec![
        ("profile", show_word(sandbox.profile, &PROFILE)),
        ("protect_system", show_protection(sandbox.protect_system, &PROTECT_SYSTEM)),
        ("protect_home", show_protection(sandbox.protect_home, &PROTECT_HOME)),
        ("protect_proc", show_word(sandbox.protect_proc, &PROTECT_PROC)),
        ("dynamic_user", json!(sandbox.user == User::Dynamic)),
        ("capabilities", show_set(sandbox.capabilities.as_ref())),
        ("umask", Umask(sandbox.umask).show()),
        ("restrict_namespaces", show_namespaces(sandbox.restrict_namespaces.as_ref())),
        ("address_families", show_set(sandbox.address_families.as_ref())),
        (
            "system_calls",
            if sandbox.system_calls.is_none() { json!("all") } else { show_word(sandbox.profile, &PROFILE) },
        ),
    ];
    values.extend(SWITCHES.iter().map(|(key, is_on, _)| (*key, json!(is_on(sandbox)))));
    values.sort_by_key(|(key, _)| SANDBOX.keys.iter().position(|definition| definition.name == *key));
    values
}

/// Decodes a `sandbox`: of the application, or of a service where `base` is the application's.
pub(super) fn decode(d: &mut Decoder<'_>, field: Option<Field<'_>>, base: &Base) -> Base {
    let Some(field) = field else { return base.clone() };
    let mut f = Fields::open(d, &SANDBOX, Some(field), Some("profile"));
    let profile = f.word("profile", &PROFILE);
    let base = match profile {
        Some(profile) => {
            let word = show_word(profile.value, &PROFILE);
            Base::of(profile.value, format!("profile {}", word.as_str().unwrap_or_default()))
        }
        None => base.clone(),
    };
    let mut own = Arc::clone(&base.sandbox);
    for (key, _, set) in SWITCHES {
        if let Some(Written { value, .. }) = f.scalar::<bool>(key) {
            set(Arc::make_mut(&mut own), value);
        }
    }
    protections(&mut f, &mut own);
    path_rules::decode(&mut f, &mut own, &base);
    accounts(&mut f, &mut own, &base);
    rights(&mut f, &mut own, &base);
    // What was not written is shown as the base has it.
    if let Shown::Map(entries) = &base.shown {
        for (key, shown) in entries.iter().filter(|(key, _)| !IN_ITS_OWN_WAY.contains(&key.as_str())) {
            if !f.is_shown(key) {
                f.show(key, shown.clone());
            }
        }
    }
    Base { sandbox: own, shown: f.close(), from: "the application's `sandbox`".to_owned() }
}

/// Keys whose values depend on others, so that what the base shows may not hold any more.
const IN_ITS_OWN_WAY: [&str; 11] = [
    "read_only_paths",
    "read_write_paths",
    "inaccessible_paths",
    "no_exec_paths",
    "exec_paths",
    "bind_paths",
    "bind_read_only_paths",
    "temporary_paths",
    "user",
    "group",
    "dynamic_user",
];

fn protections(f: &mut Fields<'_, '_, '_>, own: &mut Arc<Sandbox>) {
    let show_system = |value: &ProtectSystem| show_protection(*value, &PROTECT_SYSTEM);
    let system = f.parsed("protect_system", |text| word_of(text, &PROTECT_SYSTEM), show_system);
    if let Some(Written { value, .. }) = system {
        Arc::make_mut(own).protect_system = value;
    }
    let show_home = |value: &ProtectHome| show_protection(*value, &PROTECT_HOME);
    if let Some(Written { value, .. }) =
        f.parsed("protect_home", |text| word_of(text, &PROTECT_HOME), show_home)
    {
        Arc::make_mut(own).protect_home = value;
    }
    if let Some(Written { value, .. }) = f.word::<ProtectProc>("protect_proc", &PROTECT_PROC) {
        Arc::make_mut(own).protect_proc = value;
    }
}

/// A word that may be `true` or `false`.
fn show_protection<T: PartialEq>(value: T, words: &Words<T>) -> Json {
    match show_word(value, words).as_str() {
        Some("true") => json!(true),
        Some("false") => json!(false),
        word => json!(word),
    }
}

/// Whom the program runs as, and in which groups.
fn accounts(f: &mut Fields<'_, '_, '_>, own: &mut Arc<Sandbox>, base: &Base) {
    let user: Option<Written<Account>> = f.scalar("user");
    let group: Option<Written<Account>> = f.scalar("group");
    let dynamic: Option<Written<bool>> = f.scalar("dynamic_user");
    if let (Some(Written { span: Some(at), .. }), Some(Written { value: true, span: Some(other) })) =
        (&user, dynamic)
    {
        let problem =
            Problem::new(*at, "`user` and `dynamic_user` together").related(other, "`dynamic_user` is here");
        f.d.problem(problem.hint("keep one of them"));
    }
    let inherited = match (&base.sandbox.user, dynamic.map(|written| written.value)) {
        (_, Some(true)) => User::Dynamic,
        (User::Dynamic, Some(false)) => User::Same,
        (user, Some(false) | None) => user.clone(),
    };
    let group_name = || group.as_ref().map(|written| written.value.0.clone());
    let chosen = match (user, inherited) {
        (Some(user), _) => User::Named { user: user.value.0, group: group_name() },
        (None, User::Named { user, group }) => User::Named { user, group: group_name().or(group) },
        (None, other) => {
            if let Some(Written { span: Some(at), .. }) = &group {
                let problem = Problem::new(*at, "a group without a user");
                f.d.problem(problem.hint("write `user` as well, or `supplementary_groups`"));
            }
            other
        }
    };
    let mut show = |key, value| {
        if !f.is_shown(key) {
            f.show(key, Shown::Leaf { value, from: base.from.clone(), span: None });
        }
    };
    show("dynamic_user", json!(chosen == User::Dynamic));
    if let User::Named { user, group } = &chosen {
        show("user", Account(user.clone()).show());
        if let Some(group) = group {
            show("group", Account(group.clone()).show());
        }
    }
    if chosen != own.user {
        Arc::make_mut(own).user = chosen;
    }
    if let Some(groups) = f.each("supplementary_groups", "an account", Account::parse, Scalar::show) {
        Arc::make_mut(own).supplementary_groups =
            groups.into_iter().map(|(Account(group), _)| group).collect();
    }
}

/// Capabilities, system calls, kinds of sockets, and the mask of modes.
fn rights(f: &mut Fields<'_, '_, '_>, own: &mut Arc<Sandbox>, base: &Base) {
    if let Some(capabilities) = set::<Capability>(f, "capabilities") {
        Arc::make_mut(own).capabilities = capabilities;
    }
    if let Some(ambient) = f.each("ambient_capabilities", "a capability", Capability::parse, Scalar::show) {
        for (capability, span) in &ambient {
            if own.capabilities.as_ref().is_some_and(|bounding| !bounding.contains(capability)) {
                let message = format!("{} is not one of its `capabilities`", quote(capability.name()));
                f.d.problem(Problem::new(*span, message).hint("add it to `capabilities`"));
            }
        }
        Arc::make_mut(own).ambient_capabilities = ambient.into_iter().map(|(one, _)| one).collect();
    }
    if let Some(Written { value: Umask(mask), .. }) = f.scalar("umask") {
        Arc::make_mut(own).umask = mask;
    }
    let shown = base.shown.get(&["system_calls"]);
    if let Some(calls) = system_calls::decode(f, own, shown) {
        Arc::make_mut(own).system_calls = calls;
    }
    if let Some(families) = set::<AddressFamily>(f, "address_families") {
        Arc::make_mut(own).address_families = families;
    }
    if let Some(namespaces) = namespaces(f) {
        Arc::make_mut(own).restrict_namespaces = namespaces;
    }
    if let Some(Written { value, .. }) = f.word::<Personality>("personality", &PERSONALITY) {
        Arc::make_mut(own).personality = Some(value);
    }
}

/// Whether all namespaces are refused, or which are not. `None` outside when it was not written.
fn namespaces(f: &mut Fields<'_, '_, '_>) -> Option<Option<BTreeSet<Namespace>>> {
    let key = "restrict_namespaces";
    if f.is_scalar(key) {
        return f.scalar::<bool>(key).map(|written| written.value.then(BTreeSet::new));
    }
    let show = |kind: &Namespace| show_word(*kind, &NAMESPACES);
    let kinds = f.each(key, "a kind of namespaces", |text| word_of(text, &NAMESPACES), show)?;
    Some(Some(kinds.into_iter().map(|(kind, _)| kind).collect()))
}

fn show_namespaces(allowed: Option<&BTreeSet<Namespace>>) -> Json {
    match allowed {
        None => json!(false),
        Some(allowed) if allowed.is_empty() => json!(true),
        Some(allowed) => allowed.iter().map(|kind| show_word(*kind, &NAMESPACES)).collect(),
    }
}

/// A set where `None` is everything, as a list or the word for one of the ends. `None` outside when it was not written.
fn set<T: Scalar + Ord>(f: &mut Fields<'_, '_, '_>, key: &'static str) -> Option<Option<BTreeSet<T>>> {
    if f.is_scalar(key) {
        return f.word(key, &ALL_OR_NONE).map(|word| match word.value {
            AllOrNone::All => None,
            AllOrNone::None => Some(BTreeSet::new()),
        });
    }
    let items = f.each(key, "a name", T::parse, T::show)?;
    Some(Some(items.into_iter().map(|(item, _)| item).collect()))
}

fn show_set<T: Scalar>(set: Option<&BTreeSet<T>>) -> Json {
    match set {
        None => json!("all"),
        Some(set) if set.is_empty() => json!("none"),
        Some(set) => set.iter().map(T::show).collect(),
    }
}
