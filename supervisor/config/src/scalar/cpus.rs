//! Sets of CPUs, as cpuset(7) writes them.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Bad, Scalar, quote};

/// The largest number of a CPU: one less than the most that Linux is built for (`CONFIG_NR_CPUS`).
const CPU_MAX: u16 = 8191;

/// CPUs by number: `0-3,6`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cpus(pub(crate) BTreeSet<u16>);

impl Scalar for Cpus {
    fn parse(text: &str) -> Result<Self, Bad> {
        let bad = || {
            Bad::new(format!("{} is not a set of CPUs", quote(text))).hint(format!(
                "write numbers and ranges such as `0-3,6`; the first CPU is 0, the last {CPU_MAX}"
            ))
        };
        let number = |text: &str| match text.trim().parse::<u16>() {
            Ok(number) if number <= CPU_MAX => Ok(number),
            Ok(_) | Err(_) => Err(bad()),
        };
        let mut cpus = BTreeSet::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (number(first)?, number(last)?);
            if first > last {
                return Err(bad());
            }
            cpus.extend(first..=last);
        }
        Ok(Cpus(cpus))
    }

    fn show(&self) -> Value {
        let mut ranges: Vec<(u16, u16)> = Vec::new();
        for cpu in &self.0 {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == *cpu => *last = *cpu,
                Some(_) | None => ranges.push((*cpu, *cpu)),
            }
        }
        let words = ranges.into_iter().map(|(first, last)| match first == last {
            true => first.to_string(),
            false => format!("{first}-{last}"),
        });
        json!(words.collect::<Vec<_>>().join(","))
    }
}
