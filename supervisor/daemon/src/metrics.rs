//! What a scrape gets: figures of the application, its services and their workers, in the formats of Prometheus.
//!
//! Everything is put together from what `status` and `limits` say, so that there is one set of figures. Names follow
//! <https://prometheus.io/docs/practices/naming/>: `watt_`, base units, `_total` for what only grows. docs/metrics.md has the table,
//! which a test holds to this file.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, prometheus_text, text},
    metrics::{MetricType, exemplar::Exemplar},
    registry::{Registry, Unit},
};
use watt_api::{
    control::{Limits, Requests, Service, Status, Worker},
    mesh::{CacheCounts, EDGE_BOUNDS_US, EdgeCounts, EdgeOf},
};

use crate::{events, proxies::Edges, timestamp};

/// The format of a scrape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// The text format of Prometheus, 0.0.4.
    Text,
}

impl Format {
    /// What somebody gets who accepts this.
    pub(crate) fn accepted(accept: Option<&str>) -> Format {
        match accept {
            Some(accept) if accept.contains("application/openmetrics-text") => Format::OpenMetrics,
            _ => Format::Text,
        }
    }

    /// Its media type.
    pub(crate) const fn content_type(self) -> &'static str {
        match self {
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Format::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// One scrape as text.
///
/// # Errors
/// Of the encoder; there is none for what is written to memory.
pub(crate) fn render(families: Vec<Family>, format: Format) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("watt");
    registry.register_collector(Box::new(Scrape(families)));
    let mut out = String::new();
    match format {
        Format::OpenMetrics => text::encode(&mut out, &registry)?,
        Format::Text => prometheus_text::encode(&mut out, &registry)?,
    }
    Ok(out)
}

/// What is measured under one name.
#[derive(Debug)]
pub(crate) struct Family {
    /// Without `watt_`, unit and `_total`.
    pub(crate) name: &'static str,
    pub(crate) unit: Option<Unit>,
    pub(crate) kind: MetricType,
    pub(crate) help: &'static str,
    pub(crate) samples: Vec<(Labels, Value)>,
}

/// In the order in which they are written.
pub(crate) type Labels = Vec<(&'static str, String)>;

/// A figure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Value {
    /// What is now.
    Is(f64),
    /// How often.
    Count(u64),
    /// How much, in all.
    Sum(f64),
    /// How long requests took, by the bounds of edges.
    Times(EdgeCounts),
    /// Nothing but labels.
    Info,
}

#[derive(Debug)]
struct Scrape(Vec<Family>);

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        // Families that have nothing to say are left out, as the specification wants it.
        for family in self.0.iter().filter(|family| !family.samples.is_empty()) {
            let Family { name, unit, kind, help, samples } = family;
            let mut metric = encoder.encode_descriptor(name, help, unit.as_ref(), *kind)?;
            for (labels, value) in samples {
                match value {
                    Value::Info => metric.encode_info(labels)?,
                    value => write(metric.encode_family(labels)?, *value)?,
                }
            }
        }
        Ok(())
    }
}

fn write(mut metric: MetricEncoder<'_>, value: Value) -> fmt::Result {
    const NONE: Option<&Exemplar<NoLabelSet, f64>> = None;
    match value {
        Value::Is(value) => metric.encode_gauge(&value),
        Value::Count(value) => metric.encode_counter(&value, NONE),
        Value::Sum(value) => metric.encode_counter(&value, NONE),
        Value::Times(EdgeCounts { by_time, us, .. }) => {
            let bounds = EDGE_BOUNDS_US.iter().map(|bound| float(*bound) / 1e6).chain([f64::INFINITY]);
            let buckets: Vec<(f64, u64)> = bounds.zip(by_time).collect();
            metric.encode_histogram::<NoLabelSet>(float(us) / 1e6, by_time.iter().sum(), &buckets, None)
        }
        Value::Info => Ok(()),
    }
}

/// A family with the samples of what it is taken of.
fn family(
    name: &'static str,
    unit: Option<Unit>,
    help: &'static str,
    samples: impl IntoIterator<Item = (Labels, Value)>,
) -> Family {
    let samples: Vec<(Labels, Value)> = samples.into_iter().collect();
    let kind = match samples.first() {
        Some((_, Value::Count(_) | Value::Sum(_))) => MetricType::Counter,
        Some((_, Value::Info)) => MetricType::Info,
        Some((_, Value::Times(_))) => MetricType::Histogram,
        Some((_, Value::Is(_))) | None => MetricType::Gauge,
    };
    Family { name, unit, kind, help, samples }
}

/// Of the application.
///
/// Without `edges` the proxies have not told this daemon yet what they counted, and all that is theirs is left out: who adds up counters
/// would take it for a beginning at 0.
pub(crate) fn families(status: &Status, limits: &Limits, edges: Option<&Edges>) -> Vec<Family> {
    let mut families = of_application(status);
    if let Some(edges) = edges {
        families.extend(of_tls(status));
        families.extend(of_requests(&status.services));
        families.extend(of_edges(edges));
    }
    families.extend(of_services(&status.services));
    families.extend(of_workers(&status.services));
    families.extend(of_limits(limits));
    families
}

fn of_application(status: &Status) -> Vec<Family> {
    let supervisor = &status.supervisor;
    let once = |value| [(Labels::new(), value)];
    let labelled = |label, text: &str, value| (vec![(label, text.to_owned())], value);
    let build = vec![("app", status.app.clone()), ("version", status.version.clone())];
    let restarts = [("daemon", supervisor.daemon_restarts), ("mesh-proxy", supervisor.proxy_restarts)];
    let tls = status.tls.as_ref();
    let certificates = tls.into_iter().flat_map(|tls| &tls.certificates);
    let expiry = certificates.filter_map(|one| {
        Some((vec![("file", one.file.display().to_string())], Value::Is(seconds(&one.expires_at)?)))
    });
    vec![
        family("build", None, "The application's name and the version of watt", [(build, Value::Info)]),
        family(
            "start_time",
            Some(Unit::Seconds),
            "When the application was started, since the Unix epoch",
            seconds(&status.started_at).map(|at| (Labels::new(), Value::Is(at))),
        ),
        family(
            "config_load_time",
            Some(Unit::Seconds),
            "When the configuration that runs was read, since the Unix epoch",
            seconds(&status.loaded_at).map(|at| (Labels::new(), Value::Is(at))),
        ),
        family(
            "supervisor_restarts",
            None,
            "Deaths of a process of watt's own that was started anew",
            restarts.map(|(role, count)| labelled("role", role, Value::Count(count))),
        ),
        family(
            "supervisor_memory",
            Some(Unit::Bytes),
            "Memory of watt's own processes",
            once(Value::Is(float(supervisor.memory))),
        ),
        family(
            "tls_certificate_expiry_time",
            Some(Unit::Seconds),
            "When a certificate of the gateway expires, since the Unix epoch",
            expiry,
        ),
    ]
}

fn of_tls(status: &Status) -> Vec<Family> {
    let tls = status.tls.as_ref();
    let failed = tls.into_iter().flat_map(|tls| &tls.failed);
    let failed = failed.map(|(reason, count)| (vec![("reason", reason.clone())], Value::Count(*count)));
    vec![
        family(
            "tls_handshakes",
            None,
            "Connections to the gateway on which TLS was agreed upon",
            tls.map(|tls| (Labels::new(), Value::Count(tls.completed))),
        ),
        family(
            "tls_handshakes_failed",
            None,
            "Connections to the gateway that ended before that, by reason",
            failed,
        ),
    ]
}

/// A family with one sample for each service.
fn of_each(
    services: &[Service],
    name: &'static str,
    help: &'static str,
    value: impl Fn(&Requests) -> Value,
) -> Family {
    let samples = services.iter().map(|service| (of_service(service), value(&service.requests)));
    family(name, None, help, samples)
}

fn of_service(service: &Service) -> Labels {
    vec![("service", service.id.clone())]
}

fn of_requests(services: &[Service]) -> Vec<Family> {
    let each = |name, help, value: fn(&Requests) -> Value| of_each(services, name, help, value);
    let by = |label: &'static str, name, help, counts: fn(&Requests) -> Vec<(&'static str, u64)>| {
        let samples = services.iter().flat_map(|service| {
            let sample = |(value, count): (&str, u64)| {
                let mut labels = of_service(service);
                labels.push((label, value.to_owned()));
                (labels, Value::Count(count))
            };
            counts(&service.requests).into_iter().map(sample)
        });
        family(name, None, help, samples)
    };
    vec![
        each("requests", "Requests that were sent to a worker", |of| Value::Count(of.total)),
        each(
            "request_failures",
            "Requests that were answered with 5xx or lost, also those that no worker got, which `watt_requests_total` does not count",
            |of| Value::Count(of.failures),
        ),
        each("requests_in_flight", "Requests and tunnels at workers now", |of| {
            Value::Is(float(of.in_flight))
        }),
        each("requests_held", "Requests that wait for a worker now", |of| Value::Is(float(of.held))),
        each("request_retries", "Further tries of requests", |of| Value::Count(of.retries)),
        each("request_retries_denied", "Further tries that there was no budget for", |of| {
            Value::Count(of.retries_denied)
        }),
        each("requests_timed_out", "Requests that took longer than they may", |of| {
            Value::Count(of.timed_out)
        }),
        by("reason", "requests_denied", "Requests that did not pass a policy, by reason", |of| {
            let watt_api::mesh::Denied { address, cors, body, rate, credentials, role, rule, authority } =
                of.denied;
            vec![
                ("address", address),
                ("cors", cors),
                ("body", body),
                ("rate", rate),
                ("credentials", credentials),
                ("role", role),
                ("rule", rule),
                ("authority", authority),
            ]
        }),
        by("reason", "requests_refused", "Requests that a service had no room for, by reason", |of| {
            let refused = &of.refused;
            vec![
                ("breaker_open", refused.breaker_open),
                ("bulkhead_full", refused.bulkhead_full),
                ("queue_timeout", refused.queue_timeout),
                ("shed", refused.shed),
            ]
        }),
        each("breaker_opened", "How often a circuit breaker opened", |of| Value::Count(of.breaker_opened)),
        each("breaker_open", "Whether a circuit breaker is open", |of| {
            Value::Is(f64::from(u8::from(of.breaker_is_open)))
        }),
        each(
            "worker_ejections",
            "How often a worker got no more requests for a while, since it had failed",
            |of| Value::Count(of.ejections),
        ),
        each("workers_ejected", "Workers that get no requests now, since they had failed", |of| {
            Value::Is(float(of.ejected))
        }),
        by("result", "cache_requests", "Requests that the cache was asked for, by what came of it", |of| {
            let CacheCounts { hits, stale, validated, misses, stored: _, collapsed: _ } = of.cache;
            vec![("hit", hits), ("stale", stale), ("validated", validated), ("miss", misses)]
        }),
        each("cache_collapsed", "Of the hits, those that waited for another request to get it", |of| {
            Value::Count(of.cache.collapsed)
        }),
        each("cache_stored", "Responses that the cache stored", |of| Value::Count(of.cache.stored)),
    ]
}

/// The words for [`EdgeCounts::by_class`].
const CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

fn of_edges(edges: &Edges) -> Vec<Family> {
    let labels = |edge: &EdgeOf| {
        let EdgeOf { caller, service, route } = edge.clone();
        vec![("caller", caller), ("service", service), ("route", route)]
    };
    let by_class = edges.iter().flat_map(|(edge, counts)| {
        let seen = CLASSES.into_iter().zip(counts.by_class).filter(|(_, count)| *count > 0);
        seen.map(move |(class, count)| {
            let mut labels = labels(edge);
            labels.push(("code", class.to_owned()));
            (labels, Value::Count(count))
        })
    });
    let times = edges.iter().map(|(edge, counts)| (labels(edge), Value::Times(*counts)));
    vec![
        family(
            "edge_requests",
            None,
            "Requests by caller (a service, @gateway, @operator), service, route, and class of the status",
            by_class,
        ),
        family(
            "edge_request_duration",
            Some(Unit::Seconds),
            "How long requests took until all of the answer was passed on",
            times,
        ),
    ]
}

fn of_services(services: &[Service]) -> Vec<Family> {
    let each = |name, help, value: fn(&Service) -> f64| {
        family(
            name,
            None,
            help,
            services.iter().map(|service| (of_service(service), Value::Is(value(service)))),
        )
    };
    vec![
        each("service_workers_ready", "Workers that are ready", |service| f64::from(service.ready)),
        each("service_workers_wanted", "Workers that there ought to be", |service| f64::from(service.wanted)),
    ]
}

fn of_workers(services: &[Service]) -> Vec<Family> {
    let workers =
        || services.iter().flat_map(|service| one_of_each(service).map(move |worker| (service, worker)));
    let labels = |service: &Service, worker: &Worker| {
        let mut labels = of_service(service);
        labels.push(("worker", worker.index.to_string()));
        labels
    };
    let each = |name, unit, help, value: fn(&Worker) -> Option<Value>| {
        let samples =
            workers().filter_map(|(service, worker)| Some((labels(service, worker), value(worker)?)));
        family(name, unit, help, samples)
    };
    let state = workers().map(|(service, worker)| {
        let mut labels = labels(service, worker);
        labels.push(("state", events::state_name(worker.state).to_owned()));
        (labels, Value::Is(1.0))
    });
    vec![
        family("worker_state", None, "1 for the state that a worker is in", state),
        each("worker_restarts", None, "Starts of a worker after the first", |worker| {
            Some(Value::Count(worker.restarts))
        }),
        each(
            "worker_start_time",
            Some(Unit::Seconds),
            "When a worker's process was started, since the Unix epoch",
            |worker| seconds(worker.started_at.as_deref()?).map(Value::Is),
        ),
        each("worker_memory", Some(Unit::Bytes), "Memory that a worker uses", |worker| {
            worker.memory.map(|bytes| Value::Is(float(bytes)))
        }),
        each(
            "worker_cpu",
            Some(Unit::Seconds),
            "CPU time that a worker has used since it was started",
            |worker| worker.cpu_us.map(|us| Value::Sum(float(us) / 1e6)),
        ),
        each("worker_processes", None, "Processes and threads of a worker", |worker| {
            worker.pids.map(|pids| Value::Is(f64::from(pids)))
        }),
    ]
}

/// While a worker is replaced there are two of its number: the one that is ready, which may be either.
fn one_of_each(service: &Service) -> impl Iterator<Item = &Worker> {
    let mut by_index: BTreeMap<u16, &Worker> = BTreeMap::new();
    for worker in &service.workers {
        let known = by_index.entry(worker.index).or_insert(worker);
        if worker.state < known.state {
            *known = worker;
        }
    }
    by_index.into_values()
}

fn of_limits(limits: &Limits) -> Vec<Family> {
    let each = |name, unit, help, value: fn(&watt_api::control::Limited) -> Option<Value>| {
        let mut seen = BTreeSet::new();
        // Of a worker that is replaced there are two as well.
        let groups = limits.groups.iter().filter(|group| seen.insert((&group.service, group.worker)));
        let samples = groups.filter_map(|group| {
            // Empty is all of them together.
            let worker = group.worker.map(|worker| worker.to_string()).unwrap_or_default();
            let labels = vec![("service", group.service.clone().unwrap_or_default()), ("worker", worker)];
            Some((labels, value(group)?))
        });
        family(name, unit, help, samples)
    };
    vec![
        each(
            "limit_memory_peak",
            Some(Unit::Bytes),
            "The most memory that a group with limits used",
            |group| group.memory_peak.map(|bytes| Value::Is(float(bytes))),
        ),
        each(
            "limit_oom_kills",
            None,
            "Processes that were killed since there was no memory within a limit",
            |group| Some(Value::Count(group.hits.oom_kills)),
        ),
        each("limit_memory_high", None, "How often a group was slowed down by `memory_high`", |group| {
            Some(Value::Count(group.hits.memory_high))
        }),
        each("limit_pids_refused", None, "Processes that were refused by a limit", |group| {
            Some(Value::Count(group.hits.pids))
        }),
        each(
            "limit_cpu_throttled",
            Some(Unit::Seconds),
            "How long a group was held back by a limit of CPU time",
            |group| Some(Value::Sum(float(group.hits.cpu_us) / 1e6)),
        ),
    ]
}

/// Since the Unix epoch.
fn seconds(time: &str) -> Option<f64> {
    timestamp::parse_us(time).ok().map(|us| float(us) / 1e6)
}

/// Figures above 2^53 lose their last digits, which nobody misses in so large ones.
#[expect(clippy::cast_precision_loss, reason = "see above")]
fn float(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests;
