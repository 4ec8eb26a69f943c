//! What becomes of requests that do not go as they should, as the proxy is told it.

use std::num::NonZeroU32;

use watt_api::mesh;
use watt_core::plan::{
    Balance, Believed, Breaker, Bulkhead, Ejection, Failure, HashKey, Retries, Service, Traffic,
};

use super::millis;

pub(super) fn of(service: &Service) -> mesh::Traffic {
    let Traffic { retries, breaker, bulkhead, balance, ejection } = &*service.traffic;
    mesh::Traffic {
        total_timeout_ms: service.timeouts.total.map_or(0, millis),
        try_timeout_ms: service.timeouts.per_try.map_or(0, millis),
        retries: self::retries(retries),
        breaker: breaker.as_ref().map(self::breaker),
        bulkhead: bulkhead.as_ref().map(self::bulkhead),
        balance: self::balance(balance),
        ejection: ejection.as_ref().map(self::ejection),
    }
}

fn ejection(ejection: &Ejection) -> mesh::Ejection {
    let Ejection { failures, on, first, max } = ejection;
    mesh::Ejection {
        failures: *failures,
        on: self::failures(on),
        first_ms: millis(*first),
        max_ms: millis(*max),
    }
}

fn balance(balance: &Balance) -> mesh::Balance {
    match balance {
        Balance::TwoChoices => mesh::Balance::P2c,
        Balance::RoundRobin => mesh::Balance::RoundRobin,
        Balance::LeastLatency => mesh::Balance::LeastLatency,
        Balance::Hash(key) => mesh::Balance::Hash { key: hash_key(key) },
        Balance::Sticky(cookie) => mesh::Balance::Sticky { cookie: cookie.clone() },
    }
}

fn hash_key(key: &HashKey) -> mesh::HashKey {
    match key {
        HashKey::Address => mesh::HashKey::Address,
        HashKey::Path => mesh::HashKey::Path,
        HashKey::Header(name) => mesh::HashKey::Header { name: name.clone() },
        HashKey::Cookie(name) => mesh::HashKey::Cookie { name: name.clone() },
    }
}

fn breaker(breaker: &Breaker) -> mesh::Breaker {
    let Breaker { failures, ratio_percent, requests_min, window, open, probes, on } = breaker;
    mesh::Breaker {
        failures: failures.map_or(0, NonZeroU32::get),
        ratio_percent: *ratio_percent,
        requests_min: *requests_min,
        window_ms: millis(*window),
        open_ms: millis(*open),
        probes: *probes,
        on: self::failures(on),
    }
}

fn bulkhead(bulkhead: &Bulkhead) -> mesh::Bulkhead {
    let Bulkhead { in_flight_max, queue_max, queue_timeout, believes } = bulkhead;
    let number = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    mesh::Bulkhead {
        in_flight_max: number(*in_flight_max),
        queue_max: number(*queue_max),
        queue_timeout_ms: millis(*queue_timeout),
        believes: believed(*believes),
    }
}

pub(super) fn believed(believes: Believed) -> mesh::Believed {
    match believes {
        Believed::Nobody => mesh::Believed::Nobody,
        Believed::Services => mesh::Believed::Services,
        Believed::Everybody => mesh::Believed::Everybody,
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
