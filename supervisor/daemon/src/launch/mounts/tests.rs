//! Which changes of the file system each profile asks for, and in which order.

use watt_core::{
    plan::{CertificateFiles, ClientAuthorities, Listener, Tls, TlsVersion},
    sandbox::Profile,
};

use super::*;
use crate::testing;

/// The changes for the service `api` in words, after the plan was changed.
fn words(profile: Profile, change: impl FnOnce(&mut Plan, &mut Sandbox)) -> Vec<String> {
    words_with(profile, &BTreeMap::new(), change)
}

/// As before, with this of the supervisor's own environment.
fn words_with(
    profile: Profile,
    inherited: &BTreeMap<String, String>,
    change: impl FnOnce(&mut Plan, &mut Sandbox),
) -> Vec<String> {
    let mut plan = testing::plan(&["api", "web"]);
    let mut sandbox = Sandbox::of(profile);
    change(&mut plan, &mut sandbox);
    let id = watt_core::ServiceId::new("api").unwrap();
    plan.services.get_mut(&id).unwrap().sandbox = sandbox.into();
    let service = &plan.services[&id];
    let host = Host { name_files: vec!["/etc/hosts".into()], ..testing::HOST };
    let places = Places { runtime: "/run/watt/shop".into(), state: "/var/lib/watt/shop".into() };
    let own = places.worker(&watt_core::WorkerId::new(id.clone(), 0));
    let walls = Walls::of(service, &host, None);
    let state = places.service_state(&id);
    let view = View {
        plan: &plan,
        service,
        network: service.network,
        host: &host,
        places: &places,
        own: &own,
        state: &state,
        credentials: None,
        inherited,
        walls: &walls,
    };
    list(&view).iter().map(in_words).collect()
}

fn in_words(mount: &Mount) -> String {
    let text = |path: &Path| path.display().to_string();
    match mount {
        Mount::Bind { source, target, read_only, .. } => {
            format!("bind {} {}{}", text(source), text(target), if *read_only { " ro" } else { "" })
        }
        Mount::Tmpfs { target, .. } => format!("empty {}", text(target)),
        Mount::ReadOnly { path, .. } => format!("ro {}", text(path)),
        Mount::Writable { path, .. } => format!("rw {}", text(path)),
        Mount::Inaccessible { path, .. } => format!("closed {}", text(path)),
        Mount::Pinned { path, .. } => format!("pinned {}", text(path)),
        Mount::HideFolder(hidden) => format!("hide {} but {}", text(&hidden.folder), text(&hidden.keep)),
        other => format!("{other:?}"),
    }
}

const OWN: [&str; 6] = [
    "closed /run/systemd/resolve/io.systemd.Resolve",
    "closed /run/systemd/resolve/io.systemd.Resolve.Monitor",
    "closed /run/nscd/socket",
    "bind /run/watt/shop/hosts /etc/hosts ro",
    "hide /var/lib/watt but /var/lib/watt/shop/services/api",
    "hide /run/watt but /run/watt/shop/workers/api/0",
];

#[test]
fn without_a_sandbox_there_are_the_names_and_nothing_of_watts_own() {
    assert_eq!(words(Profile::Off, |_, _| {}), OWN);
}

/// The order decides: each line lies over those before it.
#[test]
fn a_folder_that_was_chosen_for_the_sockets_is_not_hidden_itself() {
    let check = |variable: &str, value: &str, expected: &str| {
        let inherited = [(variable.to_owned(), value.to_owned())].into();
        let words = words_with(Profile::Off, &inherited, |_, _| {});
        let expected = format!("hide {expected} but /run/watt/shop/workers/api/0");
        assert!(words.contains(&expected), "{variable}: {words:?}");
    };
    check("XDG_RUNTIME_DIR", "/run", "/run/watt");
    check("WATT_RUNTIME_DIR", "/run/watt", "/run/watt/shop");
    // Not obeyed, and so not what chose the folder.
    check("WATT_RUNTIME_DIR", "run/watt", "/run/watt");
    check("WATT_RUNTIME_DIR", "", "/run/watt");
}

#[test]
fn a_strict_sandbox_from_the_outside_in() {
    let strict = words(Profile::Strict, |_, _| {});
    let at = |word: &str| {
        strict.iter().position(|line| line == word).unwrap_or_else(|| panic!("no {word} in {strict:#?}"))
    };
    let order =
        ["ro /", "rw /proc", "empty /home", "Devices", "ro /proc/sys", "Sys", "Cgroups", "empty /tmp"];
    let places: Vec<usize> = order.into_iter().chain(OWN).map(at).collect();
    assert!(places.is_sorted(), "{strict:#?}");
    assert!(strict.iter().any(|line| line.starts_with("Proc")));
    assert!(!strict.contains(&"rw /dev".to_owned()), "it has its own");
}

#[test]
fn the_applications_folder_stays_where_it_is() {
    let check = |profile, root: &str, expected: &str| {
        let words = words(profile, |plan, _| {
            plan.root = root.into();
            for service in plan.services.values_mut() {
                service.path = plan.root.join("api");
            }
        });
        // What is said last holds.
        let last = |start: &str| words.iter().rposition(|line| line.starts_with(start));
        let covers = ["empty /tmp", "empty /home", "ro /usr"].into_iter().filter_map(last).max();
        assert!(last(expected) > covers, "{expected} in {words:#?}");
    };
    check(Profile::Standard, "/tmp/shop", "bind /tmp/shop /tmp/shop");
    check(Profile::Strict, "/home/ann/shop", "bind /home/ann/shop /home/ann/shop ro");
    check(Profile::Standard, "/usr/src/app", "rw /usr/src/app");
}

/// Whatever is said of them later: what something is mounted on is not renamed.
#[test]
fn the_applications_folder_and_those_above_it_are_mounted_first_of_all() {
    let pinned = ["rw /srv", "rw /srv/shop"];
    for profile in [Profile::Standard, Profile::Strict] {
        assert_eq!(words(profile, |_, _| {})[..2], pinned);
    }
    assert!(!words(Profile::Off, |_, _| {}).contains(&pinned[1].to_owned()));
}

#[test]
fn folders_of_other_services_are_closed_unless_they_are_shared() {
    let check = |own: &str, other: &str, rule: Option<PathRule>, closed: bool| {
        let words = words(Profile::Standard, |plan, sandbox| {
            for service in plan.services.values_mut() {
                service.path = if service.id.as_str() == "api" { own.into() } else { other.into() };
            }
            sandbox.paths.extend(rule);
        });
        let has = words.contains(&format!("closed {other}"));
        assert_eq!(has, closed, "{own} and {other}: {words:#?}");
    };
    check("/srv/shop/api", "/srv/shop/web", None, true);
    check("/srv/shop/api", "/srv/shop", None, false);
    check("/srv/shop/api", "/srv/shop/api", None, false);
    check("/srv/shop", "/srv/shop/web", None, false);
    let rule =
        |path: &str| Some(PathRule { access: PathAccess::ReadOnly, path: path.into(), optional: false });
    check("/srv/shop/api", "/srv/shop/web", rule("/srv/shop/web/public"), false);
    check("/srv/shop/api", "/srv/shop/web", rule("/srv/shop/webs"), true);
}

/// Unless a rule is about it.
#[test]
fn the_configuration_cannot_be_written() {
    let check = |profile, writable: Option<&str>, expected: bool| {
        let words = words(profile, |plan, sandbox| {
            plan.file = "/srv/shop/watt.yaml".into();
            sandbox.paths.extend(writable.map(|path| PathRule {
                access: PathAccess::ReadWrite,
                path: path.into(),
                optional: false,
            }));
        });
        let is_closed =
            ["ro /srv/shop/watt.yaml", "ro /srv/shop/.env"].map(|line| words.iter().any(|word| word == line));
        assert_eq!(is_closed, [expected; 2], "{writable:?}: {words:#?}");
        // What is said last holds.
        let last = |start: &str| words.iter().rposition(|word| word.starts_with(start));
        assert!(!expected || last("ro /srv/shop/") > last("rw /srv/shop"), "{words:#?}");
    };
    check(Profile::Standard, None, true);
    check(Profile::Strict, Some("/srv/shop"), true);
    check(Profile::Off, None, false);
}

#[test]
fn files_of_secrets_are_closed_to_everybody() {
    let with = |profile| {
        words(profile, |plan, _| {
            plan.secrets.insert("key".into(), Secret::File("/srv/shop/keys/key".into()));
        })
    };
    let closed = "closed /srv/shop/keys/key".to_owned();
    assert!(with(Profile::Standard).contains(&closed) && !with(Profile::Off).contains(&closed));
}

/// Unless a rule is about one of them. What is a key and a certificate is a key.
#[test]
fn keys_of_tls_are_closed_and_certificates_cannot_be_written() {
    let check = |profile, named: Option<&str>, expected: &[&str]| {
        let words = words(profile, |plan, sandbox| {
            let pair = |name: &str, key: &str| CertificateFiles {
                certificate: format!("/tls/{name}.pem").into(),
                key: format!("/tls/{key}").into(),
            };
            let clients = Some(ClientAuthorities { file: "/tls/clients.pem".into(), required: true });
            let certificates = vec![pair("shop", "shop.key"), pair("both", "both.pem")];
            let tls = Tls { certificates, clients, version_min: TlsVersion::V1_2 };
            let server = Listener { tls: Some(tls), ..Listener::tcp([127, 0, 0, 1].into(), 0) };
            plan.listeners.insert(Listener::SERVER.into(), server);
            sandbox.paths.extend(named.map(read_only_rule));
        });
        let found: Vec<&String> = words.iter().filter(|word| word.contains(" /tls/")).collect();
        assert_eq!(found, expected, "{named:?}");
    };
    let all = ["closed /tls/both.pem", "closed /tls/shop.key", "ro /tls/clients.pem", "ro /tls/shop.pem"];
    check(Profile::Standard, None, &all);
    check(Profile::Strict, None, &all);
    check(Profile::Off, None, &[]);
    let named = ["ro /tls/shop.key", "closed /tls/both.pem", "ro /tls/clients.pem", "ro /tls/shop.pem"];
    check(Profile::Standard, Some("/tls/shop.key"), &named);
}

/// After everything that covers them or shows them anew, and as that has left them.
#[test]
fn folders_on_the_way_to_files_of_the_configuration_stay_where_they_are() {
    let check = |profile, expected: &[&str]| {
        let words = words(profile, |plan, sandbox| {
            plan.file = "/srv/shop/watt.yaml".into();
            let file = |name: &str| PathBuf::from("/srv/shop/tls").join(name);
            let certificates =
                vec![CertificateFiles { certificate: file("all.pem"), key: "/keys/all".into() }];
            let clients = Some(ClientAuthorities { file: file("clients/ca.pem"), required: true });
            let tls = Tls { certificates, clients, version_min: TlsVersion::V1_2 };
            let server = Listener { tls: Some(tls), ..Listener::tcp([127, 0, 0, 1].into(), 0) };
            plan.listeners.insert(Listener::SERVER.into(), server);
            plan.secrets.insert("key".into(), Secret::File("/srv/shop/secrets/key".into()));
            let access = PathAccess::ReadWrite;
            sandbox.paths.push(PathRule { access, path: "/srv/shop/tls".into(), optional: false });
        });
        let found: Vec<&String> = words.iter().filter(|word| word.starts_with("pinned ")).collect();
        assert_eq!(found, expected);
        let at = |line: &str| words.iter().rposition(|word| word == line);
        let first = words.iter().position(|word| word.starts_with("pinned "));
        assert!(first.is_none() || first > at("rw /srv/shop/tls"), "{words:#?}");
        assert!(first.is_none() || first < at("ro /srv/shop/tls/all.pem"), "{words:#?}");
    };
    let all = ["/keys", "/srv/shop/secrets", "/srv/shop/tls", "/srv/shop/tls/clients"];
    let all = all.map(|folder| format!("pinned {folder}"));
    let all = all.each_ref().map(String::as_str);
    check(Profile::Standard, &all);
    check(Profile::Strict, &all);
    check(Profile::Off, &[]);
}

#[test]
fn the_units_credentials_are_closed_to_everybody() {
    let check = |profile, folder: &str, named: Option<&str>, closed: bool| {
        let inherited = [("CREDENTIALS_DIRECTORY".to_owned(), folder.to_owned())].into();
        let words = words_with(profile, &inherited, |plan, sandbox| {
            plan.root = "/srv/shop".into();
            sandbox.paths.extend(named.map(read_only_rule));
        });
        assert_eq!(words.contains(&format!("closed {folder}")), closed, "{folder}: {words:#?}");
    };
    let unit = "/run/credentials/shop.service";
    check(Profile::Standard, unit, None, true);
    check(Profile::Strict, unit, None, true);
    check(Profile::Off, unit, None, false);
    check(Profile::Standard, unit, Some("/run/credentials/shop.service/public"), false);
    check(Profile::Standard, "run/credentials", None, false);
    // Whoever set this, it is not to take the application away.
    check(Profile::Standard, "/srv", None, false);
}

#[test]
fn variables_that_are_secrets_are_closed_with_their_file() {
    let check = |secret: Option<Secret>, named: Option<&str>, expected: &[&str]| {
        let words = words(Profile::Standard, |plan, sandbox| {
            plan.file = "/srv/shop/watt.yaml".into();
            plan.secrets.extend(secret.map(|secret| ("key".into(), secret)));
            sandbox.paths.extend(named.map(read_only_rule));
        });
        let about: Vec<&String> = words.iter().filter(|word| word.ends_with("/.env")).collect();
        assert_eq!(about, expected, "{words:#?}");
        assert!(words.contains(&"ro /srv/shop/watt.yaml".to_owned()), "{words:#?}");
    };
    let variable = || Some(Secret::Environment("KEY".into()));
    check(variable(), None, &["closed /srv/shop/.env"]);
    check(variable(), Some("/srv/shop/.env"), &["ro /srv/shop/.env"]);
    check(Some(Secret::Credential("key".into())), None, &["ro /srv/shop/.env"]);
    check(None, None, &["ro /srv/shop/.env"]);
}

/// A folder that may be written is shown again with all that is in it.
#[test]
fn a_rule_for_a_folder_opens_no_secrets_in_it() {
    let words = words(Profile::Strict, |plan, sandbox| {
        plan.file = "/srv/shop/watt.yaml".into();
        plan.secrets.insert("variable".into(), Secret::Environment("KEY".into()));
        plan.secrets.insert("file".into(), Secret::File("/srv/shop/key".into()));
        let access = PathAccess::ReadWrite;
        sandbox.paths.push(PathRule { access, path: "/srv/shop".into(), optional: false });
    });
    let at = |line: &str| words.iter().rposition(|word| word == line).unwrap_or_else(|| panic!("{words:#?}"));
    for closed in ["closed /srv/shop/.env", "closed /srv/shop/key"] {
        assert!(at(closed) > at("rw /srv/shop"), "{words:#?}");
    }
}

#[test]
fn sockets_that_lead_out_are_closed_unless_a_rule_names_them() {
    let check = |profile, socket: &str, named: Option<&str>, network, closed: bool| {
        let words = words(profile, |plan, sandbox| {
            plan.services.values_mut().for_each(|service| service.network = network);
            sandbox.paths.extend(named.map(read_only_rule));
        });
        assert_eq!(words.contains(&format!("closed {socket}")), closed, "{socket}: {words:#?}");
    };
    let bus = format!("/run/user/{}/bus", geteuid());
    for socket in [bus.as_str(), "/run/dbus/system_bus_socket", "/run/docker.sock"] {
        check(Profile::Standard, socket, None, Network::Host, true);
        check(Profile::Off, socket, None, Network::Private, false);
        check(Profile::Standard, socket, Some(socket), Network::Private, false);
    }
    check(Profile::Standard, "/run/docker.sock", Some("/var/run/docker.sock"), Network::Private, false);
    check(Profile::Standard, "/run/docker.sock", Some("/run"), Network::Private, true);
    for resolver in RESOLVERS {
        check(Profile::Standard, resolver, None, Network::Private, true);
        check(Profile::Standard, resolver, None, Network::Host, false);
        check(Profile::Standard, resolver, Some(resolver), Network::Private, false);
    }
}

fn read_only_rule(path: &str) -> PathRule {
    PathRule { access: PathAccess::ReadOnly, path: path.into(), optional: false }
}

/// A program that was put into any folder of the service's must not run either.
#[test]
fn what_is_said_of_executing_comes_last() {
    let words = words(Profile::Strict, |_, sandbox| {
        let rule = |access, path: &str| PathRule { access, path: path.into(), optional: false };
        sandbox.paths = vec![
            rule(PathAccess::NoExec, "/"),
            rule(PathAccess::Temporary(Temporary { mode: 0o755, size: Some(9), read_only: true }), "/srv"),
            rule(PathAccess::Exec, "/usr"),
        ];
    });
    let last = |path: &str, allowed: bool| {
        format!("Executable {{ path: {path:?}, allowed: {allowed}, optional: false }}")
    };
    assert_eq!(words[words.len() - 2..], [last("/", false), last("/usr", true)]);
    assert!(words.iter().any(|word| word == "empty /srv"), "{words:#?}");
}
