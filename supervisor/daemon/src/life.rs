//! One life of an application: from the start of its spawner to its end. Every process of a run has the life and the run in its
//! environment, so that what escaped from a run without a cgroup can be found, even in the next life.

use std::{fs, io, os::unix::process::parent_id, path::Path, time::Duration};

use serde::{Deserialize, Serialize};
use watt_core::RunId;
use watt_os::{
    descendants::{self, Environment, Marks},
    process_info,
};

use crate::beside;

/// The variable that tells a run's processes: `<life>/<run>`.
pub(crate) const VARIABLE: &str = "WATT_RUN";

/// How long killed processes may take to be gone.
const PATIENCE: Duration = Duration::from_secs(10);

/// A spawner, told from all others by its pid and the time it started: the same for every daemon it starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Life(String);

impl Life {
    /// Ours.
    pub(crate) fn current() -> io::Result<Life> {
        let spawner = parent_id();
        Ok(Life(format!("{spawner}-{}", process_info::start_time(spawner)?)))
    }

    /// The one that `info.json` is of, if it is written there.
    pub(crate) fn read(info: &Path) -> Option<Life> {
        #[derive(Deserialize)]
        struct Info {
            life: Life,
        }
        let info: Info = serde_json::from_slice(&fs::read(info).ok()?).ok()?;
        // An empty one would be the beginning of every other.
        (!info.life.0.is_empty()).then_some(info.life)
    }

    /// Tells it from all others.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The value of [`VARIABLE`] for a run.
    pub(crate) fn of_run(&self, run: RunId) -> String {
        format!("{}/{run}", self.0)
    }

    /// Ends all processes of a life that is over.
    pub(crate) async fn end_leftovers(&self) {
        let beginning = format!("{VARIABLE}={}/", self.0).into_bytes();
        let is_ours = std::env::var(VARIABLE).is_ok_and(|own| own.starts_with(&format!("{}/", self.0)));
        if is_ours {
            return tracing::warn!(
                "started by a service of an earlier life, which is not ended for that reason"
            );
        }
        let marks = Marks { environment: Some(Environment::Beginning(beginning)), ..Marks::default() };
        match tokio::time::timeout(PATIENCE, kill(marks)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!("what an earlier life left cannot be looked for: {error}"),
            Err(_) => tracing::warn!("processes of an earlier life do not end although they were killed"),
        }
    }
}

async fn kill(marks: Marks) -> io::Result<()> {
    let mut poll = tokio::time::interval(Duration::from_millis(20));
    loop {
        poll.tick().await;
        let marks = marks.clone();
        let left = beside::now(move || descendants::kill(&marks));
        match left.await.map_err(io::Error::other)?? {
            0 => return Ok(()),
            left => tracing::warn!("ending {left} processes that an earlier life left"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_from_where_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let info = dir.path().join("info.json");
        let check = |text: &str, expected: Option<&str>| {
            fs::write(&info, text).unwrap();
            assert_eq!(Life::read(&info), expected.map(|life| Life(life.to_owned())), "{text}");
        };
        check(r#"{"app": "shop", "life": "12-3456"}"#, Some("12-3456"));
        check(r#"{"app": "shop"}"#, None);
        check(r#"{"life": ""}"#, None);
        check("", None);
        fs::remove_file(&info).unwrap();
        assert_eq!(Life::read(&info), None);
    }

    #[test]
    fn a_run_is_told_by_its_life_and_number() {
        assert_eq!(Life("12-3456".to_owned()).of_run(RunId(7)), "12-3456/7");
        assert_eq!(Life::current().unwrap(), Life::current().unwrap());
    }
}
