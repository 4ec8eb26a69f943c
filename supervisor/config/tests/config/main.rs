//! The configuration through its public functions.

mod access;
mod actions;
mod applied;
mod auth;
mod cache;
mod compress;
mod errors;
mod groups;
mod guard;
mod hooks;
mod host;
mod hostile;
mod jobs;
mod listeners;
mod openapi;
mod plan;
mod platformatic;
mod reference;
mod tls;
mod traffic;
mod walls;
mod workers;

use std::{collections::BTreeMap, path::PathBuf};

use watt_config::{Config, Report, Sources, parse};

/// Sources of a file in `/srv/shop` with a few variables in the environment.
fn sources(name: &str, text: &str) -> Sources {
    let env = [("PORT", "4000"), ("WORD", "word"), ("EMPTY", ""), ("DB_PASSWORD", "hidden")];
    Sources {
        file: PathBuf::from("/srv/shop").join(name),
        text: text.to_owned(),
        env: env
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect::<BTreeMap<_, _>>(),
        ..Sources::default()
    }
}

/// A YAML file without errors.
#[track_caller]
fn valid(text: &str) -> Config {
    let sources = sources("watt.yaml", text);
    let config = parse(&sources).unwrap_or_else(|report| panic!("{report}"));
    assert_eq!(watt_config::plan(&sources).unwrap_or_else(|report| panic!("{report}")), config.plan);
    config
}

/// The report of a YAML file with errors.
#[track_caller]
fn invalid(text: &str) -> Report {
    invalid_sources(&sources("watt.yaml", text))
}

/// The report of sources with errors, as seen from the file's folder.
#[track_caller]
fn invalid_sources(sources: &Sources) -> Report {
    let report = parse(sources).map(|config| config.plan).expect_err("an error");
    assert!(!report.is_empty());
    report.seen_from("/srv/shop".as_ref())
}
