//! What becomes of requests that do not go as they should, as the proxy is told it.

use std::num::NonZeroU32;

use watt_api::mesh;
use watt_core::plan::{Believed, Breaker, Bulkhead, Failure, Retries, Service, Traffic};

use super::millis;

pub(super) fn of(service: &Service) -> mesh::Traffic {
    let Traffic { retries, breaker, bulkhead } = &service.traffic;
    mesh::Traffic {
        total_timeout_ms: service.timeouts.total.map_or(0, millis),
        try_timeout_ms: service.timeouts.per_try.map_or(0, millis),
        retries: self::retries(retries),
        breaker: breaker.as_ref().map(self::breaker),
        bulkhead: bulkhead.as_ref().map(self::bulkhead),
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
        believes: match believes {
            Believed::Nobody => mesh::Believed::Nobody,
            Believed::Services => mesh::Believed::Services,
            Believed::Everybody => mesh::Believed::Everybody,
        },
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
