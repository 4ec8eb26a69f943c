//! What becomes of requests that do not go as they should, as the proxy is told it.

use watt_api::mesh;
use watt_core::plan::{Failure, Retries, Service, Traffic};

use super::millis;

pub(super) fn of(service: &Service) -> mesh::Traffic {
    let Traffic { retries } = &service.traffic;
    mesh::Traffic {
        total_timeout_ms: service.timeouts.total.map_or(0, millis),
        try_timeout_ms: service.timeouts.per_try.map_or(0, millis),
        retries: self::retries(retries),
    }
}

fn retries(retries: &Retries) -> mesh::Retries {
    let Retries { attempts, on, methods, backoff } = retries;
    mesh::Retries {
        attempts: *attempts,
        on: failures(on),
        methods: methods.clone(),
        backoff_ms: millis(*backoff),
    }
}

fn failures(on: &[Failure]) -> mesh::Failures {
    let status = |on: &Failure| match *on {
        Failure::Status(low, high) => Some((low, high)),
        Failure::Connect | Failure::Reset | Failure::Timeout => None,
    };
    mesh::Failures {
        connect: on.contains(&Failure::Connect),
        reset: on.contains(&Failure::Reset),
        timeout: on.contains(&Failure::Timeout),
        statuses: on.iter().filter_map(status).collect(),
    }
}
