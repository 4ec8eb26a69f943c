//! The list of system calls a sandbox allows: systemd's words, on top of a profile's list where one is named.

use serde_json::json;
use watt_core::{
    sandbox::Sandbox,
    syscalls::{Action, EntryError, Filter, errors, groups},
};

use super::fields::{Fields, word_of};
use crate::{
    keys::{CALLS, CallsWord},
    report::{Problem, did_you_mean},
    scalar::{Bad, quote},
    show::Shown,
};

/// An entry of the list.
enum Entry {
    /// A list that the others change.
    Start(CallsWord),
    /// Words of systemd's.
    Words(String),
}

/// Decodes `system_calls`. A list that begins with something to take away takes it from what `base` allows, so that it never allows
/// more than before. `None` when it was not written.
pub(super) fn decode(
    f: &mut Fields<'_, '_, '_>,
    base: &Sandbox,
    shown_base: Option<&Shown>,
) -> Option<Option<Filter>> {
    let key = "system_calls";
    let refusal = refusal(f);
    if f.is_scalar(key) {
        return f.word(key, &CALLS).map(|word| start(word.value));
    }
    let entries = f.each(key, "a system call or a group", parse, |entry| match entry {
        Entry::Start(word) => crate::decode::fields::show_word(*word, &CALLS),
        Entry::Words(words) => json!(words),
    })?;
    let everything = || Filter { otherwise: Action::Allow, calls: Default::default() };
    let mut filter = match entries.first() {
        Some((Entry::Start(word), _)) => start(*word).unwrap_or_else(everything),
        Some((Entry::Words(words), _)) if words.trim_start().starts_with('~') => {
            f.prepend(key, shown_base);
            base.system_calls.clone().unwrap_or_else(everything)
        }
        // As systemd begins a list of what is allowed: with what every program needs.
        Some(_) | None => {
            let default = ["@default"];
            Filter::parse(default, refusal).unwrap_or_else(|_| everything())
        }
    };
    for (entry, span) in &entries {
        match entry {
            Entry::Words(words) => {
                // Was read before, entry by entry.
                let amended = filter.amend(words, refusal);
                debug_assert!(amended.is_ok(), "{words}");
            }
            Entry::Start(_) if entries.first().is_some_and(|(_, first)| first == span) => {}
            Entry::Start(word) => {
                let word = crate::decode::fields::show_word(*word, &CALLS);
                let message = format!(
                    "{} is a whole list, and not the first entry",
                    quote(word.as_str().unwrap_or_default())
                );
                let problem = Problem::new(*span, message);
                f.d.problem(problem.hint("write it first; what follows changes it"));
            }
        }
    }
    Some(Some(filter))
}

/// The answer to a call that is refused without one of its own. It belongs to the list that stands beside it.
fn refusal(f: &mut Fields<'_, '_, '_>) -> Action {
    let key = "system_call_error";
    let parse = |text: &str| match Action::from_name(text) {
        Some(action) => Ok((action, text.to_owned())),
        None => Err(no_answer(text)),
    };
    let Some(written) = f.parsed(key, parse, |(_, text)| json!(text)) else { return Action::REFUSE };
    if let Some(span) = written.span.filter(|_| f.is_scalar("system_calls") || !f.is_written("system_calls"))
    {
        let problem = Problem::new(span, "`system_call_error` without a list in `system_calls`");
        f.d.problem(problem.hint("write the list as well: it is about calls that this list refuses"));
    }
    written.value.0
}

fn no_answer(answer: &str) -> Bad {
    let near = did_you_mean(answer, errors::names().chain(["kill"]));
    let hint = near.unwrap_or_else(|| "write an error's name such as `EPERM`, or `kill`".into());
    Bad { message: format!("{} is no answer to a call", quote(answer)), hint: Some(hint) }
}

fn start(word: CallsWord) -> Option<Filter> {
    match word {
        CallsWord::All => None,
        CallsWord::Of(profile) => Sandbox::of(profile).system_calls,
    }
}

fn parse(text: &str) -> Result<Entry, Bad> {
    if let Ok(word) = word_of(text, &CALLS) {
        return Ok(Entry::Start(word));
    }
    let mut nothing = Filter { otherwise: Action::Allow, calls: Default::default() };
    let bad = |message, hint| Err(Bad { message, hint: Some(hint) });
    match nothing.amend(text, Action::REFUSE) {
        Ok(()) => Ok(Entry::Words(text.to_owned())),
        Err(EntryError::Empty) => {
            bad("an empty entry".into(), "write a call or a group such as `@system-service`".into())
        }
        Err(EntryError::Unknown(word)) => {
            let near = did_you_mean(&word, groups::words().chain(["all", "standard", "strict"]));
            let hint = near.unwrap_or_else(|| {
                "calls have the kernel's names, groups those of `systemd-analyze syscall-filter`".into()
            });
            bad(format!("{} is neither a system call nor a group", quote(&word)), hint)
        }
        Err(EntryError::Answer(answer)) => Err(no_answer(&answer)),
    }
}
