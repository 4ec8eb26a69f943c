//! Hooks of a service.

use std::{collections::BTreeMap, time::Duration};

use watt_core::{
    ServiceId,
    plan::{Hook, HookAct, HookPoint, Receiver, Webhook},
};

use super::{
    command,
    fields::{Field, Fields, Written},
    probes,
};
use crate::{
    keys::{HOOK, HOOK_RETRIES_MAX, HOOKS},
    report::Problem,
    scalar::{WebUrl, Whole, quote},
    source::Span,
    tree::Value,
};

/// How often a webhook is sent again that does not say it.
const RETRIES: &str = "3";

/// Hooks, and the services that get webhooks, with their places.
#[derive(Debug, Default)]
pub(super) struct Hooks {
    pub(super) hooks: BTreeMap<HookPoint, Hook>,
    pub(super) receivers: Vec<(ServiceId, Span)>,
}

/// Decodes `hooks`.
pub(super) fn decode(f: &mut Fields<'_, '_, '_>) -> Hooks {
    let field = f.field("hooks");
    let mut inner = Fields::open(f.d, &HOOKS, field, None);
    let mut hooks = Hooks::default();
    for point in HookPoint::ALL {
        if let Some(field) = inner.field(point.name())
            && let Some((hook, url_at)) = hook(&mut inner, point, field)
        {
            if let HookAct::Webhook(Webhook { receiver: Receiver::Service(service), .. }) = &hook.act {
                hooks.receivers.push((service.clone(), url_at.unwrap_or(field.key_span)));
            }
            hooks.hooks.insert(point, hook);
        }
    }
    let shown = inner.close();
    f.show("hooks", shown);
    hooks
}

/// A hook, and where its URL is.
fn hook(f: &mut Fields<'_, '_, '_>, point: HookPoint, field: Field<'_>) -> Option<(Hook, Option<Span>)> {
    // A command alone is a hook with the default timeout.
    let (alone, table) = match &field.node.value {
        Value::Scalar { text, .. } if WebUrl::is_meant(text) => {
            let problem = Problem::new(field.node.span, format!("{} is no program", quote(text)));
            f.d.problem(problem.hint(format!("write `{}: {{ url: … }}`", point.name())));
            return None;
        }
        Value::Map(_) => (None, Some(field)),
        Value::Null | Value::Scalar { .. } | Value::List(_) => (Some(field), None),
    };
    let mut inner = Fields::open(f.d, &HOOK, table, None);
    let of_webhook = [inner.field("headers"), inner.field("retries")];
    let command = alone.or(inner.field("command"));
    let url = inner.field("url");
    let act = match (command, url) {
        (Some(command), None) => {
            for field in of_webhook.into_iter().flatten() {
                let problem = Problem::new(field.key_span, "this has no effect on a command");
                inner.d.problem(problem.hint("remove it; it is for a `url`"));
            }
            let command = command::decode(&mut inner, "command", command, &[]);
            (!command.is_empty()).then_some((HookAct::Command(command), None))
        }
        (None, Some(url)) => webhook(&mut inner).map(|webhook| (webhook, Some(url.at()))),
        (Some(command), Some(url)) => {
            let problem = Problem::new(url.key_span, "`command` and `url` in one hook");
            let problem = problem.related(command.key_span, "`command` is here");
            inner.d.problem(problem.hint("keep one of them"));
            None
        }
        (None, None) => {
            let problem = Problem::new(field.key_span, "a hook that does nothing");
            inner
                .d
                .problem(problem.hint("write its `command`, for example `command: [./flush]`, or a `url`"));
            None
        }
    };
    let timeout: Written<Duration> = inner.value("timeout");
    if let (true, Some(span)) = (timeout.value.is_zero(), timeout.span) {
        let problem = Problem::new(span, "in no time, no hook succeeds");
        inner.d.problem(problem.hint("write a longer time, or remove it"));
    }
    let shown = inner.close();
    f.show(point.name(), shown);
    act.map(|(act, url_at)| (Hook { act, timeout: timeout.value }, url_at))
}

fn webhook(f: &mut Fields<'_, '_, '_>) -> Option<HookAct> {
    let url: Option<Written<WebUrl>> = f.scalar("url");
    let headers = probes::headers(f);
    let retries: Option<Written<Whole<0, HOOK_RETRIES_MAX>>> = f.scalar("retries");
    let Whole(retries) = match retries {
        Some(written) => written.value,
        None => probes::default(f, "retries", RETRIES),
    };
    let WebUrl { receiver, path } = url?.value;
    let retries = u32::try_from(retries).unwrap_or(u32::MAX);
    Some(HookAct::Webhook(Webhook { receiver, path, headers, retries }))
}
